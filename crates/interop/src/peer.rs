use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use tokio::process::Command;
use tollgate::Encoding;

/// Overrides the folder in which the peers are looked for.
const FOLDER_VARIABLE: &str = "TOLLGATE_PEERS";

/// Where `scripts/interop-peers` puts them.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/peers");

/// A version of the published crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 0.6.11
    V0_6_11,
    /// 0.6.45
    V0_6_45,
}

impl Version {
    /// The versions that there is a peer for, newest first.
    pub const ALL: [Self; 2] = [Self::V0_6_45, Self::V0_6_11];

    /// The version as it is written, such as `0.6.45`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_6_11 => "0.6.11",
            Self::V0_6_45 => "0.6.45",
        }
    }
}

impl Display for Version {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A helper program built on one version of the published crate.
#[derive(Debug, Clone)]
pub struct Peer {
    version: Version,
    program: PathBuf,
}

impl Peer {
    /// Finds the build whose best encoding is `best`. A build for MessagePack knows JSON as well; one
    /// for JSON knows nothing else.
    ///
    /// # Panics
    ///
    /// If it has not been built; the message tells how.
    pub fn find(version: Version, best: Encoding) -> Self {
        let folder = std::env::var_os(FOLDER_VARIABLE).map_or_else(|| FOLDER.into(), PathBuf::from);
        let program = folder.join(file_name(version, best));
        assert!(
            program.is_file(),
            "there is no peer at {}: build it with `{}`, or name the folder it is in with {FOLDER_VARIABLE}",
            program.display(),
            build_command(version),
        );
        Self { version, program }
    }

    /// The version of the published crate that it is built on.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The name that its agent gives itself.
    pub fn name(&self) -> String {
        format!("peer-{}", self.version.as_str().replace('.', "-"))
    }

    /// A command that runs it and ends it when the child is dropped.
    pub(crate) fn command(&self, role: &str, flag: &str, socket: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(role).arg(flag).arg(socket).kill_on_drop(true);
        command
    }
}

fn file_name(version: Version, best: Encoding) -> String {
    let suffix = match best {
        Encoding::MessagePack => "",
        Encoding::Json => "-json",
        other => panic!("there is no build for {other}"),
    };
    format!("peer-{}{suffix}", version.as_str().replace('.', "-"))
}

const fn build_command(version: Version) -> &'static str {
    match version {
        Version::V0_6_45 => "scripts/interop-peers",
        Version::V0_6_11 => "scripts/interop-peers --all",
    }
}
