//! Heads of requests and responses.

use super::verdict::Changeable;
use super::{Exchange, Stop};
use crate::agent::Warning;
use crate::client::{Client, request_metadata};
use crate::side::Side;
use crate::wire::{
    Answer, Attributes, BodyMode, Head, HeadChange, HttpHeaders, ModeOverride, SendMode,
};
use bytes::{Bytes, BytesMut};
use http::header;
use tokio::time::Instant;
use tollgate::{AgentResponse, RequestHeaders, ResponseHeaders};

/// Status of a response that makes a tunnel of the connection.
const SWITCHING_PROTOCOLS: u16 = 101;

impl Exchange<'_> {
    pub(super) async fn on_request_head(
        &mut self,
        message: HttpHeaders<'_>,
        attributes: Option<&[u8]>,
    ) -> Result<(), Stop> {
        if self.request.has_head {
            return Err(self.out_of_order());
        }
        let head = Head::read(message.headers).map_err(|error| self.refuse(error))?;
        let attributes = self.attributes(attributes)?;
        self.request.begin(&head, message.end_of_stream);
        self.asks_for_tunnel = head.asks_for_tunnel();
        let mut answer = AgentResponse::default_allow();
        if self.agent.events.request_headers {
            let (agent, id) = (self.agent, self.id);
            let client = Client::of(&attributes, &head, agent.config().trusted_hops);
            let mut metadata = request_metadata(&attributes, &head, &client);
            metadata.correlation_id = id.as_str();
            metadata.body_follows = Some(!message.end_of_stream);
            let event = RequestHeaders {
                metadata,
                method: &head.method,
                uri: &head.path,
                headers: &head.fields[..],
            };
            answer = self.ask(&event).await?;
        }
        let is_waited_for = self.asks_for_tunnel || head.is_of_stream();
        self.settle_head(Side::Request, &mut answer, is_waited_for)
            .await
    }

    pub(super) async fn on_response_head(
        &mut self,
        message: HttpHeaders<'_>,
        attributes: Option<&[u8]>,
    ) -> Result<(), Stop> {
        if self.response.has_head {
            return Err(self.out_of_order());
        }
        let head = Head::read(message.headers).map_err(|error| self.refuse(error))?;
        let attributes = self.attributes(attributes)?;
        self.attempts = attributes.attempts.unwrap_or(1);
        self.status = head.status;
        self.response.begin(&head, message.end_of_stream);
        let is_tunnel = head.status == SWITCHING_PROTOCOLS;
        if is_tunnel && self.asks_for_tunnel {
            // What follows are no bodies.
            if self.request.held.is_some() {
                return Err(self.undecided());
            }
            self.request.is_unasked = true;
            self.response.is_unasked = true;
        }
        let mut answer = AgentResponse::default_allow();
        if self.agent.events.response_headers {
            let id = self.id;
            let event = ResponseHeaders {
                correlation_id: id.as_str(),
                status: head.status,
                headers: &head.fields[..],
            };
            answer = self.ask(&event).await?;
        } else if !self.wants_response_head() {
            self.agent.counters().unwanted_phases.add_one();
            self.agent.warn_once(Warning::UnwantedPhase);
        }
        let is_waited_for = is_tunnel || head.is_of_stream();
        self.settle_head(Side::Response, &mut answer, is_waited_for)
            .await
    }

    fn attributes<'a>(&self, fields: Option<&'a [u8]>) -> Result<Attributes<'a>, Stop> {
        let attributes = fields.map(Attributes::read).transpose();
        Ok(attributes
            .map_err(|error| self.refuse(error))?
            .unwrap_or_default())
    }

    /// Applies the answer about a head, and answers Envoy unless the head is held.
    async fn settle_head(
        &mut self,
        side: Side,
        answer: &mut AgentResponse,
        is_waited_for: bool,
    ) -> Result<(), Stop> {
        let mutation = self.absorb(side, answer, Changeable::Head)?;
        if mutation.is_some() {
            return Err(self.impossible("a body of which no chunk was shown"));
        }
        let hold_timeout = self.agent.config().hold_timeout;
        let direction = self.direction(side);
        direction.is_undecided = answer.needs_more;
        if direction.is_undecided && direction.is_unasked {
            return Err(self.undecided());
        }
        if direction.has_ended {
            if direction.is_undecided {
                direction.holds_head = true;
                return self.judge_end(side).await;
            }
            return self.answer_head(side).await;
        }
        if direction.is_duplex() {
            let sees_body = !direction.is_unasked;
            direction.holds_head = sees_body && (direction.is_undecided || !is_waited_for);
            if direction.holds_head {
                direction.held_until = Some(Instant::now() + hold_timeout);
                return Ok(());
            }
        }
        let is_shown = !matches!(direction.mode, None | Some(BodyMode::None));
        let (is_undecided, is_unseen) = (direction.is_undecided, direction.is_unseen());
        if is_undecided && !is_shown {
            return Err(self.undecided());
        }
        if is_unseen {
            self.agent.counters().unseen_bodies.add_one();
            self.agent.warn_once(Warning::UnseenBody);
        }
        self.answer_head(side).await
    }

    /// Answers a head, which goes on.
    pub(super) async fn answer_head(&mut self, side: Side) -> Result<(), Stop> {
        let mode_override = match side {
            Side::Request => self.override_after_request(),
            Side::Response => self.override_after_response(),
        };
        let reroutes = self.agent.config().reroutes && self.metadata.routes();
        let direction = self.direction(side);
        direction.holds_head = false;
        direction.has_gone_on = true;
        let sets_host = direction.fold.changes(&header::HOST);
        let mut change = direction.fold.take();
        // Envoy chooses the route again only if there is a change as well.
        change.reroutes = side == Side::Request && (reroutes || sets_host);
        let is_plain = change.is_empty() && !change.reroutes && self.metadata.is_empty();
        if let (true, Some(modes)) = (is_plain, mode_override) {
            let answer = Answer {
                side,
                change: None,
                metadata: None,
                mode_override,
            };
            let frames = &self.agent.override_frames;
            let frame = frames.get(side, modes, || answer.headers(&mut BytesMut::new()));
            return self.send(frame, Bytes::new()).await;
        }
        self.answer(side, &change, mode_override, |answer, out| {
            answer.headers(out)
        })
        .await
    }

    /// Sends an answer without a body, with the metadata that was not sent yet.
    pub(super) async fn answer(
        &mut self,
        side: Side,
        change: &HeadChange,
        mode_override: Option<ModeOverride>,
        write: impl FnOnce(&Answer<'_>, &mut BytesMut) -> Bytes,
    ) -> Result<(), Stop> {
        let metadata = std::mem::take(&mut self.metadata);
        let answer = Answer {
            side,
            change: (!change.is_empty() || change.reroutes).then_some(change),
            metadata: (!metadata.is_empty()).then_some(&metadata),
            mode_override,
        };
        let frame = write(&answer, &mut self.stream.out);
        self.send(frame, Bytes::new()).await
    }

    /// Returns whether something of the exchange depends on the response's head.
    fn wants_response_head(&self) -> bool {
        let events = &self.agent.events;
        events.response_headers
            || events.complete
            || !self.response.fold.is_empty()
            || (events.response_body && self.response.mode != Some(BodyMode::None))
            || self.request.is_duplex()
    }

    /// Returns the modes of both bodies, if Envoy lets them be overridden.
    fn configured_modes(&self) -> Option<(BodyMode, BodyMode)> {
        let (request, response) = (self.request.mode?, self.response.mode?);
        let is_fixed = |mode| matches!(mode, BodyMode::FullDuplex | BodyMode::Unknown);
        let may_override = self.has_modes && !is_fixed(request) && !is_fixed(response);
        may_override.then_some((request, response))
    }

    /// Switches off what the agent does not look at. The modes of bodies count in every override,
    /// so they are repeated.
    fn override_after_request(&self) -> Option<ModeOverride> {
        let (request, response) = self.configured_modes()?;
        let events = &self.agent.events;
        let modes = ModeOverride {
            response_headers: match () {
                () if !self.response.fold.is_empty() => SendMode::Send,
                () if self.wants_response_head() => SendMode::Unchanged,
                // The answer about the request's body may change it.
                () if self.expects_request_body(request) => SendMode::Unchanged,
                () => SendMode::Skip,
            },
            request_body: shown(request, events.request_body),
            response_body: shown(response, events.response_body),
            request_trailers: match self.expects_request_body(request) {
                true => trailers_after(request),
                false => trailers(request, events.request_body),
            },
            response_trailers: trailers(response, events.response_body),
        };
        let is_same = modes.response_headers == SendMode::Unchanged
            && modes.request_trailers != SendMode::Send
            && (modes.request_body, modes.response_body) == (request, response);
        (!is_same).then_some(modes)
    }

    /// Returns whether the handler will be asked about the rest of the request.
    fn expects_request_body(&self, mode: BodyMode) -> bool {
        self.agent.events.request_body && mode != BodyMode::None && !self.request.has_ended
    }

    /// Switches the bodies of a tunnel off, and the trailers after a body on.
    fn override_after_response(&self) -> Option<ModeOverride> {
        let (request, response) = self.configured_modes()?;
        let events = &self.agent.events;
        let is_tunnel = self.status == SWITCHING_PROTOCOLS && self.asks_for_tunnel;
        let is_shown = events.response_body && !self.response.has_ended;
        let modes = match is_tunnel {
            true => ModeOverride {
                response_headers: SendMode::Unchanged,
                request_body: BodyMode::None,
                response_body: BodyMode::None,
                request_trailers: SendMode::Unchanged,
                response_trailers: SendMode::Unchanged,
            },
            false => ModeOverride {
                response_headers: SendMode::Unchanged,
                request_body: shown(request, events.request_body),
                response_body: shown(response, events.response_body),
                request_trailers: SendMode::Unchanged,
                response_trailers: match is_shown {
                    true => trailers_after(response),
                    false => SendMode::Unchanged,
                },
            },
        };
        let has_bodies = (request, response) != (BodyMode::None, BodyMode::None);
        let is_wanted = is_tunnel || modes.response_trailers == SendMode::Send;
        (has_bodies && is_wanted).then_some(modes)
    }
}

/// Returns the mode of a body that the agent looks at, or none.
fn shown(mode: BodyMode, is_shown: bool) -> BodyMode {
    if is_shown { mode } else { BodyMode::None }
}

/// Returns the mode of the trailers of a body that is judged. They may be the only sign of the
/// end of a body that comes in parts, whatever the configuration says.
fn trailers_after(mode: BodyMode) -> SendMode {
    match mode {
        BodyMode::Streamed | BodyMode::BufferedPartial => SendMode::Send,
        _ => SendMode::Unchanged,
    }
}

/// Returns the mode of trailers after a body, which are sent since they end the body.
fn trailers(mode: BodyMode, is_shown: bool) -> SendMode {
    match mode != BodyMode::None && !is_shown {
        true => SendMode::Skip,
        false => SendMode::Unchanged,
    }
}
