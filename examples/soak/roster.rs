//! The agents of a run: for each link a steady one and a victim.

use crate::links::{LINKS, Link};

#[derive(Debug, Clone)]
pub(crate) struct Agent {
    /// Place in the roster.
    pub(crate) index: usize,
    pub(crate) id: String,
    pub(crate) link: Link,
    pub(crate) role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// None of its calls may fail. Only its clock jumps, and its log has no space from the start.
    Steady,
    /// Suffers the faults in `faults.rs`.
    Victim,
    /// Violates the protocol: it answers late, twice, to unknown calls, with garbage, or closes
    /// the connection.
    Faulty,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Victim => "victim",
            Self::Faulty => "faulty",
        }
    }
}

pub(crate) fn roster() -> Vec<Agent> {
    let pairs = LINKS
        .iter()
        .flat_map(|link| [(*link, Role::Steady), (*link, Role::Victim)]);
    pairs
        .chain([(LINKS[0], Role::Faulty)])
        .enumerate()
        .map(|(index, (link, role))| Agent {
            index,
            id: format!("{}-{}", link.name, role.name()),
            link,
            role,
        })
        .collect()
}
