//! The handler of `tollgate agent`: rules that are tried in order on each event.

mod checked;
mod exchanges;
mod file;
mod judge;
mod keys;
mod rule;

pub(crate) use file::read;
pub(crate) use keys::{parse_path_prefix, parse_text};
pub(crate) use rule::{Effects, Phase, Rule};

use exchanges::{Body, Exchange, Exchanges};
use judge::{Answer, judge_chunk, judge_head};
use rule::RequestHead;
use std::time::Duration;
use tollgate::{
    AgentCapabilities, AgentHandler, AgentResponse, BodyChunk, CancelReason, EventType,
    RequestComplete, RequestHeadersView, ResponseHeadersView,
    control::{AgentFeatures, AgentLimits},
    events::{Configure, GuardrailInspect, WebSocketFrame},
};
#[cfg(feature = "haproxy")]
use tollgate::{Decision, HeaderOp};

/// The message whose headers a rule changes.
#[cfg(feature = "haproxy")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangedMessage {
    Request,
    Response,
    /// The response that a denial gives the client.
    Denial,
}

/// The agent's rules, in the order in which they are tried.
pub(crate) struct Rules {
    rules: Vec<Rule>,
    events: Vec<EventType>,
    /// Delay of every answer.
    delay: Duration,
    /// Number of bytes of a body in which one of the searched texts may have begun.
    tail_len: usize,
    exchanges: Exchanges,
}

impl Rules {
    /// Creates an agent that subscribes to all events and delays each answer.
    pub(crate) fn new(rules: Vec<Rule>, delay: Duration) -> Self {
        let texts = rules.iter().filter_map(|rule| {
            let text = rule.conditions.body_contains.as_ref()?;
            Some(text.needle().len() - 1)
        });
        Self {
            tail_len: texts.max().unwrap_or(0),
            rules,
            events: EventType::ALL.to_vec(),
            delay,
            exchanges: Exchanges::default(),
        }
    }

    /// Subscribes to the events that the rules look at, and to no others.
    pub(crate) fn with_their_events(mut self) -> Self {
        let rules = &self.rules;
        self.events
            .retain(|event_type| rules.iter().any(|rule| rule.looks_at(*event_type)));
        self
    }

    /// Returns whether a rule is tried in a phase.
    #[cfg(feature = "haproxy")]
    pub(crate) fn has_rules_in(&self, phase: Phase) -> bool {
        self.rules.iter().any(|rule| rule.is_tried_in(phase))
    }

    /// Returns whether a rule looks at the headers of the message that a phase belongs to.
    #[cfg(feature = "haproxy")]
    pub(crate) fn look_at_headers_of(&self, phase: Phase) -> bool {
        let mut rules = self
            .rules
            .iter()
            .filter(|rule| rule.conditions.header.is_some());
        rules.any(|rule| rule.on.is_of_request() == phase.is_of_request())
    }

    /// Returns whether a rule of a file is about the bodies of responses. Those of options are
    /// about the bodies of requests as well, and stay useful without.
    #[cfg(feature = "haproxy")]
    pub(crate) fn need_response_bodies(&self) -> bool {
        let mut rules = self.rules.iter().filter(|rule| !rule.is_of_option);
        rules.any(|rule| rule.is_tried_in(Phase::ResponseBody))
    }

    /// Returns the statuses with which rules deny.
    #[cfg(feature = "haproxy")]
    pub(crate) fn statuses(&self) -> impl Iterator<Item = u16> {
        let verdicts = self
            .rules
            .iter()
            .filter_map(|rule| rule.effects.verdict.as_ref());
        verdicts.filter_map(|verdict| match verdict {
            Decision::Block { status, .. } => Some(*status),
            _ => None,
        })
    }

    /// Returns whether a rule of a file is about responses.
    #[cfg(feature = "haproxy")]
    pub(crate) fn judge_responses(&self) -> bool {
        let is_about =
            |rule: &Rule| matches!(rule.on, Phase::ResponseHeaders | Phase::ResponseBody);
        self.rules.iter().any(is_about)
    }

