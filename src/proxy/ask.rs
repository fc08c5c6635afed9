//! Asks several agents at once about one event.

use super::rejection::Rejection;
use super::verdict::{Changes, Denial, Verdict, judge};
use crate::error::CallError;
use crate::pool::Exchange;
use crate::wire::Event;
use smallvec::SmallVec;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};

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
    let mut replies = Replies::new();
    for exchange in &mut *exchanges {
        exchange.push(event).await?;
        replies.push(Reply::Expected(exchange.unanswered()));
    }
    match poll_fn(|cx| poll_replies(exchanges, &mut replies, cx)).await {
        Ok(()) => {}
        Err(Unanswered::Denied(denial)) => return Ok(Verdict::Deny(denial)),
        Err(Unanswered::Failed(error)) => return Err(error),
    }
    let mut all = Changes::default();
    for reply in replies {
        if let Reply::Allowed(changes) = reply {
            all.append(changes);
        }
    }
    Ok(Verdict::Allow(all))
}

/// Replies of several agents to one event, indexed like the exchanges.
pub(super) type Replies = SmallVec<[Reply; 2]>;

/// Reply of one agent to one event.
pub(super) enum Reply {
    /// The agent is not asked about this event.
    NotAsked,
    /// The answer to the event is the last of this many that the agent still gives.
    Expected(usize),
    /// The agent allows the request, with these changes.
    Allowed(Changes),
}

/// Reason why agents do not all allow an event.
pub(super) enum Unanswered {
    Denied(Box<Denial>),
    Failed(CallError),
}

impl From<CallError> for Unanswered {
    fn from(error: CallError) -> Self {
        Self::Failed(error)
    }
}

/// Reason why a transaction ends, before the response for a denial is known.
pub(super) enum Stop {
    Denied(Box<Denial>),
    Rejected(Rejection),
}

impl From<Unanswered> for Stop {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Denied(denial) => Self::Denied(denial),
            Unanswered::Failed(error) => Self::Rejected(error.into()),
        }
    }
}

impl<R: Into<Rejection>> From<R> for Stop {
    fn from(rejection: R) -> Self {
        Self::Rejected(rejection.into())
    }
}

impl From<Box<Denial>> for Stop {
    fn from(denial: Box<Denial>) -> Self {
        Self::Denied(denial)
    }
}

/// Sends an event to the agents that `selects` selects by their position, and waits until all have
/// replied or one decides against the request.
pub(super) async fn ask<E: Event>(
    exchanges: &mut [Exchange],
    event: &E,
    selects: impl Fn(usize, &Exchange) -> bool,
) -> Result<Replies, Stop> {
    let mut selected = (0..exchanges.len()).filter(|at| selects(*at, &exchanges[*at]));
    let (first, second) = (selected.next(), selected.next());
    drop(selected);
    let Some(first) = first else {
        return Ok(Replies::new());
    };
    if second.is_none() {
        // Waits without a queue.
        let changes = exchanges[first].send_and_read(event, judge).await??;
        let mut replies = not_asked(exchanges.len());
        replies[first] = Reply::Allowed(changes);
        return Ok(replies);
    }
    let mut replies = push(exchanges, event, selects).await?;
    poll_fn(|cx| poll_replies(exchanges, &mut replies, cx)).await?;
    Ok(replies)
}

/// Sends an event to the agents that `selects` selects, without waiting for their replies.
pub(super) async fn push<E: Event>(
    exchanges: &mut [Exchange],
    event: &E,
    selects: impl Fn(usize, &Exchange) -> bool,
) -> Result<Replies, CallError> {
    let mut replies = not_asked(exchanges.len());
    for (at, (exchange, reply)) in exchanges.iter_mut().zip(&mut replies).enumerate() {
        if selects(at, exchange) {
            exchange.push(event).await?;
            *reply = Reply::Expected(1);
        }
    }
    Ok(replies)
}

fn not_asked(count: usize) -> Replies {
    (0..count).map(|_| Reply::NotAsked).collect()
}

/// Waits until all agents have replied or one decides against the request.
///
/// Answers before the one to the event may decide against the request too. Changes that they ask
/// for are dropped.
pub(super) fn poll_replies(
    exchanges: &mut [Exchange],
    replies: &mut Replies,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Unanswered>> {
    let mut is_complete = true;
    for (exchange, reply) in exchanges.iter_mut().zip(replies) {
        while let Reply::Expected(count) = *reply {
            let Poll::Ready(answer) = pin!(exchange.next_answer()).poll(cx) else {
                is_complete = false;
                break;
            };
            *reply = match answer.transpose()? {
                None => Reply::NotAsked,
                Some(mut answer) => match judge(exchange.shared_agent_id(), &mut answer) {
                    Err(denial) => {
                        return Poll::Ready(Err(Unanswered::Denied(denial)));
                    }
                    Ok(_) if count > 1 => Reply::Expected(count - 1),
                    Ok(changes) => Reply::Allowed(changes),
                },
            };
        }
    }
    if is_complete {
        Poll::Ready(Ok(()))
    } else {
        Poll::Pending
    }
}
