//! One HTTP request and its response, as events and answers of agents.

mod bodies;
mod frames;
mod response;

pub use bodies::PassedChunk;

use super::ask::{Replies, Reply, Stop, ask};
use super::body_flow::BodyFlow;
use super::chain::{AgentChain, AgentRole, Chain, CodingMode, RequestId, WebSocketMode};
use super::client::ClientInfo;
use super::content;
use super::head::{BadRequest, RequestHead, is_websocket, normalise};
use super::header_ops::apply_header_ops;
use super::message::Message;
use super::rejection::Rejection;
use crate::error::CallError;
use crate::events::{IpText, Timestamp};
use crate::log::log_line;
use crate::pool::Exchange;
use crate::protocol::events::{Metadata, RequestComplete, RequestHeaders};
use crate::protocol::{CancelReason, EventType, HeaderOp};
use http::Version;
use http::header::{HOST, HeaderName};
use smallvec::SmallVec;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// One HTTP request and its response on their way through the agents of a chain.
///
/// An integration calls the methods in the order in which things happen, and forwards what they let
/// go. Every method that fails ends the transaction: the client gets
/// [`Rejection::into_response`], or a broken body if it has the head already.
///
/// 1. [`judge_request`](Self::judge_request) with the head of the request, before an upstream is
///    chosen.
/// 2. [`push_chunk`](Self::push_chunk) with each chunk of the body, and
///    [`next_chunk`](Self::next_chunk) for what may go on; [`judge_chunk`](Self::judge_chunk) does
///    both. The head waits as long as [`holds_head`](Self::holds_head) says, then
///    [`settle_request_head`](Self::settle_request_head) applies what agents have changed since.
/// 3. The same for the response, whose interim heads (1xx, except 101) are not judged.
/// 4. [`complete`](Self::complete). A transaction that is dropped before is cancelled at agents.
///
/// # Bodies
///
/// Agents that subscribe to bodies see them as their [`BodyMode`](super::BodyMode) and
/// [`CodingMode`](super::CodingMode) say. What goes on is:
///
/// * The bytes that came, if no agent with [`AgentRole::Changes`](super::AgentRole::Changes) sees
///   the body, or the whole body was judged before its head went on and nobody changed it.
/// * Otherwise the bytes that agents saw and changed, without a coding. `content-length`,
///   `content-encoding` and what is true of the original bytes only (digests, `etag`,
///   `content-range`) are adapted or removed.
///
/// An agent that asks for more ([`needs_more`](crate::AgentResponse::needs_more)) has not decided:
/// it gets the end of the body in any case, as an empty chunk if the request has no body.
pub struct Transaction {
    chain: Arc<Chain>,
    id: RequestId,
    began: Instant,
    client: Option<SocketAddr>,
    upstream_attempts: u32,
    exchanges: SmallVec<[Exchange; 2]>,
    request: BodyFlow,
    response: BodyFlow,
    /// Changes of the request's head that agents asked for on its body.
    request_headers: Vec<HeaderOp>,
    /// Changes of the response's head that agents asked for before it arrived.
    response_headers: Vec<HeaderOp>,
    has_request_body: bool,
    /// Set if the request goes on with the WebSocket protocol, if the upstream accepts it.
    is_websocket: bool,
    has_request_head_gone: bool,
    has_response_head_gone: bool,
    /// Why the transaction ends early: for agents that owe an answer then.
    cancel_reason: Option<CancelReason>,
    /// The agent that has not answered in time, and may still be busy with the event.
    late_agent: Option<Arc<str>>,
    /// Set once a rejection was counted.
    is_rejected: bool,
    is_over: bool,
}

impl AgentChain {
    /// Begins the transaction of one HTTP request.
    pub fn begin(&self) -> Transaction {
        let chain = self.shared();
        Transaction::new(Arc::clone(chain), chain.ids.next())
    }
}

