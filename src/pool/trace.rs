//! Spans and events of single calls, at level debug under the target `tollgate::call`.

use super::call::{CallParams, CallResult, NoAnswer};
use crate::clock;
// By name: within tracing's macros, `log` may be the crate of that name.
use crate::log::{field, message};
use crate::wire::Event;
use tracing::field::Empty;
use tracing::{Instrument, Level, debug, debug_span};

const TARGET: &str = "tollgate::call";

/// Awaits the call `$call`, in a span that records how it ended if the target is enabled.
///
/// A macro rather than a function: a function would move the future, which is large. While the
/// target is disabled, tracing costs one comparison.
macro_rules! traced {
    ($agent:expr, $params:expr, $event:expr, $call:expr) => {
        if $crate::pool::trace::is_wanted() {
            Box::pin($crate::pool::trace::record($agent, $params, $event, $call)).await
        } else {
            $call.await
        }
    };
}
pub(super) use traced;

pub(super) fn is_wanted() -> bool {
    tracing::enabled!(target: TARGET, Level::DEBUG)
}

/// Awaits a call in a span that records how it ended.
///
/// The names of the span, its fields and their values are part of the public interface: see
/// docs/operations.md.
pub(super) async fn record<E: Event>(
    agent: &str,
    params: CallParams<'_>,
    event: &E,
    call: impl Future<Output = CallResult>,
) -> CallResult {
    let correlation_id = &*field(&params.correlation.id);
    let traceparent = event.traceparent().map(|parent| field(&parent));
    let span = debug_span!(
        target: TARGET,
        "agent_call",
        agent,
        correlation_id,
        event = params.kind.as_str(),
        traceparent = traceparent.as_deref(),
        decision = Empty,
        error = Empty,
    );
    let answered = call.instrument(span.clone()).await;
    let duration_us = clock::elapsed(params.limit.started).as_micros() as u64;
    span.in_scope(|| match &answered {
        Ok(call) => {
            let decision = call.decision();
            span.record("decision", decision);
            debug!(target: TARGET, agent, correlation_id, decision, duration_us, "answered");
        }
        Err(NoAnswer::Allowed) => {
            let decision = "allow";
            span.record("decision", decision);
            debug!(target: TARGET, agent, correlation_id, decision, duration_us, "allowed unasked");
        }
        Err(NoAnswer::Failed(cause)) => {
            let error = cause.kind();
            span.record("error", error);
            debug!(target: TARGET, agent, correlation_id, error, duration_us, "failed: {}", message(cause));
        }
    });
    answered
}
