//! Asks the handler about the messages of one question.

use super::arguments::{EarlierChanges, Known};
use super::body::Body;
use super::fault::Fault;
use super::headers::HeaderList;
use super::text::{push_uri, text_of};
use crate::settings::{Needed, PartialBodies, Phase, SpopSettings};
use crate::wire::Messages;
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use tollgate::events::{IpText, Timestamp};
use tollgate::listener::OtherSession;
use tollgate::response::BodyMutation;
use tollgate::{
    AgentResponse, BodyChunk, Decision, EventType, Metadata, RequestBodyChunk, RequestComplete,
    RequestHeaders, ResponseHeaders,
};

/// Asks the handler about messages.
pub(crate) struct Judge<'s> {
    session: &'s OtherSession,
    settings: &'s SpopSettings,
    wants: Wants,
    /// First part of the ids of exchanges whose messages have none.
    id_prefix: String,
    next_id: AtomicU64,
}

/// The events that the agent subscribes to.
struct Wants {
    request_headers: bool,
    request_body: bool,
    response_headers: bool,
    complete: bool,
}

/// The verdicts of a question, and what they are about.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Set if a message was about a request.
    pub(crate) request: Option<AgentResponse>,
    /// Set if a message was about a response.
    pub(crate) response: Option<AgentResponse>,
    /// Set if the exchange ends with these verdicts.
    pub(crate) complete: Option<Complete>,
}

/// The end of an exchange.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Complete {
    pub(crate) status: u16,
    pub(crate) request_body_size: usize,
    pub(crate) upstream_attempts: u32,
}

/// Memory that is used for one question after another.
#[derive(Default)]
pub(crate) struct Scratch {
    /// The encoded answer.
    pub(crate) ack: Vec<u8>,
    /// Id of the exchange.
    pub(crate) id: String,
    uri: String,
}

impl Scratch {
    /// Frees memory that only large questions need.
    pub(crate) fn shrink(&mut self) {
        const MAX_KEPT: usize = 16 * 1024;
        self.ack.clear();
        self.ack.shrink_to(MAX_KEPT);
        self.id.shrink_to(MAX_KEPT);
        self.uri.shrink_to(MAX_KEPT);
    }
}

/// Lists of earlier changes, as far as the last message about a response has them.
pub(crate) type Earlier<'a> = EarlierChanges<'a>;

impl<'s> Judge<'s> {
    /// Creates a judge of the questions of one session, which `name` tells from other ones.
    pub(crate) fn new(session: &'s OtherSession, settings: &'s SpopSettings, name: u64) -> Self {
        let capabilities = session.capabilities();
        let wants = |event| capabilities.supports_event(event);
        Self {
            wants: Wants {
                request_headers: wants(EventType::RequestHeaders),
                request_body: wants(EventType::RequestBodyChunk) && !settings.ignores_bodies,
                response_headers: wants(EventType::ResponseHeaders),
                complete: wants(EventType::RequestComplete),
            },
            session,
            settings,
            id_prefix: format!("spop-{name:x}-"),
            next_id: AtomicU64::new(0),
        }
    }

