//! Shared memory in place of a socket: what is configured, agreed and counted.

use crate::memory::MemoryBudget;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Use of shared memory between a proxy and an agent on one machine.
///
/// Two tollgates on Linux that are connected by a Unix socket can exchange frames through shared
/// memory: both sides have to allow it. The socket then only wakes the peer and shows whether it is
/// alive. If either side cannot or does not want to, frames go through the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SharedMemory {
    /// Frames always go through the socket.
    Off,
    /// Waits for the peer without sleeping, for up to 100 µs, while an answer or another event is
    /// expected, where that has turned out to help: not if both sides share a processor, and rarely
    /// after it was in vain.
    Adaptive,
    /// Waits without ever sleeping: a pool while calls are pending, an agent's server at all times.
    /// For a side that has a processor of its own.
    BusyPoll,
}

/// Settings of shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SharedMemoryConfig {
    pub(crate) mode: SharedMemory,
    /// Number of bytes of the ring that this side writes.
    pub(crate) bytes: usize,
}

/// Size of the ring from a proxy to an agent, in bytes.
pub(crate) const BYTES_TO_AGENT: usize = 256 * 1024;

/// Size of the ring from an agent to a proxy, in bytes.
pub(crate) const BYTES_TO_PROXY: usize = 64 * 1024;

/// Terms that both sides have agreed to in the handshake, with what this side needs for them.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) side: Side,
    pub(crate) mode: SharedMemory,
    pub(crate) own_bytes: usize,
    pub(crate) peer_bytes: usize,
    /// Charged for both rings.
    pub(crate) memory: MemoryBudget,
    pub(crate) counters: Arc<LinkCounters>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Proxy,
    Agent,
}

/// Reason why the frames of a connection go through its socket and not through shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SharedMemoryRefusal {
    /// This side does not allow it: see [`SharedMemory::Off`].
    TurnedOff,
    /// The transport has no shared memory: it is no Unix socket, or the system is not Linux.
    NotSupported,
    /// The peer does not allow it or does not know it, or had no file descriptor free.
    NotAccepted,
    /// Too much of the memory limit is in use on this side.
    MemoryLimit,
    /// The system did not create or map the memory.
    System,
    /// No file descriptor was free in this process or in the system.
    OpenFiles,
    /// The system did not send this side's descriptor: a sandbox forbids it, or too many are under
    /// way.
    NotSent,
    /// The peer's descriptor did not arrive: the system forbids it, or the peer sent none.
    NoDescriptor,
    /// The peer has refused it after the handshake: it could not create, map or send the memory, or
    /// too much of its memory limit is in use.
    ByPeer,
}

impl SharedMemoryRefusal {
    /// Returns whether something failed, rather than one side not allowing or not knowing it.
    pub(super) fn is_failure(self) -> bool {
        match self {
            Self::TurnedOff | Self::NotSupported | Self::NotAccepted => false,
            Self::MemoryLimit
            | Self::System
            | Self::OpenFiles
            | Self::NotSent
            | Self::NoDescriptor
            | Self::ByPeer => true,
        }
    }
}

impl fmt::Display for SharedMemoryRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TurnedOff => "it is turned off on this side",
            Self::NotSupported => "it needs a Unix socket and Linux",
            Self::NotAccepted => "the peer does not allow or know it",
            Self::MemoryLimit => "too much of this side's memory limit is in use",
            Self::System => "the system did not create or map the memory",
            Self::OpenFiles => "no file descriptor was free on this side",
            Self::NotSent => "the system did not send this side's descriptor",
            Self::NoDescriptor => "the peer's descriptor did not arrive",
            Self::ByPeer => {
                "the peer could not create, map or send the memory, or has too little left"
            }
        })
    }
}

/// The kind of link that carries a connection's frames.
#[derive(Debug, Clone)]
pub(crate) enum LinkKind {
    /// The transport itself, for this reason.
    Transport(SharedMemoryRefusal),
    SharedMemory(Arc<LinkCounters>),
}

/// Counters of the connections through shared memory to one agent.
#[derive(Debug, Default)]
pub(crate) struct RingCounters {
    /// Number of times that a sleeping peer was woken.
    pub(crate) doorbells: AtomicU64,
    /// Number of times that this side went to sleep.
    pub(crate) sleeps: AtomicU64,
    /// Number of times that this side waited without sleeping, and nothing came.
    pub(crate) vain_spins: AtomicU64,
}

/// Where a link counts: nowhere before its agent is known, and on an agent's side.
#[derive(Debug, Default)]
pub(crate) struct LinkCounters(OnceLock<Arc<RingCounters>>);

impl LinkCounters {
    /// Counts for this agent from now on.
    pub(super) fn belong_to(&self, agent: &Arc<RingCounters>) {
        // A link belongs to one agent.
        let _ = self.0.set(Arc::clone(agent));
    }

    pub(crate) fn note(&self, counter: impl FnOnce(&RingCounters) -> &AtomicU64) {
        if let Some(counters) = self.0.get() {
            counter(counters).fetch_add(1, Ordering::Relaxed);
        }
    }
}
