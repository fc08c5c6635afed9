//! Combines the answers of several agents to one event.

use super::answer::{answer_of, plain_answer};
use super::header_ops::apply_header_ops;
use crate::log::log_line;
use crate::protocol::{AgentResponse, BodyMutation, Decision, HeaderOp};
use bytes::Bytes;
use http::{Response, StatusCode};
use std::collections::HashMap;
use std::mem;
use std::sync::Arc;

/// Combined decision of several agents on one event.
#[derive(Debug)]
pub enum Verdict {
    /// Every agent allows the request, with these changes.
    Allow(Changes),
    /// An agent decided against the request.
    Deny(Box<Denial>),
}

/// Changes that agents ask for when they allow a request, in the order of the agents.
#[derive(Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Changes {
    /// Changes to the request's headers.
    pub request_headers: Vec<HeaderOp>,
    /// Changes to the response's headers.
    pub response_headers: Vec<HeaderOp>,
    /// Changes to the request's body.
    pub request_body: Vec<BodyMutation>,
    /// Changes to the response's body.
    pub response_body: Vec<BodyMutation>,
    /// Hints for choosing an upstream. For equal keys the value of the later agent counts.
    pub routing_metadata: HashMap<String, String>,
    /// Set if an agent wants more of the body before it decides.
    pub needs_more: bool,
}

/// An agent's decision against a request.
#[derive(Debug)]
#[non_exhaustive]
pub struct Denial {
    /// Id of the agent.
    pub agent_id: Arc<str>,
    /// Answer of the agent. Its decision is never [`Decision::Allow`].
    pub response: AgentResponse,
}

impl Changes {
    /// Appends the changes of one more agent. Its decision is ignored.
    pub fn absorb(&mut self, mut response: AgentResponse) {
        self.append(Self::take_from(&mut response));
    }

    fn take_from(response: &mut AgentResponse) -> Self {
        Self {
            request_headers: mem::take(&mut response.request_headers),
            response_headers: mem::take(&mut response.response_headers),
            request_body: response.request_body_mutation.take().into_iter().collect(),
            response_body: response.response_body_mutation.take().into_iter().collect(),
            routing_metadata: mem::take(&mut response.routing_metadata),
            needs_more: response.needs_more,
        }
    }

    pub(super) fn append(&mut self, mut more: Self) {
        self.request_headers.append(&mut more.request_headers);
        self.response_headers.append(&mut more.response_headers);
        self.request_body.append(&mut more.request_body);
        self.response_body.append(&mut more.response_body);
        self.routing_metadata.extend(more.routing_metadata);
        self.needs_more |= more.needs_more;
    }
}

impl Denial {
    /// Returns the HTTP response for the client: [`answer_of`] the decision, with the agent's
    /// changes to the response headers.
    ///
    /// If one of these changes is invalid or not allowed, none is applied and a warning is logged.
    pub fn to_http(&self) -> Response<Bytes> {
        self.to_http_after(&[])
    }

    /// Like [`Denial::to_http`], with the changes to the response headers that agents asked for
    /// before this one.
    pub fn to_http_after(&self, earlier: &[HeaderOp]) -> Response<Bytes> {
        let mut answer = answer_of(&self.response.decision)
            .unwrap_or_else(|| plain_answer(StatusCode::FORBIDDEN));
        for ops in [earlier, &self.response.response_headers] {
            if let Err(error) = apply_header_ops(answer.headers_mut(), ops) {
                let agent = &*self.agent_id;
                log_line!(warn, agent, { agent, error }, "header changes of a denial ignored");
            }
        }
        answer
    }
}

/// Takes the changes out of an answer that allows, or the whole answer if it does not allow.
pub(super) fn judge(
    agent_id: &Arc<str>,
    response: &mut AgentResponse,
) -> Result<Changes, Box<Denial>> {
    if matches!(response.decision, Decision::Allow) {
        return Ok(Changes::take_from(response));
    }
    Err(Box::new(Denial {
        agent_id: Arc::clone(agent_id),
        response: mem::take(response),
    }))
}