    /// Asks about every message of a payload. A message that denies outweighs those that do not.
    ///
    /// # Errors
    ///
    /// The reason to deny whatever the messages are about. `outcome` has the verdicts before it.
    pub(crate) async fn judge<'p>(
        &self,
        payload: &'p Bytes,
        scratch: &mut Scratch,
        outcome: &mut Outcome,
    ) -> Result<Earlier<'p>, Fault> {
        let mut messages = Messages::new(payload);
        let mut earlier = Earlier::default();
        let mut is_empty = true;
        while let Some((message, mut arguments)) = messages.read_next()? {
            is_empty = false;
            let known = Known::read(&mut arguments)?;
            let phase = self.settings.phase_of(message.name);
            let phase = phase.ok_or(Fault::UnknownMessage)?;
            let known = match known {
                Ok(known) => known,
                Err(fault) => {
                    outcome.add(phase, fault.to_answer());
                    continue;
                }
            };
            self.name_exchange(&known, &mut scratch.id);
            let answer = match phase {
                Phase::Request => self.judge_request(&known, payload, scratch).await,
                Phase::Response => {
                    earlier = known.earlier;
                    self.judge_response(&known, scratch).await
                }
            };
            outcome.add(phase, answer.unwrap_or_else(Fault::to_answer));
            outcome.end(phase, &known);
        }
        if is_empty {
            return Err(Fault::UnknownMessage);
        }
        Ok(earlier)
    }

    /// Tells the handler that an exchange is complete. Its answer has no effect.
    pub(crate) async fn complete(&self, id: &str, complete: Complete) {
        if !self.wants.complete {
            return;
        }
        let event = RequestComplete {
            correlation_id: id,
            status: complete.status,
            duration_ms: 0,
            request_body_size: complete.request_body_size,
            response_body_size: 0,
            upstream_attempts: complete.upstream_attempts,
            error: None,
        };
        // The exchange has ended, whatever the handler says.
        let _ = self.session.ask(id, &event).await;
    }

    /// Writes the id of an exchange. A message without one is an exchange of its own.
    fn name_exchange(&self, known: &Known<'_>, id: &mut String) {
        id.clear();
        if let Some(given) = known.id.filter(|id| !id.is_empty()) {
            return id.push_str(&text_of(given));
        }
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        id.push_str(&self.id_prefix);
        id.push_str(itoa::Buffer::new().format(number));
    }

    async fn judge_request(
        &self,
        known: &Known<'_>,
        payload: &Bytes,
        scratch: &mut Scratch,
    ) -> Result<AgentResponse, Fault> {
        if self.settings.requires(Needed::RequestHeaders) && known.headers.is_none() {
            return Err(Fault::MissingArgument);
        }
        let body = Body::of(known);
        let id = scratch.id.as_str();
        let mut verdict = AgentResponse::default_allow();
        if self.wants.request_headers {
            let origin = Origin::of(known);
            let head = origin.head(known, id, body, &mut scratch.uri);
            verdict = self.session.ask(id, &head).await?;
            refuse_body_changes(&verdict)?;
        }
        if verdict.decision != Decision::Allow {
            return Ok(verdict);
        }
        if self.wants.request_body {
            self.judge_body(known, payload, body, id, &mut verdict)
                .await?;
        }
        if verdict.decision == Decision::Allow && verdict.needs_more {
            return Err(Fault::NeedsMore);
        }
        Ok(verdict)
    }

    async fn judge_body(
        &self,
        known: &Known<'_>,
        payload: &Bytes,
        body: Body<'_>,
        id: &str,
        verdict: &mut AgentResponse,
    ) -> Result<(), Fault> {
        let (data, is_last) = match body {
            // An agent that has not decided yet is told that there is no body.
            Body::None if verdict.needs_more => (&b""[..], true),
            Body::None => return Ok(()),
            Body::Unknown if self.settings.requires(Needed::RequestBody) => {
                return Err(Fault::MissingArgument);
            }
            Body::Unknown => return Ok(()),
            Body::Whole(data) => (data, true),
            Body::Part(_) if self.settings.partial_bodies == PartialBodies::Deny => {
                return Err(Fault::PartialBody);
            }
            Body::Part(b"") => return Ok(()),
            Body::Part(data) => (data, false),
        };
        let size = known.body_size.and_then(|size| usize::try_from(size).ok());
        let chunk = RequestBodyChunk(BodyChunk {
            total_size: size.filter(|size| *size > 0),
            ..BodyChunk::new(id, payload.slice_ref(data), 0, is_last)
        });
        let answer = self.session.ask(id, &chunk).await?;
        refuse_body_changes(&answer)?;
        absorb(verdict, answer);
        Ok(())
    }

    async fn judge_response(
        &self,
        known: &Known<'_>,
        scratch: &mut Scratch,
    ) -> Result<AgentResponse, Fault> {
        if self.settings.requires(Needed::ResponseBody) {
            return Err(Fault::ResponseBody);
        }
        if self.settings.requires(Needed::ResponseHeaders) && known.headers.is_none() {
            return Err(Fault::MissingArgument);
        }
        let status = known.status.ok_or(Fault::MissingArgument)?;
        if !self.wants.response_headers {
            return Ok(AgentResponse::default_allow());
        }
        let id = scratch.id.as_str();
        if known.path.is_some() || known.url.is_some() || known.method.is_some() {
            let origin = Origin::of(known);
            let of_request = Known { ..*known };
            let head = origin.head(&of_request, id, Body::Unknown, &mut scratch.uri);
            let head = RequestHeaders {
                metadata: head.metadata,
                method: head.method,
                uri: head.uri,
                // The headers of the message are those of the response.
                headers: HeaderList::EMPTY,
            };
            self.session.recall(id, &head)?;
        }
        let head = ResponseHeaders {
            correlation_id: id,
            status,
            headers: known.headers.unwrap_or(HeaderList::EMPTY),
        };
        let verdict = self.session.ask(id, &head).await?;
        refuse_body_changes(&verdict)?;
        if verdict.decision == Decision::Allow && verdict.needs_more {
            return Err(Fault::NeedsMore);
        }
        Ok(verdict)
    }
}

