//! Limits of the server that sessions of other protocols keep to.

use super::super::session_handle::CONNECTION_SIZE;
use super::other_protocol::OtherSession;
use crate::debug_fields::debug_fields;
use crate::memory::{MemoryAccount, MemoryCharge, SharedAccount};
use std::sync::Arc;
use std::time::Duration;

impl OtherSession {
    /// Returns how many events of this connection may be in the handler at once. The session leaves
    /// further ones unread.
    pub fn max_concurrent(&self) -> usize {
        self.max_concurrent
    }

    /// Returns the time in which an incomplete message has to make progress.
    pub fn frame_timeout(&self) -> Duration {
        self.frame_timeout
    }

    /// Returns a charge of nothing to the server's
    /// [`max_memory`](crate::AgentServerBuilder::max_memory), for a part of what the session holds.
    ///
    /// While the limit is exceeded, the sessions that hold most have to end: see
    /// [`is_over_memory`](Self::is_over_memory). A session that holds all of its memory in one
    /// place opens [an account](Self::open_account) instead.
    pub fn memory_charge(&self) -> MemoryCharge {
        self.memory().open_charge()
    }

    /// Returns whether the session has to end at once, since the limit is exceeded and the charges
    /// of this session are the largest. The task that polls [`leaving`](Self::leaving) is woken
    /// then.
    pub fn is_over_memory(&self) -> bool {
        self.memory().is_ended()
    }

    fn memory(&self) -> &Arc<SharedAccount> {
        self.memory.get_or_init(|| {
            let account = self.handle.open_account();
            SharedAccount::new(account, CONNECTION_SIZE)
        })
    }

    /// Opens the account of the memory that the session holds, which counts against the server's
    /// limit. A session opens one.
    pub fn open_account(&self) -> SessionMemory {
        SessionMemory(self.handle.open_account())
    }

    /// Waits until the session has to end: because the server stops, or because the connection is
    /// silent and another one needs its place. It then finishes what it has begun.
    ///
    /// The task that polls this is also woken if the memory that the session holds is needed, see
    /// [`SessionMemory::is_needed`] and [`is_over_memory`](Self::is_over_memory). One task at a
    /// time may wait.
    pub async fn leaving(&self) {
        self.handle.drain_requested().await;
    }
}

/// The memory that a session of another protocol holds, within the server's limit.
pub struct SessionMemory(MemoryAccount);

impl SessionMemory {
    /// Sets how much the session holds for messages and answers, in bytes.
    pub fn set(&mut self, bytes: usize) {
        self.0.set(CONNECTION_SIZE + bytes);
    }

    /// Returns whether the session has to read nothing before it has answered something, since it
    /// holds more than its share of memory that has become scarce.
    pub fn is_slowed(&self) -> bool {
        self.0.is_slowed()
    }

    /// Returns whether the session has to end at once, since the limit is exceeded and this session
    /// holds most.
    pub fn is_needed(&self) -> bool {
        self.0.is_ended()
    }
}

debug_fields!(SessionMemory, |self| is_needed: self.is_needed());
