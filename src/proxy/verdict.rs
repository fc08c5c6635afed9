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
use std::mem;
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
    pub fn absorb(&mut self, mut response: AgentResponse) {
        self.append(Self::taken_from(&mut response));
    }

    fn taken_from(response: &mut AgentResponse) -> Self {
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
        let judged = only.send_and_read(event, judge).await?;
        return Ok(judged.map_or_else(Verdict::Deny, Verdict::Allow));
    }
    for exchange in &mut *exchanges {
        exchange.push(event).await?;
    }
    let mut together = Together::default();
    together.changes.resize_with(exchanges.len(), || None);
    poll_fn(|cx| together.poll(exchanges, cx)).await
}

/// What the agents want that have allowed the event, by the place of the exchange.
#[derive(Default)]
struct Together {
    changes: SmallVec<[Option<Changes>; 2]>,
}

impl Together {
    fn poll(
        &mut self,
        exchanges: &mut [Exchange],
        cx: &mut Context<'_>,
    ) -> Poll<Result<Verdict, AgentProtocolError>> {
        let mut is_complete = true;
        for (exchange, changes) in exchanges.iter_mut().zip(&mut self.changes) {
            // The answer that is asked for is the last; those before it are left from earlier.
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

/// What an agent wants changed, if it allows the event.
fn judge(agent_id: &Arc<str>, response: &mut AgentResponse) -> Result<Changes, Box<Denial>> {
    if matches!(response.decision, Decision::Allow) {
        return Ok(Changes::taken_from(response));
    }
    Err(Box::new(Denial {
        agent_id: Arc::clone(agent_id),
        response: mem::take(response),
    }))
}
