//! Combines the answers of several agents to one event.

use super::answer::{answer_of, plain_answer};
use super::header_ops::apply_header_ops;
use crate::error::CallError;
use crate::log::log_line;
use crate::pool::Exchange;
use crate::protocol::{AgentResponse, BodyMutation, Decision, HeaderOp};
use crate::wire::Event;
use bytes::Bytes;
use http::{Response, StatusCode};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::future::poll_fn;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

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

    fn append(&mut self, mut more: Self) {
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
        let mut answer = answer_of(&self.response.decision)
            .unwrap_or_else(|| plain_answer(StatusCode::FORBIDDEN));
        if let Err(error) = apply_header_ops(answer.headers_mut(), &self.response.response_headers)
        {
            let agent = &*self.agent_id;
            log_line!(warn, agent, { agent, error }, "header changes of a denial ignored");
        }
        answer
    }
}

/// Sends one event to several agents at once and combines their answers.
///
/// Returns as soon as one agent decides against the request, or the call to an agent that fails
/// closed fails. The answers of the other agents are not awaited then. Answers that are available
/// at the same time are considered in the order of `exchanges`. Agents that fail open count as
/// allowing.
///
/// If an event that was pushed earlier on one of the exchanges is still unanswered, its answer may
/// deny the request as well. Changes that such an answer asks for are dropped.
///
/// # Errors
///
/// Those of [`Exchange::send`].
pub async fn ask_together<E: Event>(
    exchanges: &mut [Exchange],
    event: &E,
) -> Result<Verdict, CallError> {
    if let [only] = exchanges {
        let judged = only.send_and_read(event, judge).await?;
        return Ok(judged.map_or_else(Verdict::Deny, Verdict::Allow));
    }
    for exchange in &mut *exchanges {
        exchange.push(event).await?;
    }
    let mut joint = JointCall::default();
    joint.changes.resize_with(exchanges.len(), || None);
    poll_fn(|cx| joint.poll(exchanges, cx)).await
}

/// Changes of the agents that have allowed the event so far, indexed like the exchanges.
#[derive(Default)]
struct JointCall {
    changes: SmallVec<[Option<Changes>; 2]>,
}

impl JointCall {
    fn poll(
        &mut self,
        exchanges: &mut [Exchange],
        cx: &mut Context<'_>,
    ) -> Poll<Result<Verdict, CallError>> {
        let mut is_complete = true;
        for (exchange, changes) in exchanges.iter_mut().zip(&mut self.changes) {
            // The last answer is the one to this event. Those before it belong to events that were
            // pushed earlier; a later answer overwrites their changes.
            while exchange.unanswered() > 0 {
                let Poll::Ready(answer) = pin!(exchange.next_answer()).poll(cx) else {
                    is_complete = false;
                    break;
                };
                let judged = answer
                    .transpose()?
                    .map(|mut answer| judge(exchange.shared_agent_id(), &mut answer));
                match judged {
                    Some(Ok(wanted)) => *changes = Some(wanted),
                    Some(Err(denial)) => return Poll::Ready(Ok(Verdict::Deny(denial))),
                    None => break,
                }
            }
        }
        if !is_complete {
            return Poll::Pending;
        }
        let changes = self.changes.drain(..).flatten();
        let all = changes.reduce(|mut all, wanted| {
            all.append(wanted);
            all
        });
        Poll::Ready(Ok(Verdict::Allow(all.unwrap_or_default())))
    }
}

/// Takes the changes out of an answer that allows, or the whole answer if it does not allow.
fn judge(agent_id: &Arc<str>, response: &mut AgentResponse) -> Result<Changes, Box<Denial>> {
    if matches!(response.decision, Decision::Allow) {
        return Ok(Changes::take_from(response));
    }
    Err(Box::new(Denial {
        agent_id: Arc::clone(agent_id),
        response: mem::take(response),
    }))
}
