use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use tokio::process::Command;
use tollgate::Encoding;

/// Overrides the folder of the peers.
const FOLDER_VARIABLE: &str = "TOLLGATE_PEERS";

/// Folder to which `scripts/interop-peers` writes the peers.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/peers");

/// Version of `zentinel-agent-protocol` or of tollgate that a peer is based on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// tollgate with version 1 of its protocol extension, from the history of this repository, with
    /// the API of `zentinel-agent-protocol`.
    Extension1,
    /// 0.6.11
    V0_6_11,
    /// 0.6.45
    V0_6_45,
    /// 0.6.54
    V0_6_54,
}

impl Version {
    /// All versions with a peer.
    pub const ALL: [Self; 4] = [
        Self::V0_6_54,
        Self::V0_6_45,
        Self::V0_6_11,
        Self::Extension1,
    ];

    /// The versions that tests run against unless others are selected.
    pub const DEFAULT: [Self; 1] = [Self::V0_6_54];

    /// Returns the version as text, such as `0.6.45`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Extension1 => "extension 1",
            Self::V0_6_11 => "0.6.11",
            Self::V0_6_45 => "0.6.45",
            Self::V0_6_54 => "0.6.54",
        }
    }

    /// Returns whether its proxies give agents settings when they connect, and its agents report
    /// settings to their handler over gRPC.
    pub const fn has_settings(self) -> bool {
        matches!(self, Self::V0_6_54 | Self::Extension1)
    }

    /// Returns whether it is tollgate.
    pub const fn is_tollgate(self) -> bool {
        matches!(self, Self::Extension1)
    }

    /// Returns the version of the peer's package.
    pub(crate) const fn of_package(self) -> &'static str {
        match self {
            Self::Extension1 => "0.1.0",
            _ => self.as_str(),
        }
    }
}

impl Display for Version {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Helper program based on one version of `zentinel-agent-protocol` or tollgate.
#[derive(Debug, Clone)]
pub struct Peer {
    version: Version,
    program: PathBuf,
}

impl Peer {
    /// Finds the build whose preferred encoding is `best`. Builds for MessagePack support JSON as
    /// well; builds for JSON support nothing else. tollgate has one build, which supports all.
    ///
    /// # Panics
    ///
    /// If the peer is not built. The message explains how to build it.
    pub fn find(version: Version, best: Encoding) -> Self {
        let folder = std::env::var_os(FOLDER_VARIABLE).map_or_else(|| FOLDER.into(), PathBuf::from);
        let program = folder.join(file_name(version, best));
        assert!(
            program.is_file(),
            "there is no peer at {}: build it with `{}`, or set {FOLDER_VARIABLE} to its folder",
            program.display(),
            build_command(version),
        );
        Self { version, program }
    }

    /// Returns what the peer is based on.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Returns the name of the peer's agent.
    pub fn name(&self) -> String {
        program_name(self.version)
    }

    /// Returns a command that runs the peer and kills it when the child is dropped.
    pub(crate) fn command(&self, role: &str, flag: &str, socket: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(role).arg(flag).arg(socket).kill_on_drop(true);
        command
    }
}

fn file_name(version: Version, best: Encoding) -> String {
    let suffix = match best {
        _ if version.is_tollgate() => "",
        Encoding::MessagePack => "",
        Encoding::Json => "-json",
        other => panic!("there is no build for {other}"),
    };
    format!("{}{suffix}", program_name(version))
}

fn program_name(version: Version) -> String {
    format!("peer-{}", version.as_str().replace(['.', ' '], "-"))
}

const fn build_command(version: Version) -> &'static str {
    match version {
        Version::V0_6_54 => "scripts/interop-peers",
        Version::V0_6_45 | Version::V0_6_11 | Version::Extension1 => "scripts/interop-peers --all",
    }
}