impl Transaction {
    fn new(chain: Arc<Chain>, id: RequestId) -> Self {
        Self {
            request: BodyFlow::new(Message::Request, &chain),
            response: BodyFlow::new(Message::Response, &chain),
            chain,
            id,
            began: Instant::now(),
            client: None,
            upstream_attempts: 0,
            exchanges: SmallVec::new(),
            request_headers: Vec::new(),
            response_headers: Vec::new(),
            has_request_body: false,
            is_websocket: false,
            has_request_head_gone: false,
            has_response_head_gone: false,
            cancel_reason: None,
            late_agent: None,
            is_rejected: false,
            is_over: false,
        }
    }

    /// Returns the correlation id of the request's events.
    pub fn id(&self) -> &str {
        self.id.as_str()
    }

    /// Returns the canonical address of the client, once the head was judged.
    pub fn client(&self) -> Option<SocketAddr> {
        self.client
    }

    /// Brings the head of a request into one form (see below), asks the agents about it, and
    /// applies the changes that they ask for.
    ///
    /// Whichever version of HTTP the client speaks:
    ///
    /// * The header `host` holds the authority of the target, which has origin form and, by
    ///   [`PathForm`](super::PathForm), a normal path.
    /// * Several `cookie` headers are one.
    /// * Headers of the connection, and those that the client names in `connection`, are gone.
    ///   What agents set stays. Offers of other protocols than WebSocket are dropped.
    /// * The client's address is that of [`ClientInfo`], behind
    ///   [`trusted_hops`](super::ChainConfig::trusted_hops).
    ///
    /// `has_body` is `false` if the request certainly has no body.
    ///
    /// # Errors
    ///
    /// A [`Rejection`], which ends the transaction.
    pub async fn judge_request(
        &mut self,
        head: &mut impl RequestHead,
        client: ClientInfo<'_>,
        has_body: bool,
    ) -> Result<(), Rejection> {
        let judged = self.judge_request_head(head, client, has_body).await;
        self.counted(judged)
    }

    async fn judge_request_head(
        &mut self,
        head: &mut impl RequestHead,
        client: ClientInfo<'_>,
        has_body: bool,
    ) -> Result<(), Rejection> {
        if let Err(rejection) = self.prepare_request(head, client, has_body) {
            // Agents have not heard of the request, and do not hear of its end.
            self.exchanges.clear();
            return Err(rejection);
        }
        self.ask_about_request(head, client, has_body).await?;
        self.has_request_body = has_body;
        if !has_body && self.request.is_undecided() {
            self.judge_empty_body(Message::Request).await?;
            apply_header_ops(head, &std::mem::take(&mut self.request_headers))?;
        }
        self.is_websocket = is_websocket(head);
        Ok(())
    }

    /// Does what comes before agents are asked.
    fn prepare_request(
        &mut self,
        head: &mut impl RequestHead,
        client: ClientInfo<'_>,
        has_body: bool,
    ) -> Result<(), Rejection> {
        normalise(head, self.chain.config.path_form)?;
        self.client = client.address(head.headers(), self.chain.config.trusted_hops)?;
        self.open_exchanges()?;
        if is_websocket(head) && !self.forwards_websockets() {
            return Err(Rejection::WebSocket);
        }
        if is_websocket(head) && has_body {
            return Err(BadRequest::WebSocketBody.into());
        }
        self.prepare_for_response(head)?;
        self.request.watch(&self.chain, &self.exchanges);
        if has_body {
            self.request
                .plan_coding(&self.chain, &self.exchanges, head.headers())?;
        }
        Ok(())
    }

    fn forwards_websockets(&self) -> bool {
        match self.chain.config.websockets {
            WebSocketMode::Inspect => self.exchanges.is_empty() || self.watches_frames(),
            WebSocketMode::Pass => true,
            WebSocketMode::Refuse => false,
        }
    }

    fn open_exchanges(&mut self) -> Result<(), Rejection> {
        for agent in &self.chain.agents {
            self.exchanges.push(agent.agent.exchange(self.id.as_str())?);
        }
        Ok(())
    }

