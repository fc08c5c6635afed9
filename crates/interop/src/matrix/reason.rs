use super::cell::Outcome;
use super::column::{Column, Implementation};
use super::fidelity::LossyFields;
use super::notice::{Notice, health};
use super::row::Subject;
use super::wire::Wire;
use crate::peer::Version;

/// Reason for an outcome other than [`Outcome::Works`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// An absent field is omitted from an array.
    ShorterArray,
    /// The correlation id is written twice.
    RepeatedId,
    /// Bytes are read as base64 text.
    BytesForText,
    /// Guardrail events are not answered.
    GuardrailUnanswered,
    /// The agent cannot send the message.
    NoWayToSend,
    /// The proxy ignores flow control.
    FlowControlIgnored,
    /// The proxy does not use reported health.
    HealthUnused,
    /// The agent does not report cancels to its handler.
    CancelsNotReported,
    /// No agent can send pings.
    NoPings,
    /// The gRPC messages of `zentinel-agent-protocol` have no field for it.
    NoField,
    /// The proxy does not support the call over gRPC.
    NoSuchCall,
    /// The proxy returns free-form values as text.
    TextForValues,
    /// The agent does not report settings to its handler.
    SettingsIgnored,
    /// The proxy sends settings and does not read an answer.
    SettingsUnanswered,
    /// The proxy replaces the id of the agent with its own name for it.
    AgentIdReplaced,
    /// Over gRPC there is no message with which an agent can ping.
    NoPingMessage,
    /// The agent accepts settings by a pong, and rejects them by ending the stream.
    SettingsByPong,
    /// The proxy gives an agent no settings when it connects.
    NoFirstSettings,
    /// The agent allows guardrail events without asking its handler.
    GuardrailAllowed,
    /// The agent rejects settings with another text.
    RejectedInOtherWords,
    /// The proxy does not report pongs.
    PongsNotReported,
}

use Reason::{
    AgentIdReplaced, BytesForText, CancelsNotReported, FlowControlIgnored, GuardrailAllowed,
    GuardrailUnanswered, HealthUnused, NoField, NoFirstSettings, NoPingMessage, NoPings,
    NoSuchCall, NoWayToSend, PongsNotReported, RejectedInOtherWords, RepeatedId, SettingsByPong,
    SettingsIgnored, SettingsUnanswered, ShorterArray, TextForValues,
};

impl Reason {
    /// All reasons, in the order of their letters.
    pub const ALL: [Self; 21] = [
        ShorterArray,
        RepeatedId,
        BytesForText,
        GuardrailUnanswered,
        CancelsNotReported,
        NoWayToSend,
        NoPings,
        HealthUnused,
        FlowControlIgnored,
        NoField,
        NoSuchCall,
        TextForValues,
        SettingsIgnored,
        SettingsUnanswered,
        AgentIdReplaced,
        NoPingMessage,
        SettingsByPong,
        NoFirstSettings,
        GuardrailAllowed,
        RejectedInOtherWords,
        PongsNotReported,
    ];

    /// Returns the letter in the tables.
    pub fn letter(self) -> char {
        let index = Self::ALL.iter().position(|&reason| reason == self);
        ('a'..='z')
            .nth(index.expect("the list contains every reason"))
            .expect("there are more letters than reasons")
    }

