//! The time by which a handler has to answer.

use crate::clock;
use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

thread_local! {
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Returns the time that is left for the call that the current task answers. After it nobody waits
/// for the answer.
///
/// A handler can ask for it until it answers, but not in tasks that it spawns. `None` outside of
/// handlers, and if the proxy does not say. It does in MessagePack with version 2 of tollgate's
/// extension, and in the process of the agent.
///
/// ```
/// use std::time::Duration;
/// use tollgate::{AgentResponse, RequestHeadersView};
///
/// async fn on_request_headers(event: RequestHeadersView<'_>) -> AgentResponse {
///     let is_short = |left| left < Duration::from_millis(20);
///     if tollgate::time_left().is_some_and(is_short) {
///         // Decide without asking the database.
///     }
///     AgentResponse::default_allow()
/// }
/// ```
pub fn time_left() -> Option<Duration> {
    let deadline = DEADLINE.get()?;
    Some(deadline.saturating_duration_since(clock::now()))
}

/// Polls a handler. Meanwhile [`time_left`] returns the time until `deadline`.
pub(crate) fn poll_until<F: Future>(
    deadline: Option<Instant>,
    handler: Pin<&mut F>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    let _restored = Restore(DEADLINE.replace(deadline));
    handler.poll(cx)
}

/// Restores the deadline of a handler that polls another one.
struct Restore(Option<Instant>);

impl Drop for Restore {
    fn drop(&mut self) {
        DEADLINE.set(self.0);
    }
}