    /// Asks the upstream for a response that agents can look into and change.
    fn prepare_for_response(&self, head: &mut impl RequestHead) -> Result<(), Rejection> {
        let (mut may_change, mut codings) = (false, CodingMode::Pass);
        for (agent, exchange) in self.chain.agents.iter().zip(&self.exchanges) {
            if exchange.is_subscribed(EventType::ResponseBodyChunk) {
                may_change |= agent.role == AgentRole::Changes;
                codings = codings.max(agent.codings);
            }
        }
        if may_change {
            content::ask_for_whole(head);
        }
        Ok(content::restrict_codings(head, codings)?)
    }

    async fn ask_about_request(
        &mut self,
        head: &mut impl RequestHead,
        client: ClientInfo<'_>,
        has_body: bool,
    ) -> Result<(), Rejection> {
        let timestamp = Timestamp::now();
        let client_ip = self.client.map(|address| IpText::from(address.ip()));
        let id = self.id;
        let chain = Arc::clone(&self.chain);
        for stage in &chain.stages {
            let replies = {
                let uri = head.path_and_query();
                let headers = head.headers();
                let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
                let event = RequestHeaders {
                    metadata: Metadata {
                        correlation_id: id.as_str(),
                        request_id: id.as_str(),
                        client_ip: client_ip.as_deref().unwrap_or_default(),
                        client_port: self.client.map_or(0, |address| address.port()),
                        server_name: text(&HOST),
                        protocol: protocol(head.version()),
                        tls_version: client.tls_version,
                        tls_cipher: client.tls_cipher,
                        timestamp: &timestamp,
                        traceparent: text(&TRACEPARENT),
                        body_follows: Some(has_body),
                        ..Metadata::default()
                    },
                    method: head.method().as_str(),
                    uri: &uri,
                    headers,
                };
                let kind = EventType::RequestHeaders;
                let exchanges = &mut self.exchanges[stage.clone()];
                ask(exchanges, &event, |_, exchange| {
                    exchange.is_subscribed(kind)
                })
                .await
            };
            let replies = replies.map_err(|stop| self.stop(stop))?;
            let ops = self.take_head_replies(stage.start, replies, Message::Request)?;
            apply_header_ops(head, &ops)?;
        }
        Ok(())
    }

    /// Notes who is undecided, and returns the changes of the head in question.
    fn take_head_replies(
        &mut self,
        first: usize,
        replies: Replies,
        message: Message,
    ) -> Result<Vec<HeaderOp>, Rejection> {
        let mut ops = Vec::new();
        for (at, reply) in (first..).zip(replies) {
            let Reply::Allowed(changes) = reply else {
                continue;
            };
            let flow = match message {
                Message::Request => &mut self.request,
                Message::Response => &mut self.response,
            };
            if changes.needs_more && !self.exchanges[at].is_subscribed(message.event_type()) {
                return Err(Rejection::Undecided(
                    self.chain.agents[at].agent.shared_id(),
                ));
            }
            flow.set_undecided(at, changes.needs_more);
            match message {
                Message::Request => {
                    ops.extend(changes.request_headers);
                    self.response_headers.extend(changes.response_headers);
                }
                Message::Response => {
                    if !changes.request_headers.is_empty() {
                        return Err(Rejection::TooLate(self.chain.agents[at].agent.shared_id()));
                    }
                    ops.extend(changes.response_headers);
                }
            }
        }
        Ok(ops)
    }

    /// Applies changes of the head that agents asked for on the body, and adapts the headers that
    /// describe the body. Call it when the head goes on, and for each further attempt with a copy
    /// of the head as it was before.
    ///
    /// # Errors
    ///
    /// [`Rejection::Headers`] if an agent asked for a change that is not permitted.
    pub fn settle_request_head(&mut self, head: &mut impl RequestHead) -> Result<(), Rejection> {
        let settled = self.apply_to_request(head);
        self.counted(settled)
    }

    fn apply_to_request(&mut self, head: &mut impl RequestHead) -> Result<(), Rejection> {
        self.has_request_head_gone = true;
        self.upstream_attempts += 1;
        apply_header_ops(head, &self.request_headers)?;
        if self.has_request_body {
            content::describe(head, &mut self.request)?;
        }
        Ok(())
    }