    /// Returns an explanation, and how tollgate behaves.
    pub const fn text(self) -> &'static str {
        match self {
            ShorterArray => {
                "0.6.11 writes structs as arrays in MessagePack and omits an absent `traceparent`. \
                 Zentinel's server rejects the shorter array and answers without an id, so the call \
                 times out. Tollgate's agent accepts both lengths. Tollgate's proxy writes maps, which \
                 every version reads."
            }
            RepeatedId => {
                "0.6.11 writes `correlation_id` twice into MessagePack events, and zentinel's server \
                 rejects them. Since 0.6.45 it then answers `allow` without calling the handler. That of \
                 0.6.11 answers without an id, so the call times out. Tollgate's agent accepts a key that is repeated \
                 with the same value. Tollgate's proxy repeats no key."
            }
            BytesForText => {
                "The binary calls of zentinel's client write *bin* in MessagePack, which zentinel's \
                 server reads as base64 text. If the bytes are not UTF-8, the server rejects them and \
                 answers `allow` without calling the handler; for the arrays of 0.6.11 it answers \
                 without an id, so the call times out. If the bytes are UTF-8, the handler receives \
                 them as base64 text; if they happen to be valid base64, it decodes other bytes. \
                 Tollgate's agent reads *bin* as bytes. Tollgate's proxy sends base64 to agents that \
                 did not accept the extension."
            }
            GuardrailUnanswered => {
                "Zentinel's server announces guardrail events and never answers them. Tollgate's proxy \
                 fails the call with `Timeout` and never treats it as `allow`. Tollgate's agent answers \
                 guardrail events."
            }
            CancelsNotReported => {
                "Zentinel's server accepts cancels and does not report them to its handler. Tollgate's \
                 proxy does not depend on that: the call fails with `Cancelled` at once, and the \
                 connection stays in use. Tollgate's agent drops the work and notifies the handler."
            }
            NoWayToSend => {
                "Zentinel's server cannot send this message. In cells with ✓, a raw agent sent it to \
                 tollgate's proxy, encoded with zentinel's types."
            }
            NoPings => {
                "No agent has a call for this, not even tollgate's, but the protocol allows it. In \
                 cells with ✓, a raw agent pinged tollgate's proxy."
            }
            HealthUnused => {
                "Zentinel's client stores the state of health and does not use it. For this client, \
                 tollgate's agent sends the integer form first on sockets."
            }
            FlowControlIgnored => {
                "Zentinel's client stores a pause without effect and ignores the other forms, so \
                 requests continue. Tollgate's agent answers them, as it must. Tollgate's proxy fails \
                 calls with `FlowControlPaused` instead of sending them."
            }
            NoField => {
                "Zentinel's gRPC messages have no fields for `tls_cipher`, for `upstream_attempts`, for \
                 `frame_index`, `fin`, `route_id` and `client_ip` of websocket frames, and for routing \
                 metadata, body mutations and websocket decisions of answers. Zentinel's server reports \
                 one attempt and a first, final frame to its handler. A `timestamp` is sent in \
                 milliseconds: zentinel's client sends the present time, and zentinel's server passes \
                 on the number, as it does for an `opcode`. Between two tollgates there are additional \
                 fields for all of this. If an answer of zentinel's agent lacks these fields, \
                 tollgate's proxy passes the chunk or the frame on unchanged."
            }
            NoSuchCall => "Zentinel's client does not support this call over gRPC.",
            TextForValues => {
                "Over gRPC the values of `audit.custom` are JSON text. Zentinel's client returns that \
                 text to its caller. Tollgate's proxy parses it."
            }
            SettingsIgnored => {
                "Over gRPC the servers of 0.6.45 and 0.6.11 accept settings, do not report them to their \
                 handler and do not answer. A call with them fails with `Timeout`. Nothing tells such \
                 an agent from one that has applied its settings, as both answer the ping behind them, \
                 so tollgate's proxy uses it. Tollgate's agent applies settings."
            }
            SettingsUnanswered => {
                "Over gRPC this call of zentinel's client sends settings and does not read an answer. The \
                 handler of the agent receives them. If it rejects them, tollgate's agent and that of \
                 0.6.54 end the stream."
            }
            AgentIdReplaced => {
                "Over gRPC zentinel's client replaces the agent id in reports with its own name for the \
                 agent. Tollgate's pool gives its name for the agent separately and does not change \
                 the report."
            }
            NoPingMessage => {
                "Over gRPC only proxies can ping: there is no message for the other direction."
            }
            SettingsByPong => {
                "Over gRPC the server of 0.6.54 accepts settings by answering the ping behind them, and \
                 rejects them by ending the stream. Tollgate's `Agent::configure` sends that ping. A \
                 call with settings, as in this cell, does not."
            }
            NoFirstSettings => {
                "The clients of 0.6.45 and 0.6.11 cannot give an agent settings when they connect."
            }
            GuardrailAllowed => {
                "The handlers of `crates/zentinel` have no method for guardrail events, and its agents \
                 allowed them at extension 1. Now they block them."
            }
            RejectedInOtherWords => {
                "At extension 1 the agents of `crates/zentinel` said in other words that they reject \
                 settings."
            }
            PongsNotReported => "The client of `crates/zentinel` does not report pongs.",
        }
    }

    /// Returns the implementation that causes it, or `None` if the protocol does.
    pub fn responsible(self, column: &Column) -> Option<Implementation> {
        match self {
            ShorterArray | HealthUnused | FlowControlIgnored | NoSuchCall | TextForValues
            | SettingsUnanswered | AgentIdReplaced | NoFirstSettings | PongsNotReported => {
                Some(column.proxy)
            }
            GuardrailAllowed | RejectedInOtherWords | RepeatedId | BytesForText
            | GuardrailUnanswered | CancelsNotReported | NoWayToSend | SettingsIgnored
            | SettingsByPong => Some(column.agent),
            NoField => column.zentinel_side(),
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
            Subject::Cancel if *outcome == Outcome::NotReported => {
                column.agent.is_peer().then_some(CancelsNotReported)
            }
            Subject::PingFromProxy if *outcome == Outcome::NotReported => Some(PongsNotReported),
            Subject::FirstSettings(_) => of_first_settings(outcome, column),
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
        (Outcome::WorksWithRawAgent | Outcome::CannotSend, _) => Some(NoPings),
        _ => None,
    }
}

