use super::cell::Outcome;
use super::column::{Column, Maker};
use super::notice::{Notice, health};
use super::row::Subject;
use crate::peer::Version;
use tollgate::Encoding;

/// Why something does not work as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// An absent field is left out of an array.
    ShorterArray,
    /// The correlation id is written twice.
    RepeatedId,
    /// Bytes are taken for base64 text.
    BytesForText,
    /// Guardrail events are passed over.
    GuardrailPassedOver,
    /// The agent has no way of saying anything unasked.
    MuteAgent,
    /// The proxy does not obey flow control.
    DeafProxy,
    /// The proxy keeps reported health to itself.
    HealthKept,
    /// The agent keeps cancels to itself.
    CancelsKept,
    /// No agent has a way of sending pings.
    NoPings,
}

use Reason::{
    BytesForText, CancelsKept, DeafProxy, GuardrailPassedOver, HealthKept, MuteAgent, NoPings,
    RepeatedId, ShorterArray,
};

impl Reason {
    /// All of them, in the order of their letters.
    pub const ALL: [Self; 9] = [
        ShorterArray,
        RepeatedId,
        BytesForText,
        GuardrailPassedOver,
        CancelsKept,
        MuteAgent,
        NoPings,
        HealthKept,
        DeafProxy,
    ];

    /// What the table calls it.
    pub fn letter(self) -> char {
        let place = Self::ALL.iter().position(|&reason| reason == self);
        ('a'..='z')
            .nth(place.expect("every reason has a place"))
            .expect("there are more letters than reasons")
    }

    /// What it means, and what tollgate does about it.
    pub const fn text(self) -> &'static str {
        match self {
            ShorterArray => {
                "0.6.11 writes structs as arrays in MessagePack and leaves out a `traceparent` that is not \
                 there. The published servers refuse the shorter array and answer without an id, so the \
                 call times out. Tollgate's agent reads both lengths; its proxy writes maps, which all read."
            }
            RepeatedId => {
                "0.6.11 writes `correlation_id` twice into MessagePack events, which the published servers \
                 refuse: 0.6.45 answers an `allow` that no handler gave, 0.6.11 answers without an id, and \
                 the call times out. Tollgate's agent accepts a key that is repeated with the same value; \
                 its proxy repeats none."
            }
            BytesForText => {
                "The binary calls of the published client write *bin* in MessagePack, which the published \
                 servers take for base64 text. What is not UTF-8 they refuse, and answer an `allow` that no \
                 handler gave (to the arrays of 0.6.11 an answer without an id: the call times out). What is \
                 UTF-8 reaches the handler as if it were base64, which by chance it may be: then the handler \
                 sees other bytes. Tollgate's agent takes *bin* for what it is; its proxy sends base64 to \
                 whoever did not accept the extension."
            }
            GuardrailPassedOver => {
                "The published server says that it supports guardrail events and never answers them. \
                 Tollgate's proxy fails the call with `Timeout` when its time is up, and never takes that \
                 for an `allow`; its agent answers them."
            }
            CancelsKept => {
                "The published server takes cancels and tells its handler nothing. Tollgate's proxy does \
                 not depend on it: the call fails with `Cancelled` at once and the connection goes on; its \
                 agent drops the work and tells the handler."
            }
            MuteAgent => {
                "The published server has no way of saying this. Where a ✓ stands, tollgate's proxy was \
                 told by a hand-written agent, in the bytes that the published types make."
            }
            NoPings => {
                "Agents have no call for this, tollgate's neither; the protocol allows it. Where a ✓ \
                 stands, tollgate's proxy was asked by a hand-written agent."
            }
            HealthKept => {
                "The published client notes the integer form of health, which tollgate's agent writes \
                 first for its sake, and makes no use of it."
            }
            DeafProxy => {
                "The published client stores a pause where nobody looks and does not read the other forms, \
                 so requests go on. Tollgate's agent answers them, as it must; its proxy fails calls with \
                 `FlowControlPaused` instead of sending them."
            }
        }
    }

    /// Whose fault it is; `None` if it is nobody's.
    pub const fn culprit(self, column: &Column) -> Option<Maker> {
        match self {
            ShorterArray | HealthKept | DeafProxy => Some(column.proxy),
            RepeatedId | BytesForText | GuardrailPassedOver | CancelsKept | MuteAgent => {
                Some(column.agent)
            }
            NoPings => None,
        }
    }

    pub(super) fn of(outcome: &Outcome, subject: &Subject, column: &Column) -> Option<Self> {
        match (subject, outcome) {
            (_, Outcome::Works) => None,
            (Subject::PingFromAgent, Outcome::WorksByHand | Outcome::CannotSend) => Some(NoPings),
            (_, Outcome::WorksByHand | Outcome::CannotSend) => Some(MuteAgent),
            (Subject::Notice(notice), _) => of_notice(*notice, outcome, column.proxy),
            (Subject::Cancel, Outcome::Untold) => published(column.agent).map(|_| CancelsKept),
            (Subject::Event(steps), _) => of_event(steps[0], outcome, column),
            (Subject::Answer(step, _), _) => of_event(step, outcome, column),
            _ => None,
        }
    }
}

fn of_notice(notice: Notice, outcome: &Outcome, proxy: Maker) -> Option<Reason> {
    published(proxy)?;
    match outcome {
        Outcome::Untold if health(notice).is_some() => Some(HealthKept),
        Outcome::Ignored if health(notice).is_none() => Some(DeafProxy),
        _ => None,
    }
}

fn of_event(step: &str, outcome: &Outcome, column: &Column) -> Option<Reason> {
    let agent = published(column.agent)?;
    if step.starts_with("guardrail") && *outcome == Outcome::TimedOut {
        return Some(GuardrailPassedOver);
    }
    let proxy = published(column.proxy)?;
    if column.encoding == Encoding::Json {
        return None;
    }
    if step.contains("_binary") {
        return Some(BytesForText);
    }
    match (proxy, agent, outcome) {
        (Version::V0_6_11, _, Outcome::TimedOut) if step.starts_with("request_headers") => {
            Some(ShorterArray)
        }
        (Version::V0_6_11, Version::V0_6_11, Outcome::TimedOut)
        | (Version::V0_6_11, Version::V0_6_45, Outcome::Allowed) => Some(RepeatedId),
        _ => None,
    }
}

const fn published(maker: Maker) -> Option<Version> {
    match maker {
        Maker::Tollgate => None,
        Maker::Published(version) => Some(version),
    }
}
