//! Counters of HTTP messages that a proxy did not forward.

use super::calls::counts;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

counts! {
    /// Numbers of HTTP messages that the `Transaction`s of a pool did not forward, by reason. A
    /// transaction counts once, by the reason that came first.
    RejectionCounts of RejectionKind {
        /// An agent decided against the message.
        denied = Denied,
        /// A call to an agent that fails closed failed.
        agent_failed = AgentFailed,
        /// An agent asked for a change that is not permitted or comes too late, or did not decide
        /// though it had seen everything.
        agent_fault = AgentFault,
        /// Requests with no host, several, or an invalid one.
        invalid_host = InvalidHost,
        /// Requests whose end is ambiguous.
        ambiguous_framing = AmbiguousFraming,
        /// Requests with an invalid target or `connection` header.
        invalid_head = InvalidHead,
        /// Requests of a trusted proxy that did not name its client.
        invalid_client_address = InvalidClientAddress,
        /// Requests for WebSocket connections, which are not forwarded.
        websocket_refused = WebSocketRefused,
        /// Requests whose body exceeds what may be held or decoded.
        request_too_large = RequestTooLarge,
        /// Requests whose body did not arrive in time.
        request_timed_out = RequestTimedOut,
        /// Requests whose body has a coding that agents cannot look into, or is not valid in it.
        request_coding = RequestCoding,
        /// Responses with an ambiguous end, or a protocol that the upstream was not asked for.
        response_framing = ResponseFraming,
        /// Responses whose body exceeds what may be held or decoded.
        response_too_large = ResponseTooLarge,
        /// Responses whose body has a coding that agents cannot look into, or is not valid in it.
        response_coding = ResponseCoding,
        /// Bodies for which the memory limit left no room.
        over_memory = OverMemory,
    }
}

/// Counters of rejections of one pool.
#[derive(Debug, Default)]
pub(crate) struct RejectionCounters([AtomicU64; RejectionKind::COUNT]);

impl RejectionCounters {
    pub(crate) fn note(&self, kind: RejectionKind) {
        self.0[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counts(&self) -> RejectionCounts {
        RejectionCounts::read(&self.0)
    }
}

impl RejectionCounts {
    /// Returns the counts with the reasons that label them in exports.
    pub(super) fn by_reason(&self) -> [(&'static str, u64); RejectionKind::COUNT] {
        macro_rules! labelled {
            ($($reason:ident),+) => { [$((stringify!($reason), self.$reason)),+] };
        }
        labelled!(
            denied,
            agent_failed,
            agent_fault,
            invalid_host,
            ambiguous_framing,
            invalid_head,
            invalid_client_address,
            websocket_refused,
            request_too_large,
            request_timed_out,
            request_coding,
            response_framing,
            response_too_large,
            response_coding,
            over_memory
        )
    }
}
