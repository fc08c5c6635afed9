use super::cell::Outcome;
use super::column::{Column, Maker};
use super::fidelity::Dispensable;
use super::notice::{Notice, health};
use super::row::Subject;
use super::wire::Wire;
use crate::peer::Version;

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
    /// The published messages have no place for it over gRPC.
    NoPlace,
    /// The proxy has no such call over gRPC.
    NoSuchCall,
    /// The proxy hands free-form values over as text.
    TextForValues,
    /// Settings are passed over.
    SettingsPassedOver,
    /// The proxy sends settings and takes no answer.
    SettingsUnanswered,
    /// The proxy replaces the name of the agent by its own.
    OwnName,
    /// There is no message with which an agent could ping over gRPC.
    NoPingMessage,
}

use Reason::{
    BytesForText, CancelsKept, DeafProxy, GuardrailPassedOver, HealthKept, MuteAgent,
    NoPingMessage, NoPings, NoPlace, NoSuchCall, OwnName, RepeatedId, SettingsPassedOver,
    SettingsUnanswered, ShorterArray, TextForValues,
};

impl Reason {
    /// All of them, in the order of their letters.
    pub const ALL: [Self; 16] = [
        ShorterArray,
        RepeatedId,
        BytesForText,
        GuardrailPassedOver,
        CancelsKept,
        MuteAgent,
        NoPings,
        HealthKept,
        DeafProxy,
        NoPlace,
        NoSuchCall,
        TextForValues,
        SettingsPassedOver,
        SettingsUnanswered,
        OwnName,
        NoPingMessage,
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
                "The published client notes the state of health, which tollgate's agent writes to sockets in \
                 its integer form first for its sake, and makes no use of it."
            }
            DeafProxy => {
                "The published client stores a pause where nobody looks and makes nothing of the other forms, \
                 so requests go on. Tollgate's agent answers them, as it must; its proxy fails calls with \
                 `FlowControlPaused` instead of sending them."
            }
            NoPlace => {
                "The published messages over gRPC have no place for `tls_cipher`, `upstream_attempts` and, of \
                 websocket frames, `frame_index`, `fin`, `route_id` and `client_ip`, nor in answers for \
                 routing metadata, body mutations and websocket decisions; the published server tells its \
                 handler of one attempt and of a first frame that ends its message. Of a `timestamp` they have \
                 milliseconds: the published client sends the present ones, and the published server hands \
                 on their number, as it does with that of an `opcode`. Tollgate's two sides have fields of \
                 their own for all of it. From a published agent tollgate's proxy takes an answer without \
                 these fields for what it says: the chunk or the frame goes on as it is."
            }
            NoSuchCall => "The published client has no call for this over gRPC.",
            TextForValues => {
                "The published client gives the values of `audit.custom`, which are JSON text over gRPC, to \
                 its caller as that text. Tollgate's proxy reads them."
            }
            SettingsPassedOver => {
                "The published server takes settings over gRPC, tells its handler nothing and answers \
                 nothing. Tollgate's proxy fails the call with `Timeout` when its time is up; its agent \
                 answers them."
            }
            SettingsUnanswered => {
                "The published client sends settings over gRPC and takes no answer to them. The handler of \
                 tollgate's agent is given them."
            }
            OwnName => {
                "The published client puts its own name of the agent into reports that come over gRPC. \
                 Tollgate's pool names the agent beside the report and leaves that as it is."
            }
            NoPingMessage => {
                "Over gRPC only proxies can ping: there is no message for the other direction."
            }
        }
    }

    /// Whose fault it is; `None` if it is nobody's.
    pub fn culprit(self, column: &Column) -> Option<Maker> {
        match self {
            ShorterArray | HealthKept | DeafProxy | NoSuchCall | TextForValues
            | SettingsUnanswered | OwnName => Some(column.proxy),
            RepeatedId | BytesForText | GuardrailPassedOver | CancelsKept | MuteAgent
            | SettingsPassedOver => Some(column.agent),
            NoPlace => column.published_side(),
            NoPings | NoPingMessage => None,
        }
    }

    pub(super) fn of(outcome: &Outcome, subject: &Subject, column: &Column) -> Option<Self> {
        if *outcome == Outcome::Works {
            return None;
        }
        match *subject {
            Subject::PingFromAgent => of_ping_from_agent(outcome, column.wire),
            Subject::Notice(notice) => of_notice(notice, outcome, column),
            Subject::Cancel if *outcome == Outcome::Untold => {
                column.agent.published().map(|_| CancelsKept)
            }
            Subject::Event(steps) => of_event(steps[0], outcome, column),
            Subject::Answer(step, field) => match of_field(field, outcome, column) {
                None => of_event(step, outcome, column),
                reason => reason,
            },
            _ => None,
        }
    }
}

fn of_ping_from_agent(outcome: &Outcome, wire: Wire) -> Option<Reason> {
    match (outcome, wire) {
        (Outcome::CannotSend, Wire::Grpc) => Some(NoPingMessage),
        (Outcome::WorksByHand | Outcome::CannotSend, _) => Some(NoPings),
        _ => None,
    }
}

fn of_notice(notice: Notice, outcome: &Outcome, column: &Column) -> Option<Reason> {
    if matches!(outcome, Outcome::WorksByHand | Outcome::CannotSend) {
        return Some(MuteAgent);
    }
    column.proxy.published()?;
    match (notice, outcome) {
        (Notice::Metrics, Outcome::AllBut(_)) => Some(OwnName),
        (_, Outcome::Untold) if health(notice).is_some() => Some(HealthKept),
        (_, Outcome::Ignored) if health(notice).is_none() => Some(DeafProxy),
        _ => None,
    }
}

fn of_field(field: &str, outcome: &Outcome, column: &Column) -> Option<Reason> {
    if column.wire != Wire::Grpc {
        return None;
    }
    match (outcome, field) {
        (Outcome::WrongAnswer, "/audit/custom") => column.proxy.published().map(|_| TextForValues),
        (Outcome::Lost, field) if Dispensable::IN_ANSWERS.has(field) => {
            column.published_side().map(|_| NoPlace)
        }
        _ => None,
    }
}

fn of_event(step: &str, outcome: &Outcome, column: &Column) -> Option<Reason> {
    let is_guardrail = step.starts_with("guardrail");
    match (column.wire, outcome) {
        (_, Outcome::TimedOut) if is_guardrail => {
            column.agent.published().map(|_| GuardrailPassedOver)
        }
        (Wire::MessagePack, _) => of_event_in_messagepack(step, outcome, column),
        (Wire::Json, _) => None,
        (Wire::Grpc, _) if step.starts_with("configure") => of_settings_over_grpc(outcome, column),
        (Wire::Grpc, Outcome::CannotSend) => column.proxy.published().map(|_| NoSuchCall),
        (Wire::Grpc, Outcome::AllBut(_)) => column.published_side().map(|_| NoPlace),
        (Wire::Grpc, _) => None,
    }
}

fn of_settings_over_grpc(outcome: &Outcome, column: &Column) -> Option<Reason> {
    match outcome {
        Outcome::TimedOut | Outcome::Lost => column.agent.published().map(|_| SettingsPassedOver),
        Outcome::Untold => column.proxy.published().map(|_| SettingsUnanswered),
        _ => None,
    }
}

fn of_event_in_messagepack(step: &str, outcome: &Outcome, column: &Column) -> Option<Reason> {
    let agent = column.agent.published()?;
    let proxy = column.proxy.published()?;
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