fn of_notice(notice: Notice, outcome: &Outcome, column: &Column) -> Option<Reason> {
    if matches!(outcome, Outcome::WorksWithRawAgent | Outcome::CannotSend) {
        return Some(NoWayToSend);
    }
    if !column.proxy.is_peer() {
        return None;
    }
    match (notice, outcome) {
        (Notice::Metrics, Outcome::AllBut(_)) => Some(AgentIdReplaced),
        (_, Outcome::NotReported) if health(notice).is_some() => Some(HealthUnused),
        (_, Outcome::Ignored) if health(notice).is_none() => Some(FlowControlIgnored),
        _ => None,
    }
}

fn of_field(field: &str, outcome: &Outcome, column: &Column) -> Option<Reason> {
    if column.wire != Wire::Grpc {
        return None;
    }
    match (outcome, field) {
        (Outcome::WrongAnswer, "/audit/custom") => column.proxy.zentinel().map(|_| TextForValues),
        (Outcome::Lost, field) if LossyFields::IN_ANSWERS.has(field) => {
            column.zentinel_side().map(|_| NoField)
        }
        _ => None,
    }
}

fn of_event(step: &str, outcome: &Outcome, column: &Column) -> Option<Reason> {
    let is_guardrail = step.starts_with("guardrail");
    let is_earlier = column.agent.is_peer() && column.agent.is_tollgate();
    match (column.wire, outcome) {
        (_, Outcome::Allowed) if is_guardrail && is_earlier => Some(GuardrailAllowed),
        (_, Outcome::WrongAnswer) if step == "configure:rejected" && is_earlier => {
            Some(RejectedInOtherWords)
        }
        (_, Outcome::TimedOut) if is_guardrail => {
            column.agent.zentinel().map(|_| GuardrailUnanswered)
        }
        (Wire::MessagePack, _) => of_event_in_messagepack(step, outcome, column),
        (Wire::Json, _) => None,
        (Wire::Grpc, _) if step.starts_with("configure") => of_settings_over_grpc(outcome, column),
        (Wire::Grpc, Outcome::CannotSend) => column.proxy.is_peer().then_some(NoSuchCall),
        (Wire::Grpc, Outcome::AllBut(_)) => column.zentinel_side().map(|_| NoField),
        (Wire::Grpc, _) => None,
    }
}

fn of_first_settings(outcome: &Outcome, column: &Column) -> Option<Reason> {
    match (outcome, column.wire) {
        (Outcome::CannotSend, _) => column.proxy.zentinel().map(|_| NoFirstSettings),
        (Outcome::NotReported, Wire::Grpc) => {
            let agent = column.agent.zentinel();
            agent
                .filter(|agent| !agent.has_settings())
                .map(|_| SettingsIgnored)
        }
        _ => None,
    }
}

fn of_settings_over_grpc(outcome: &Outcome, column: &Column) -> Option<Reason> {
    let agent = column.agent.zentinel();
    match outcome {
        Outcome::TimedOut | Outcome::Ended if agent.is_some_and(Version::has_settings) => {
            Some(SettingsByPong)
        }
        Outcome::TimedOut | Outcome::Lost => agent.map(|_| SettingsIgnored),
        Outcome::NotReported | Outcome::Ended => {
            column.proxy.is_peer().then_some(SettingsUnanswered)
        }
        _ => None,
    }
}

fn of_event_in_messagepack(step: &str, outcome: &Outcome, column: &Column) -> Option<Reason> {
    let agent = column.agent.zentinel()?;
    let proxy = column.proxy.zentinel()?;
    if step.contains("_binary") {
        return Some(BytesForText);
    }
    match (proxy, agent, outcome) {
        (Version::V0_6_11, _, Outcome::TimedOut) if step.starts_with("request_headers") => {
            Some(ShorterArray)
        }
        (Version::V0_6_11, Version::V0_6_11, Outcome::TimedOut)
        | (Version::V0_6_11, Version::V0_6_45 | Version::V0_6_54, Outcome::Allowed) => {
            Some(RepeatedId)
        }
        _ => None,
    }
}
