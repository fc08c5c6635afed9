//! `envoy.service.auth.v3.Authorization`: one question about each request.

use crate::agent::{Agent, Warning};
use crate::client::{Client, request_metadata};
use crate::exchange::denial;
use crate::fold::{Fold, HostRule};
use crate::grpc::{Code, GrpcStream, Status};
use crate::wire::{Attributes, CheckAnswer, CheckRequest, HeadChange, Metadata, SetMode};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Response, StatusCode};
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Instant;
use tokio::time::timeout;
use tollgate::proxy::plain_answer;
use tollgate::response::BodyMutation;
use tollgate::{
    AgentResponse, BodyChunk, CancelReason, Decision, Event, RequestBodyChunk, RequestComplete,
    RequestHeaders,
};

const UNDECODABLE: Status = Status::new(Code::Internal, "the check cannot be decoded");

/// Outcome of a check.
enum Outcome {
    /// The request goes on, with changes to its headers and to those of the response.
    Allow(Box<(HeadChange, HeadChange)>),
    Deny(Box<Response<Bytes>>),
    Fail(StatusCode),
    /// Envoy has ended the call.
    Gone,
}

/// Answers one check.
pub(crate) async fn check(agent: &Agent, mut stream: GrpcStream<'_>) {
    agent.counters().checks.add_one();
    let Ok(Some(message)) = stream.next().await else {
        return stream.finish(UNDECODABLE);
    };
    let Ok(request) = CheckRequest::read(&message) else {
        agent.counters().undecodable.add_one();
        return stream.finish(UNDECODABLE);
    };
    let begun = Instant::now();
    let mut check = Check {
        agent,
        id: agent.next_id(),
        metadata: Metadata::default(),
        folds: <(Fold, Fold)>::default(),
    };
    let outcome = {
        let judged = check.judge(&request, &message);
        let gone = poll_fn(|cx| stream.poll_gone(cx));
        tokio::select! {
            biased;
            outcome = judged => outcome,
            () = gone => Outcome::Gone,
        }
    };
    let status = match &outcome {
        Outcome::Allow(_) | Outcome::Gone => 0,
        Outcome::Deny(response) => response.status().as_u16(),
        Outcome::Fail(status) => status.as_u16(),
    };
    let id = check.id;
    if matches!(outcome, Outcome::Gone) {
        agent.counters().cancelled.add_one();
        agent
            .session
            .cancel(id.as_str(), CancelReason::ClientDisconnect);
    } else {
        check.answer(&outcome, &mut stream).await;
        stream.finish(Status::OK);
    }
    if agent.events.complete {
        let event = RequestComplete {
            correlation_id: id.as_str(),
            status,
            duration_ms: begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
            request_body_size: request.body.len(),
            response_body_size: 0,
            upstream_attempts: 0,
            error: None,
        };
        let _ = check.ask(&event).await;
    }
}

/// A check under way.
struct Check<'c> {
    agent: &'c Agent,
    id: crate::agent::Id,
    metadata: Metadata,
    /// Changes to the headers of the request and of the response.
    folds: (Fold, Fold),
}