    /// Counts a rejection that the integration itself makes, such as
    /// [`Rejection::RequestBodyTimeout`], in the [`rejections`] of the pool's metrics. Those that
    /// methods return are counted already.
    ///
    /// [`rejections`]: crate::metrics::ProtocolMetricsSnapshot::rejections
    pub fn count_rejection(&mut self, rejection: &Rejection) {
        if let (false, Some(kind)) = (self.is_rejected, rejection.kind()) {
            self.is_rejected = true;
            self.chain.pool.count_rejection(kind);
        }
    }

    fn counted<T>(&mut self, result: Result<T, Rejection>) -> Result<T, Rejection> {
        if let Err(rejection) = &result {
            self.count_rejection(rejection);
        }
        result
    }

    fn check_not_over(&self) -> Result<(), Rejection> {
        if self.is_over {
            return Err(Rejection::Over);
        }
        Ok(())
    }

    /// Notes why the transaction ends, and returns the rejection.
    fn stop(&mut self, stop: Stop) -> Rejection {
        let denial = match stop {
            Stop::Rejected(rejection) => {
                if let Rejection::Failed(CallError::Timeout { agent_id, .. }) = &rejection {
                    self.cancel_reason = Some(CancelReason::Timeout);
                    self.late_agent = Some(Arc::clone(agent_id));
                }
                return rejection;
            }
            Stop::Denied(denial) => denial,
        };
        self.cancel_reason = Some(CancelReason::BlockedByAgent);
        let agent = &*denial.agent_id;
        let decision = denial.response.decision.as_str();
        log_line!(info, agent, { agent, decision }, "an agent denied the request");
        Rejection::Denied {
            agent: Arc::clone(&denial.agent_id),
            response: Box::new(denial.to_http_after(&self.response_headers)),
        }
    }

    /// Tells the agents that nobody waits for them any more.
    pub fn cancel(&mut self, reason: CancelReason) {
        self.is_over = true;
        for exchange in self.exchanges.drain(..) {
            exchange.cancel(reason);
        }
    }

    /// Tells the agents that the request is over. Does not wait for their answers.
    ///
    /// `error` says why the client did not get the whole response. Must be called within a tokio
    /// runtime.
    pub fn complete(&mut self, status: u16, error: Option<String>) {
        self.is_over = true;
        let exchanges = std::mem::take(&mut self.exchanges);
        let late = self.late_agent.take();
        let owes = |exchange: &Exchange| {
            exchange.unanswered() > 0 || late.as_deref() == Some(exchange.agent_id())
        };
        let (unanswered, mut exchanges): (SmallVec<[Exchange; 2]>, SmallVec<[Exchange; 2]>) =
            exchanges.into_iter().partition(owes);
        let reason = self.cancel_reason.unwrap_or(match error {
            Some(_) => CancelReason::UpstreamError,
            None => CancelReason::BlockedByAgent,
        });
        for exchange in unanswered {
            exchange.cancel(reason);
        }
        exchanges.retain(|exchange| exchange.is_subscribed(EventType::RequestComplete));
        if exchanges.is_empty() {
            return;
        }
        let (id, began, upstream_attempts) = (self.id, self.began, self.upstream_attempts);
        let (received, sent) = (self.request.received, self.response.received);
        let mut notifying = Box::pin(async move {
            let event = RequestComplete {
                correlation_id: id.as_str(),
                status,
                duration_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
                request_body_size: received,
                response_body_size: sent,
                upstream_attempts,
                error: error.as_deref(),
            };
            for exchange in &mut exchanges {
                if let Err(error) = exchange.send(&event).await {
                    let agent = exchange.agent_id();
                    log_line!(debug, agent, { agent, error }, "cannot notify of a request's end");
                }
            }
        });
        // Usually the events are sent by the first poll, which saves spawning a task.
        let polled = notifying
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
        if polled == Poll::Pending {
            tokio::spawn(notifying);
        }
    }
}

impl Drop for Transaction {
    /// Cancels the transaction at the agents, as its client has gone away, unless it is complete.
    fn drop(&mut self) {
        if !self.is_over {
            self.cancel(CancelReason::ClientDisconnect);
        }
    }
}

/// Returns the name of an HTTP version in events.
const fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/proxy/transaction.rs"]
mod tests;
