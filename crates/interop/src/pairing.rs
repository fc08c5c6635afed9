use crate::peer::{Peer, Version};
use std::fmt::{self, Display, Formatter};
use tollgate::Encoding::{self, Json, MessagePack};

/// Selects the versions to test against: `all`, or a list separated by commas.
const VERSIONS_VARIABLE: &str = "TOLLGATE_PEER_VERSIONS";

/// Version and encodings with which tollgate and a peer connect.
#[derive(Debug, Clone, Copy)]
pub struct Pairing {
    /// The peer's version of `zentinel-agent-protocol`.
    pub version: Version,
    /// The preferred encoding of the peer's build.
    pub build: Encoding,
    /// The encodings that tollgate offers or accepts.
    pub ours: &'static [Encoding],
    /// The encoding that the two negotiate.
    pub agreed: Encoding,
}

/// All pairings. MessagePack works with one side of 0.6.11, but not between two.
const EVERY_PAIRING: [Pairing; 9] = [
    Pairing {
        version: Version::V0_6_54,
        build: MessagePack,
        ours: &[MessagePack, Json],
        agreed: MessagePack,
    },
    Pairing {
        version: Version::V0_6_54,
        build: MessagePack,
        ours: &[Json],
        agreed: Json,
    },
    Pairing {
        version: Version::V0_6_54,
        build: Json,
        ours: &[MessagePack, Json],
        agreed: Json,
    },
    Pairing {
        version: Version::V0_6_45,
        build: MessagePack,
        ours: &[MessagePack, Json],
        agreed: MessagePack,
    },
    Pairing {
        version: Version::V0_6_45,
        build: MessagePack,
        ours: &[Json],
        agreed: Json,
    },
    Pairing {
        version: Version::V0_6_45,
        build: Json,
        ours: &[MessagePack, Json],
        agreed: Json,
    },
    Pairing {
        version: Version::V0_6_11,
        build: MessagePack,
        ours: &[MessagePack, Json],
        agreed: MessagePack,
    },
    Pairing {
        version: Version::V0_6_11,
        build: MessagePack,
        ours: &[Json],
        agreed: Json,
    },
    Pairing {
        version: Version::V0_6_11,
        build: Json,
        ours: &[MessagePack, Json],
        agreed: Json,
    },
];

/// Returns the pairings of the versions that `TOLLGATE_PEER_VERSIONS` selects, [`Version::DEFAULT`]
/// otherwise.
///
/// # Panics
///
/// If there is no peer for a selected version.
pub fn pairings() -> impl Iterator<Item = Pairing> {
    let versions = selected_versions();
    EVERY_PAIRING
        .into_iter()
        .filter(move |pairing| versions.contains(&pairing.version))
        .inspect(|pairing| eprintln!("{pairing}"))
}

/// Returns the versions that `TOLLGATE_PEER_VERSIONS` selects, [`Version::DEFAULT`]
/// otherwise.
///
/// # Panics
///
/// If there is no peer for a selected version.
pub fn selected_versions() -> Vec<Version> {
    let selected = std::env::var(VERSIONS_VARIABLE).unwrap_or_default();
    versions(&selected)
}

fn versions(selected: &str) -> Vec<Version> {
    match selected {
        "" => Version::DEFAULT.to_vec(),
        "all" => Version::ALL.to_vec(),
        list => list.split(',').map(version).collect(),
    }
}

fn version(name: &str) -> Version {
    Version::ALL
        .into_iter()
        .find(|version| version.as_str() == name)
        .unwrap_or_else(|| panic!("{VERSIONS_VARIABLE}: there is no peer for '{name}'"))
}

impl Pairing {
    /// Returns the peer of this pairing.
    pub fn peer(&self) -> Peer {
        Peer::find(self.version, self.build)
    }
}

impl Display for Pairing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} built with {}, tollgate with",
            self.version, self.build
        )?;
        self.ours.iter().try_for_each(|ours| write!(f, " {ours}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_selected_by_name() {
        assert_eq!(versions(""), Version::DEFAULT);
        assert_eq!(versions("all"), Version::ALL);
        assert_eq!(versions("0.6.11"), [Version::V0_6_11]);
        assert_eq!(versions("0.6.54,0.6.45,0.6.11,extension 1"), Version::ALL);
    }

    #[test]
    #[should_panic(expected = "there is no peer for '0.7'")]
    fn a_version_without_a_peer_is_named() {
        versions("0.7");
    }
}