impl Check<'_> {
    async fn judge(&mut self, request: &CheckRequest<'_>, message: &Bytes) -> Outcome {
        match self.ask_about(request, message).await {
            Ok(()) => self.changes(request),
            Err(outcome) => outcome,
        }
    }

    async fn ask_about(
        &mut self,
        request: &CheckRequest<'_>,
        message: &Bytes,
    ) -> Result<(), Outcome> {
        let agent = self.agent;
        let has_body = !request.body.is_empty();
        let mut is_undecided = false;
        if agent.events.request_headers {
            let answer = self.ask_about_head(request).await?;
            is_undecided = self.absorb(answer)?;
        }
        if agent.events.request_body && (has_body || is_undecided) {
            let may_be_partial = agent.config().allows_partial_bodies;
            if request.body.len() > agent.max_body || (request.is_partial() && !may_be_partial) {
                agent.counters().too_large.add_one();
                return Err(Outcome::Fail(StatusCode::PAYLOAD_TOO_LARGE));
            }
            let id = self.id;
            let event = BodyChunk {
                correlation_id: id.as_str(),
                data: message.slice_ref(request.body),
                is_last: !request.is_partial(),
                total_size: request.head.content_length(),
                chunk_index: 0,
                bytes_so_far: request.body.len(),
            };
            let answer = self.ask(&RequestBodyChunk(event)).await?;
            is_undecided = self.absorb(answer)?;
        } else if agent.events.request_body && request.is_partial() {
            agent.counters().unseen_bodies.add_one();
            agent.warn_once(Warning::UnseenBody);
        }
        // The agent has seen all that there is.
        if is_undecided && !request.is_partial() {
            agent.counters().undecided.add_one();
            return Err(Outcome::Fail(StatusCode::INTERNAL_SERVER_ERROR));
        }
        Ok(())
    }

    async fn ask_about_head(&self, request: &CheckRequest<'_>) -> Result<AgentResponse, Outcome> {
        let attributes = Attributes {
            protocol: request.protocol,
            server_name: request.server_name,
            ..Attributes::default()
        };
        let client = Client::at(request.source_address, request.source_port);
        let mut metadata = request_metadata(&attributes, &request.head, &client);
        metadata.correlation_id = self.id.as_str();
        let event = RequestHeaders {
            metadata,
            method: &request.head.method,
            uri: &request.head.path,
            headers: &request.head.fields[..],
        };
        self.ask(&event).await
    }

    /// Takes the decision and the changes out of an answer. Returns `true` if the agent asks for
    /// more.
    fn absorb(&mut self, mut answer: AgentResponse) -> Result<bool, Outcome> {
        self.metadata.absorb(&mut answer);
        if answer.decision != Decision::Allow {
            self.agent.counters().denials.add_one();
            return Err(Outcome::Deny(Box::new(denial(&answer, &[]))));
        }
        let changes_body = |mutation: &Option<BodyMutation>| {
            mutation
                .as_ref()
                .is_some_and(|mutation| !mutation.is_pass_through())
        };
        if changes_body(&answer.request_body_mutation)
            || changes_body(&answer.response_body_mutation)
        {
            return Err(self.impossible("ext_authz cannot change bodies"));
        }
        // `host` is set whatever the configuration of Envoy says.
        let added = self
            .folds
            .0
            .add_ops(&answer.request_headers, self.agent.config().host);
        let added = added.and_then(|()| {
            self.folds
                .1
                .add_ops(&answer.response_headers, HostRule::MayNotSet)
        });
        if let Err(refused) = added {
            return Err(self.impossible(&refused.to_string()));
        }
        if self.folds.1.removes_any() {
            return Err(self.impossible("ext_authz cannot remove response headers"));
        }
        Ok(answer.needs_more)
    }

    fn impossible(&self, reason: &str) -> Outcome {
        self.agent.counters().refused_changes.add_one();
        tracing::debug!(reason, "a change of the agent is not possible");
        self.agent.warn_once(Warning::ImpossibleChange);
        Outcome::Fail(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Returns the changes. Envoy adds to headers of a request only if they are there.
    fn changes(&mut self, request: &CheckRequest<'_>) -> Outcome {
        let mut change = self.folds.0.take();
        let mut seen: Vec<http::HeaderName> = Vec::new();
        for (name, _, mode) in &mut change.set {
            let is_there = seen.contains(name) || request.head.field(name.as_str()).is_some();
            if !is_there {
                *mode = SetMode::Replace;
            }
            seen.push(name.clone());
        }
        Outcome::Allow(Box::new((change, self.folds.1.take())))
    }

    async fn ask<E: Event>(&self, event: &E) -> Result<AgentResponse, Outcome> {
        let asked = pin!(self.agent.session.ask(self.id.as_str(), event));
        let asked = AssertUnwindSafe(asked).catch_unwind();
        let counters = self.agent.counters();
        match timeout(self.agent.config().answer_timeout, asked).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(_))) => {
                counters.too_large.add_one();
                Err(Outcome::Fail(StatusCode::PAYLOAD_TOO_LARGE))
            }
            Ok(Err(_)) => {
                counters.panics.add_one();
                Err(Outcome::Fail(StatusCode::INTERNAL_SERVER_ERROR))
            }
            Err(_) => {
                counters.timeouts.add_one();
                Err(Outcome::Fail(StatusCode::GATEWAY_TIMEOUT))
            }
        }
    }

    async fn answer(&self, outcome: &Outcome, stream: &mut GrpcStream<'_>) {
        let failed;
        let answer = match outcome {
            Outcome::Allow(changes) => CheckAnswer::Allow {
                request: &changes.0,
                response: &changes.1,
            },
            Outcome::Deny(response) => CheckAnswer::Deny(response),
            Outcome::Fail(status) => {
                failed = plain_answer(*status);
                CheckAnswer::Fail(&failed)
            }
            Outcome::Gone => return,
        };
        let metadata = (!self.metadata.is_empty()).then_some(&self.metadata);
        let frame = answer.frame(metadata, &mut stream.out);
        // An error means that Envoy is gone.
        let _ = stream.send(frame, Bytes::new()).await;
    }
}