    /// Returns the changes to headers that rules make, each with the message that it is about.
    #[cfg(feature = "haproxy")]
    pub(crate) fn header_changes(&self) -> impl Iterator<Item = (ChangedMessage, &HeaderOp)> {
        self.rules.iter().flat_map(|rule| {
            let effects = &rule.effects;
            let changed = match effects.verdict {
                Some(_) => ChangedMessage::Denial,
                None => ChangedMessage::Response,
            };
            let request = effects.request_headers.iter();
            let response = effects.response_headers.iter();
            request
                .map(|op| (ChangedMessage::Request, op))
                .chain(response.map(move |op| (changed, op)))
        })
    }

    /// Returns the names of the headers of denials.
    #[cfg(feature = "haproxy")]
    pub(crate) fn denial_headers(&self) -> impl Iterator<Item = &String> {
        let verdicts = self
            .rules
            .iter()
            .filter_map(|rule| rule.effects.verdict.as_ref());
        let headers = verdicts.filter_map(|verdict| match verdict {
            Decision::Block { headers, .. } => headers.as_ref(),
            _ => None,
        });
        headers.flat_map(std::collections::HashMap::keys)
    }

    fn judge_request_headers(&self, event: &RequestHeadersView<'_>) -> Answer {
        let head = RequestHead::of(event);
        let facts = |rule: &Rule| rule.judge_request(&head);
        let mut exchange = Exchange {
            request: Some(self.rules.iter().map(facts).collect()),
            ..Exchange::default()
        };
        let answer = judge_head(&self.rules, Phase::RequestHeaders, &exchange);
        if !self.is_needed_after(Phase::RequestHeaders, Rule::needs_request_head) {
            exchange.request = None;
        }
        let id = event.metadata.correlation_id;
        // An earlier exchange of this id has ended.
        self.exchanges.take(id);
        self.keep(id, Phase::RequestHeaders, exchange, answer)
    }

    fn judge_response_headers(&self, event: &ResponseHeadersView<'_>) -> Answer {
        let mut exchange = self
            .exchanges
            .take(event.correlation_id)
            .unwrap_or_default();
        let facts = |rule: &Rule| rule.judge_response(&event.headers);
        exchange.response = Some(self.rules.iter().map(facts).collect());
        let answer = judge_head(&self.rules, Phase::ResponseHeaders, &exchange);
        if !self.is_needed_after(Phase::ResponseHeaders, Rule::needs_response_head) {
            exchange.response = None;
        }
        self.keep(
            event.correlation_id,
            Phase::ResponseHeaders,
            exchange,
            answer,
        )
    }

    fn judge_body(&self, phase: Phase, chunk: &BodyChunk<'_>) -> Answer {
        if !self.rules.iter().any(|rule| rule.is_tried_in(phase)) {
            return Answer::default();
        }
        let id = chunk.correlation_id;
        let mut exchange = self.exchanges.take(id).unwrap_or_default();
        // Some proxies send index 0 with every chunk, so index 0 alone does not mark the first
        // chunk.
        let begun = exchange.body(phase).take();
        let mut body = begun.unwrap_or_else(|| Body::new(self.rules.len(), chunk.chunk_index == 0));
        let answer = judge_chunk(
            &self.rules,
            phase,
            &exchange,
            chunk,
            &mut body,
            self.tail_len,
        );
        if !chunk.is_last {
            *exchange.body(phase) = Some(body);
        }
        self.keep(id, phase, exchange, answer)
    }

    /// Keeps an exchange if later events need it.
    fn keep(&self, id: &str, phase: Phase, exchange: Exchange, answer: Answer) -> Answer {
        let is_needed = exchange.has_body_under_way() || self.is_needed_after(phase, |_| true);
        if answer.is_denial() || !is_needed {
            return answer;
        }
        match self.exchanges.keep(id, exchange) {
            Ok(()) => answer,
            Err(unknown) => answer.failing(unknown),
        }
    }