impl Outcome {
    /// Adds the answer to one message.
    fn add(&mut self, phase: Phase, answer: AgentResponse) {
        let place = match phase {
            Phase::Request => &mut self.request,
            Phase::Response => &mut self.response,
        };
        match place {
            None => *place = Some(answer),
            Some(verdict) => absorb(verdict, answer),
        }
    }

    /// Denies whatever the question was about, unless the agent has denied it.
    #[cold]
    pub(crate) fn fail(&mut self, fault: Fault) {
        for place in [&mut self.request, &mut self.response] {
            match place {
                Some(verdict) if verdict.decision != Decision::Allow => {}
                _ => *place = Some(fault.to_answer()),
            }
        }
    }

    /// Records whether the exchange ends with what is decided up to here: if its request is denied,
    /// and after any verdict on its response.
    fn end(&mut self, phase: Phase, known: &Known<'_>) {
        let verdict = match phase {
            Phase::Request => &self.request,
            Phase::Response => &self.response,
        };
        let Some(verdict) = verdict else {
            return;
        };
        let status = match &verdict.decision {
            Decision::Allow if phase == Phase::Request => return,
            Decision::Allow => known.status.unwrap_or_default(),
            Decision::Block { status, .. } | Decision::Redirect { status, .. } => *status,
            Decision::Challenge { .. } => 401,
        };
        let size = known.body_size.and_then(|size| usize::try_from(size).ok());
        self.complete = Some(Complete {
            status,
            request_body_size: size.unwrap_or(0),
            upstream_attempts: u32::from(phase == Phase::Response),
        });
    }
}

/// Texts of a request's origin, which its event borrows.
struct Origin<'a> {
    client: Option<IpText>,
    protocol: Protocol<'a>,
    server_name: Option<Cow<'a, str>>,
    tls_version: Option<Cow<'a, str>>,
    tls_cipher: Option<Cow<'a, str>>,
    frontend: Option<Cow<'a, str>>,
    backend: Option<Cow<'a, str>>,
    method: Cow<'a, str>,
    timestamp: Timestamp,
}

