//! Counters of faults on an agent's connections.

use super::calls::counts;
use crate::log::log_line;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

counts! {
    /// Numbers of faults on an agent's connections that do not belong to a single call.
    FaultCounts of Fault {
        /// Answers that arrived after their call had timed out or was dropped.
        late_answers = LateAnswer,
        /// Answers that match no call: to events that were never sent, or second answers.
        unmatched_answers = UnmatchedAnswer,
        /// Answers that could not be decoded.
        undecodable_answers = UndecodableAnswer,
        /// Health reports, flow control and other messages that could not be decoded.
        undecodable_messages = UndecodableMessage,
        /// Messages of an unknown type, or of a type that an agent may not send.
        unexpected_messages = UnexpectedMessage,
        /// Frames of length 0 or of more than 16 MiB, and gRPC messages that are compressed or
        /// exceed the limit. Each of them ended its connection.
        invalid_frames = InvalidFrame,
        /// Connections that ended without being closed by the pool.
        connections_lost = ConnectionLost,
    }
}

impl Fault {
    const fn as_str(self) -> &'static str {
        match self {
            Self::LateAnswer => "late answer",
            Self::UnmatchedAnswer => "answer that matches no call",
            Self::UndecodableAnswer => "answer that does not decode",
            Self::UndecodableMessage => "message that does not decode",
            Self::UnexpectedMessage => "unexpected message",
            Self::InvalidFrame => "invalid frame",
            Self::ConnectionLost => "connection lost",
        }
    }
}

/// Fault counters of one agent.
#[derive(Debug, Default)]
pub(crate) struct FaultCounters {
    faults: [AtomicU64; Fault::COUNT],
}

impl FaultCounters {
    /// Counts a fault and logs it with the agent's id.
    pub(crate) fn note(&self, agent: &str, fault: Fault, detail: impl std::fmt::Display) {
        let count = self.faults[fault as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let kind = fault.as_str();
        log_line!(
            kind = kind,
            warn,
            agent,
            { agent }(count),
            "{kind}: {detail}"
        );
    }

    pub(crate) fn counts(&self) -> FaultCounts {
        FaultCounts::read(&self.faults)
    }
}