    /// Returns whether a rule of this kind is tried after a phase.
    fn is_needed_after(&self, phase: Phase, kind: impl Fn(&Rule) -> bool) -> bool {
        let mut rules = self.rules.iter();
        rules.any(|rule| {
            let mut later = Phase::ALL.into_iter().filter(|later| *later > phase);
            kind(rule) && later.any(|later| rule.is_tried_in(later))
        })
    }

    /// Waits for the delays, and returns the response. Called after deciding, so that chunks are
    /// searched in the order of their arrival.
    async fn answer(&self, answer: Answer) -> AgentResponse {
        self.wait(answer.delay).await;
        assert!(!answer.panics, "a rule panics");
        answer.response
    }

    async fn wait(&self, delay: Duration) {
        let delay = delay.saturating_add(self.delay);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    async fn allow(&self) -> AgentResponse {
        self.wait(Duration::ZERO).await;
        AgentResponse::default_allow()
    }
}

impl AgentHandler for Rules {
    fn capabilities(&self) -> AgentCapabilities {
        let sees_bodies = [EventType::RequestBodyChunk, EventType::ResponseBodyChunk]
            .iter()
            .any(|body| self.events.contains(body));
        AgentCapabilities {
            supported_events: self.events.clone(),
            ..AgentCapabilities::new("tollgate", "tollgate agent", env!("CARGO_PKG_VERSION"))
        }
        .with_features(AgentFeatures {
            streaming_body: sees_bodies,
            concurrent_requests: 100,
            cancellation: true,
            ..AgentFeatures::simple()
        })
        // Bodies are searched as they arrive and not stored, so their size needs no real limit.
        .with_limits(AgentLimits {
            max_body_size: 1 << 40,
            max_concurrency: 1024,
            ..AgentLimits::default()
        })
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        let answer = self.judge_request_headers(&event);
        self.answer(answer).await
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        let answer = self.judge_body(Phase::RequestBody, &event);
        self.answer(answer).await
    }

    async fn on_response_headers(&self, event: ResponseHeadersView<'_>) -> AgentResponse {
        let answer = self.judge_response_headers(&event);
        self.answer(answer).await
    }

    async fn on_response_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        let answer = self.judge_body(Phase::ResponseBody, &event);
        self.answer(answer).await
    }

    async fn on_request_complete(&self, event: RequestComplete<'_>) -> AgentResponse {
        self.exchanges.take(event.correlation_id);
        self.allow().await
    }

    async fn on_websocket_frame(&self, _event: WebSocketFrame<'_>) -> AgentResponse {
        self.wait(Duration::ZERO).await;
        AgentResponse::websocket_allow()
    }

    async fn on_guardrail_inspect(&self, _event: GuardrailInspect<'_>) -> AgentResponse {
        self.allow().await
    }

    async fn on_configure(&self, _event: Configure<'_>) -> Result<(), String> {
        self.wait(Duration::ZERO).await;
        Ok(())
    }

    fn on_request_recalled(&self, event: RequestHeadersView<'_>) {
        if !self.is_needed_after(Phase::RequestBody, Rule::needs_request_head) {
            return;
        }
        let id = event.metadata.correlation_id;
        // What is known of this id may be of an earlier exchange, or of one that another agent has
        // judged in part.
        self.exchanges.take(id);
        let head = RequestHead::of(&event);
        let facts = self.rules.iter().map(|rule| rule.judge_request(&head));
        let exchange = Exchange {
            request: Some(facts.collect()),
            ..Exchange::default()
        };
        // An id that is too long leaves the request unknown, which denies.
        let _ = self.exchanges.keep(id, exchange);
    }

    fn on_cancel(&self, correlation_id: &str, _reason: CancelReason) {
        self.exchanges.take(correlation_id);
    }
}
