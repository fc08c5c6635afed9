//! What is told of single calls to whoever listens to the target `tollgate::call` at level debug.

use super::ask::{Asked, Inquiry, Unanswered};
use crate::wire::Event;
use tracing::field::Empty;
use tracing::{Instrument, Level, debug, debug_span};

const TARGET: &str = "tollgate::call";

/// The call that `$asking` makes, in a span that says how it ended, if anybody listens. While nobody does, that costs a
/// comparison: a function would have to move the future.
macro_rules! traced {
    ($agent:expr, $inquiry:expr, $event:expr, $asking:expr) => {
        if $crate::pool::trace::is_wanted() {
            Box::pin($crate::pool::trace::told($agent, $inquiry, $event, $asking)).await
        } else {
            $asking.await
        }
    };
}
pub(super) use traced;

pub(super) fn is_wanted() -> bool {
    tracing::enabled!(target: TARGET, Level::DEBUG)
}

/// The names of the span, its fields and their values are part of the public interface: see docs/operations.md.
pub(super) async fn told<E: Event>(
    agent: &str,
    inquiry: Inquiry<'_>,
    event: &E,
    asking: impl Future<Output = Asked>,
) -> Asked {
    let correlation_id = inquiry.correlation_id;
    let span = debug_span!(
        target: TARGET,
        "agent_call",
        agent,
        correlation_id,
        event = inquiry.kind.as_str(),
        traceparent = event.traceparent(),
        decision = Empty,
        error = Empty,
    );
    let asked = asking.instrument(span.clone()).await;
    let duration_us = inquiry.limit.started.elapsed().as_micros() as u64;
    span.in_scope(|| match &asked {
        Ok(call) => {
            let decision = call.decision();
            span.record("decision", decision);
            debug!(target: TARGET, agent, correlation_id, decision, duration_us, "answered");
        }
        Err(Unanswered::Allowed) => {
            let decision = "allow";
            span.record("decision", decision);
            debug!(target: TARGET, agent, correlation_id, decision, duration_us, "allowed unasked");
        }
        Err(Unanswered::Failed(cause)) => {
            let error = cause.kind();
            span.record("error", error);
            debug!(target: TARGET, agent, correlation_id, error, duration_us, "failed: {cause}");
        }
    });
    asked
}
