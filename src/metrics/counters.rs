//! Counters of faults on an agent's connections.

use super::calls::add_fields;
use crate::log::log_line;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers of faults on an agent's connections that do not belong to a single call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FaultCounts {
    /// Answers that arrived after their call had timed out or was dropped.
    pub late_answers: u64,
    /// Answers that match no call: to events that were never sent, or second answers.
    pub unmatched_answers: u64,
    /// Answers that could not be decoded.
    pub undecodable_answers: u64,
    /// Health reports, flow control and other messages that could not be decoded.
    pub undecodable_messages: u64,
    /// Messages of an unknown type, or of a type that an agent may not send.
    pub unexpected_messages: u64,
    /// Frames of length 0 or of more than 16 MiB, and gRPC messages that are compressed or exceed
    /// the limit. Each of them ended its connection.
    pub invalid_frames: u64,
    /// Connections that ended without being closed by the pool.
    pub connections_lost: u64,
}

impl AddAssign for FaultCounts {
    fn add_assign(&mut self, more: Self) {
        add_fields!(self += more: late_answers, unmatched_answers, undecodable_answers, undecodable_messages,
            unexpected_messages, invalid_frames, connections_lost);
    }
}

/// Kind of fault, one for each field of [`FaultCounts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    LateAnswer,
    UnmatchedAnswer,
    UndecodableAnswer,
    UndecodableMessage,
    UnexpectedMessage,
    InvalidFrame,
    ConnectionLost,
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
    faults: [AtomicU64; 7],
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
        let count = |fault: Fault| self.faults[fault as usize].load(Ordering::Relaxed);
        FaultCounts {
            late_answers: count(Fault::LateAnswer),
            unmatched_answers: count(Fault::UnmatchedAnswer),
            undecodable_answers: count(Fault::UndecodableAnswer),
            undecodable_messages: count(Fault::UndecodableMessage),
            unexpected_messages: count(Fault::UnexpectedMessage),
            invalid_frames: count(Fault::InvalidFrame),
            connections_lost: count(Fault::ConnectionLost),
        }
    }
}
