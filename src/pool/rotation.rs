//! An agent's connections at one moment, by the runtimes that serve them.

use crate::connection::{Connection, Home, Origin};
use crossbeam_utils::CachePadded;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// All connections of an agent.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    /// Invariant: those of one runtime stand side by side.
    connections: Box<[Arc<Connection>]>,
    households: Box<[Household]>,
    /// See [`Connection::is_costly`].
    is_costly: bool,
    /// Counts up with each call, for taking connections in turn.
    turn: CachePadded<AtomicUsize>,
}

/// The connections that one runtime serves.
#[derive(Debug)]
struct Household {
    home: Option<Home>,
    members: Range<usize>,
    /// Members that the pool has made.
    forward: usize,
    /// As for the whole rotation, so that runtimes do not get in each other's way.
    turn: CachePadded<AtomicUsize>,
}

/// Connections to choose among.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group<'r> {
    pub(super) connections: &'r [Arc<Connection>],
    /// Whether calls of one moment had better go together.
    pub(super) is_costly: bool,
    pub(super) turn: &'r AtomicUsize,
}

impl Rotation {
    pub(super) fn connections(&self) -> &[Arc<Connection>] {
        &self.connections
    }

    pub(super) fn all(&self) -> Group<'_> {
        Group {
            connections: &self.connections,
            is_costly: self.is_costly,
            turn: &self.turn,
        }
    }

    /// The connections that a runtime serves, if there are any.
    pub(super) fn served_by(&self, home: Home) -> Option<Group<'_>> {
        let household = self.household(home)?;
        Some(Group {
            connections: &self.connections[household.members.clone()],
            is_costly: self.is_costly,
            turn: &household.turn,
        })
    }

    /// How many connections that a runtime serves the pool has made.
    pub(super) fn forward_at(&self, home: Home) -> usize {
        self.household(home)
            .map_or(0, |household| household.forward)
    }

    fn household(&self, home: Home) -> Option<&Household> {
        let mut households = self.households.iter();
        households.find(|household| household.home == Some(home))
    }
}

impl From<Vec<Arc<Connection>>> for Rotation {
    fn from(connections: Vec<Arc<Connection>>) -> Self {
        let is_costly = connections.iter().any(|connection| connection.is_costly());
        let mut by_home: Vec<(Option<Home>, Vec<Arc<Connection>>)> = Vec::new();
        for connection in connections {
            let home = connection.home();
            match by_home.iter_mut().find(|(known, _)| *known == home) {
                Some((_, members)) => members.push(connection),
                None => by_home.push((home, vec![connection])),
            }
        }
        let mut begin = 0;
        let households = by_home.iter().map(|(home, members)| {
            let end = begin + members.len();
            Household {
                home: *home,
                members: std::mem::replace(&mut begin, end)..end,
                forward: members.iter().filter(is_forward).count(),
                turn: CachePadded::default(),
            }
        });
        Self {
            households: households.collect(),
            is_costly,
            connections: by_home
                .into_iter()
                .flat_map(|(_, members)| members)
                .collect(),
            turn: CachePadded::default(),
        }
    }
}

fn is_forward(connection: &&Arc<Connection>) -> bool {
    connection.origin() == Origin::Forward
}
