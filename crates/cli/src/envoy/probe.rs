//! `tollgate probe` of an agent that Envoy asks.

use super::connect;
use crate::connect::Target;
use crate::exit::AgentFailure;
use crate::output::{micros, print_json};
use crate::probe::{PINGS, RoundTrip, print_field};
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tollgate_envoy::caller::{CallerAnswer, CallerError, EnvoyCaller};

#[derive(Serialize)]
struct Report<'a> {
    endpoint: &'a str,
    protocol: &'static str,
    healthy: bool,
    handshake_us: f64,
    round_trip_us: RoundTrip,
    /// Parts of an exchange that the agent looks at.
    phases: Vec<&'static str>,
    decision: &'static str,
}

/// Asks an agent for its health and about a request for `/`, and prints a report.
pub(crate) async fn probe(target: &Target, limit: Duration, json: bool) -> anyhow::Result<()> {
    let endpoint = &target.endpoint;
    let failed = |error: CallerError| AgentFailure::new(endpoint, error);
    let late = || AgentFailure::new(endpoint, format_args!("timed out after {limit:?}"));
    let began = Instant::now();
    let mut caller = connect(target, limit).await?;
    let handshake = began.elapsed();
    let healthy = timeout(limit, caller.is_healthy())
        .await
        .map_err(|_| late())?;
    let healthy = healthy.map_err(failed)?;
    let mut times = Vec::with_capacity(PINGS);
    let mut last = CallerAnswer::default();
    for _ in 0..PINGS {
        let began = Instant::now();
        let asked = timeout(limit, ask(&mut caller)).await.map_err(|_| late())?;
        last = asked.map_err(failed)?;
        times.push(began.elapsed());
    }
    let report = Report {
        endpoint,
        protocol: "ext_proc",
        healthy,
        handshake_us: micros(handshake),
        round_trip_us: RoundTrip::of(times),
        phases: phases(&last),
        decision: last.response.decision.as_str(),
    };
    if json {
        print_json(&report)?;
    } else {
        print_report(&report)?;
    }
    match healthy {
        true => Ok(()),
        false => Err(AgentFailure::new(endpoint, "the agent takes no requests").into()),
    }
}

async fn ask(caller: &mut EnvoyCaller) -> Result<CallerAnswer, CallerError> {
    let head = [
        (":method", "GET"),
        (":path", "/"),
        (":scheme", "http"),
        (":authority", "localhost"),
        ("user-agent", "tollgate-probe"),
    ];
    let mut call = caller.begin().await?;
    call.request_headers(&head, true).await
}

fn phases(answer: &CallerAnswer) -> Vec<&'static str> {
    let phases = [
        ("request_headers", false),
        ("request_body", answer.skips_request_body),
        ("response_headers", answer.skips_response_headers),
        ("response_body", answer.skips_response_body),
    ];
    let seen = phases.into_iter().filter(|(_, is_skipped)| !is_skipped);
    seen.map(|(name, _)| name).collect()
}

fn print_report(report: &Report<'_>) -> anyhow::Result<()> {
    print_field("endpoint", report.endpoint)?;
    print_field("protocol", report.protocol)?;
    print_field(
        "health",
        if report.healthy {
            "serving"
        } else {
            "not serving"
        },
    )?;
    print_field("phases", &report.phases.join(", "))?;
    print_field("decision", &format!("{} for GET /", report.decision))?;
    print_field("handshake", &format!("{} µs", report.handshake_us))?;
    Ok(print_field(
        "round trip",
        &report.round_trip_us.to_string(),
    )?)
}