enum Protocol<'a> {
    Known(&'static str),
    Other(Cow<'a, str>),
}

impl<'a> Protocol<'a> {
    fn of(version: Option<&'a [u8]>) -> Self {
        match version {
            None => Self::Known(""),
            Some(b"1.0") => Self::Known("HTTP/1.0"),
            Some(b"1.1") => Self::Known("HTTP/1.1"),
            Some(b"2.0" | b"2") => Self::Known("HTTP/2"),
            Some(b"3.0" | b"3") => Self::Known("HTTP/3"),
            Some(other) => Self::Other(Cow::Owned(format!("HTTP/{}", text_of(other)))),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Known(text) => text,
            Self::Other(text) => text,
        }
    }
}

impl<'a> Origin<'a> {
    fn of(known: &Known<'a>) -> Self {
        let text = |bytes: Option<&'a [u8]>| bytes.filter(|it| !it.is_empty()).map(text_of);
        Self {
            client: known.client.map(IpText::from),
            protocol: Protocol::of(known.version),
            server_name: text(known.server_name),
            tls_version: text(known.tls_version),
            tls_cipher: text(known.tls_cipher),
            frontend: text(known.frontend),
            backend: text(known.backend),
            method: text(known.method).unwrap_or_default(),
            timestamp: Timestamp::now(),
        }
    }

    /// Returns the event for the head of a request. Its URI is written to `uri`.
    fn head<'e>(
        &'e self,
        known: &Known<'e>,
        id: &'e str,
        body: Body<'_>,
        uri: &'e mut String,
    ) -> RequestHeaders<'e, HeaderList<'e>> {
        write_uri(known, uri);
        RequestHeaders {
            metadata: Metadata {
                correlation_id: id,
                request_id: id,
                client_ip: self.client.as_ref().map_or("", IpText::as_str),
                client_port: known.client_port.unwrap_or_default(),
                server_name: self.server_name.as_deref(),
                protocol: self.protocol.as_str(),
                tls_version: self.tls_version.as_deref(),
                tls_cipher: self.tls_cipher.as_deref(),
                route_id: self.frontend.as_deref(),
                upstream_id: self.backend.as_deref(),
                timestamp: self.timestamp.as_str(),
                body_follows: body.follows(),
                ..Metadata::default()
            },
            method: &self.method,
            uri,
            headers: known.headers.unwrap_or(HeaderList::EMPTY),
        }
    }
}

/// Writes the URI of a request: path and query, else the URL.
fn write_uri(known: &Known<'_>, uri: &mut String) {
    uri.clear();
    match (known.path, known.query) {
        (Some(path), query) => {
            push_uri(uri, path);
            if let Some(query) = query.filter(|query| !query.is_empty()) {
                uri.push('?');
                push_uri(uri, query);
            }
        }
        (None, _) => push_uri(uri, known.url.unwrap_or_default()),
    }
}

/// Adds a later answer about the same message. A denial outweighs what allows.
fn absorb(verdict: &mut AgentResponse, mut later: AgentResponse) {
    if verdict.decision != Decision::Allow {
        return;
    }
    verdict.decision = later.decision;
    verdict.needs_more = later.needs_more;
    verdict.request_headers.append(&mut later.request_headers);
    verdict.response_headers.append(&mut later.response_headers);
    verdict.routing_metadata.extend(later.routing_metadata);
    let audit = &mut verdict.audit;
    audit.tags.append(&mut later.audit.tags);
    audit.rule_ids.append(&mut later.audit.rule_ids);
    audit.reason_codes.append(&mut later.audit.reason_codes);
    audit.confidence = later.audit.confidence.or(audit.confidence);
    audit.custom.extend(later.audit.custom);
}

/// HAProxy cannot change bodies.
fn refuse_body_changes(answer: &AgentResponse) -> Result<(), Fault> {
    let mutations = [
        &answer.request_body_mutation,
        &answer.response_body_mutation,
    ];
    let mut mutations = mutations.into_iter().flatten();
    if answer.decision == Decision::Allow && !mutations.all(BodyMutation::is_pass_through) {
        return Err(Fault::BodyChange);
    }
    Ok(())
}
