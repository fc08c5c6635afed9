//! An agent's connections at one moment, grouped by the runtimes that serve them.

use crate::connection::{Connection, Origin, RuntimeId};
use crossbeam_utils::CachePadded;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// All connections of an agent, immutable except for the cursors.
///
/// Invariants:
/// * The connections of one runtime are contiguous, so that each runtime's share is a slice and a
///   choice within it allocates nothing.
/// * The groups cover all connections, in the same order, and no two groups are of the same
///   runtime.
///
/// A set is never changed; a changed agent gets a new one, whose cursors start at zero.
#[derive(Debug, Default)]
pub(super) struct ConnectionSet {
    connections: Box<[Arc<Connection>]>,
    groups: Box<[RuntimeGroup]>,
    /// Set if any connection prefers batching: see [`Connection::prefers_batching`].
    prefers_batching: bool,
    /// Set if sending is cheap on any connection: see [`Connection::is_awake`].
    has_cheap: bool,
    /// Incremented for each choice among all connections, to take them in turn. It may wrap.
    cursor: CachePadded<AtomicUsize>,
}

/// Connections that one runtime serves.
#[derive(Debug)]
struct RuntimeGroup {
    /// `None` for connections that were made outside of a runtime.
    runtime: Option<RuntimeId>,
    /// Range of the group in `ConnectionSet::connections`; not empty.
    members: Range<usize>,
    /// Number of members that are forward connections.
    forward: usize,
    /// Cursor of this group. Each group has its own, on a cache line of its own, so that runtimes
    /// do not contend for it.
    cursor: CachePadded<AtomicUsize>,
}

/// Connections to choose from: all of an agent, or those of one runtime.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group<'r> {
    pub(super) connections: &'r [Arc<Connection>],
    /// Set if concurrent calls are better sent together than over several connections.
    pub(super) prefers_batching: bool,
    /// Set if calls are better made on a connection whose agent is awake.
    pub(super) has_cheap: bool,
    pub(super) cursor: &'r AtomicUsize,
}

impl ConnectionSet {
    pub(super) fn connections(&self) -> &[Arc<Connection>] {
        &self.connections
    }

    pub(super) fn all(&self) -> Group<'_> {
        Group {
            connections: &self.connections,
            prefers_batching: self.prefers_batching,
            has_cheap: self.has_cheap,
            cursor: &self.cursor,
        }
    }

    /// Returns the connections that a runtime serves, if there are any.
    pub(super) fn served_by(&self, runtime: RuntimeId) -> Option<Group<'_>> {
        let group = self.group(runtime)?;
        Some(Group {
            connections: &self.connections[group.members.clone()],
            prefers_batching: self.prefers_batching,
            has_cheap: self.has_cheap,
            cursor: &group.cursor,
        })
    }

    /// Returns the number of forward connections that a runtime serves.
    pub(super) fn forward_at(&self, runtime: RuntimeId) -> usize {
        self.group(runtime).map_or(0, |group| group.forward)
    }

    fn group(&self, runtime: RuntimeId) -> Option<&RuntimeGroup> {
        let mut groups = self.groups.iter();
        groups.find(|group| group.runtime == Some(runtime))
    }
}

impl From<Vec<Arc<Connection>>> for ConnectionSet {
    fn from(connections: Vec<Arc<Connection>>) -> Self {
        let prefers_batching = connections
            .iter()
            .any(|connection| connection.outbound.link.prefers_batching());
        let has_cheap = connections
            .iter()
            .any(|connection| connection.outbound.is_cheap);
        let mut by_runtime: Vec<(Option<RuntimeId>, Vec<Arc<Connection>>)> = Vec::new();
        for connection in connections {
            let runtime = connection.runtime;
            match by_runtime.iter_mut().find(|(known, _)| *known == runtime) {
                Some((_, members)) => members.push(connection),
                None => by_runtime.push((runtime, vec![connection])),
            }
        }
        let mut begin = 0;
        let groups = by_runtime.iter().map(|(runtime, members)| {
            let end = begin + members.len();
            RuntimeGroup {
                runtime: *runtime,
                members: std::mem::replace(&mut begin, end)..end,
                forward: members.iter().filter(is_forward).count(),
                cursor: CachePadded::default(),
            }
        });
        Self {
            groups: groups.collect(),
            prefers_batching,
            has_cheap,
            connections: by_runtime
                .into_iter()
                .flat_map(|(_, members)| members)
                .collect(),
            cursor: CachePadded::default(),
        }
    }
}

fn is_forward(connection: &&Arc<Connection>) -> bool {
    connection.origin == Origin::Forward
}
