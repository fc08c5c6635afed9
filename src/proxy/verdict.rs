use super::answer::{answer_of, plain_answer};
use super::header_ops::apply_header_ops;
use crate::error::AgentProtocolError;
use crate::pool::Exchange;
use crate::protocol::{AgentResponse, BodyMutation, Decision, HeaderOp};
use crate::wire::Event;
use bytes::Bytes;
use http::{Response, StatusCode};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// What several agents say about one event together.
#[derive(Debug)]
pub enum Verdict {
    /// Every agent allows the request.
    Allow(Changes),
    /// An agent decided against it.
    Deny(Box<Denial>),
}

/// What the agents that allow a request want changed, in the order of the agents.
#[derive(Debug, Default, PartialEq)]
pub struct Changes {
    /// Changes to the request's headers.
    pub request_headers: Vec<HeaderOp>,
    /// Changes to the response's headers.
    pub response_headers: Vec<HeaderOp>,
    /// Changes to the request's body.
    pub request_body: Vec<BodyMutation>,
    /// Changes to the response's body.
    pub response_body: Vec<BodyMutation>,
    /// Hints for choosing an upstream. What a later agent says of a key replaces what an earlier one said.
    pub routing_metadata: HashMap<String, String>,
    /// Whether one of the agents wants more of the body before it decides.
    pub needs_more: bool,
}

/// An agent's decision against a request.
#[derive(Debug)]
pub struct Denial {
    /// Which agent.
    pub agent_id: Arc<str>,
    /// What it answered; its decision is not to allow.
    pub response: AgentResponse,
}

impl Changes {
    /// Adds what one more agent wants, behind what others want.
    pub fn absorb(&mut self, response: AgentResponse) {
        self.request_headers.extend(response.request_headers);
        self.response_headers.extend(response.response_headers);
        self.request_body.extend(response.request_body_mutation);
        self.response_body.extend(response.response_body_mutation);
        self.routing_metadata.extend(response.routing_metadata);
        self.needs_more |= response.needs_more;
    }
}

impl Denial {
    /// The answer to the client: [`answer_of`] the decision, with the agent's changes to the response's headers.
    /// Changes that are not to be followed are left out, all of them.
    pub fn to_http(&self) -> Response<Bytes> {
        let mut answer = answer_of(&self.response.decision)
            .unwrap_or_else(|| plain_answer(StatusCode::FORBIDDEN));
        if let Err(error) = apply_header_ops(answer.headers_mut(), &self.response.response_headers)
        {
            tracing::warn!(agent = &*self.agent_id, %error, "an agent's changes to its answer are left out");
        }
        answer
    }
}

/// Puts one event to several agents at once.
///
/// The first answer against the request ends it, as does the first failure of an agent that fails closed,
/// whichever agent it comes from; answers that are there at the same time are looked at in the order of the
/// exchanges. What the others would have said is not waited for. Agents that fail open allow, as everywhere.
///
/// Where an event that was pushed before is unanswered still, its answer may deny the request too; changes that
/// it asks for come too late.
///
/// # Errors
///
/// As for [`Exchange::send`].
pub async fn ask_together<E: Event>(
    exchanges: &mut [Exchange],
    event: &E,
) -> Result<Verdict, AgentProtocolError> {
    if let [only] = exchanges {
        let response = only.send(event).await?;
        return Ok(
            judge(only, response).map_or_else(Verdict::Deny, |response| {
                let mut changes = Changes::default();
                changes.absorb(response);
                Verdict::Allow(changes)
            }),
        );
    }
    for exchange in &mut *exchanges {
        exchange.push(event).await?;
    }
    let mut together = Together::default();
    together.responses.resize_with(exchanges.len(), || None);
    poll_fn(|cx| together.poll(exchanges, cx)).await
}

/// The answers that are there, by the place of the exchange.
#[derive(Default)]
struct Together {
    responses: SmallVec<[Option<AgentResponse>; 2]>,
}

impl Together {
    fn poll(
        &mut self,
        exchanges: &mut [Exchange],
        cx: &mut Context<'_>,
    ) -> Poll<Result<Verdict, AgentProtocolError>> {
        let mut is_complete = true;
        for (exchange, response) in exchanges.iter_mut().zip(&mut self.responses) {
            // The answer that is asked for is the last; those before it are left from earlier.
            while exchange.unanswered() > 0 {
                let Poll::Ready(answer) = pin!(exchange.next_answer()).poll(cx) else {
                    is_complete = false;
                    break;
                };
                match answer.transpose()?.map(|answer| judge(exchange, answer)) {
                    Some(Ok(allowing)) => *response = Some(allowing),
                    Some(Err(denial)) => return Poll::Ready(Ok(Verdict::Deny(denial))),
                    None => break,
                }
            }
        }
        if !is_complete {
            return Poll::Pending;
        }
        let mut changes = Changes::default();
        let responses = self.responses.drain(..).flatten();
        responses.for_each(|response| changes.absorb(response));
        Poll::Ready(Ok(Verdict::Allow(changes)))
    }
}

/// The same response, if it allows.
fn judge(exchange: &Exchange, response: AgentResponse) -> Result<AgentResponse, Box<Denial>> {
    if response.decision == Decision::Allow {
        return Ok(response);
    }
    Err(Box::new(Denial {
        agent_id: exchange.shared_agent_id(),
        response,
    }))
}
