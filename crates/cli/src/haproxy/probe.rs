//! `tollgate probe` of an agent for HAProxy.

use super::{address, connect, within};
use crate::output::{micros, print_json};
use crate::probe::{PINGS, RoundTrip, print_field};
use serde::Serialize;
use std::time::{Duration, Instant};
use tollgate_haproxy::client::SpopClient;
use tollgate_haproxy::wire::VERSION;

#[derive(Serialize)]
struct Report {
    endpoint: String,
    protocol: String,
    max_frame_size: u32,
    health: &'static str,
    handshake_us: f64,
    round_trip_us: RoundTrip,
}

/// Connects to an agent, checks its health several times and prints a report.
pub(crate) async fn probe(endpoint: &str, timeout: Duration, json: bool) -> anyhow::Result<()> {
    let began = Instant::now();
    let client = connect(endpoint, timeout).await?;
    let handshake = began.elapsed();
    let address = address(endpoint)?;
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let began = Instant::now();
        within(endpoint, timeout, SpopClient::check_health(&address)).await?;
        times.push(began.elapsed());
    }
    let report = Report {
        endpoint: endpoint.to_owned(),
        protocol: format!("SPOP {VERSION}"),
        max_frame_size: client.max_frame_size(),
        health: "up",
        handshake_us: micros(handshake),
        round_trip_us: RoundTrip::of(times),
    };
    if json {
        return print_json(&report);
    }
    print_field("endpoint", &report.endpoint)?;
    print_field("protocol", &report.protocol)?;
    print_field(
        "frames",
        &format!("at most {} bytes", report.max_frame_size),
    )?;
    print_field("health", report.health)?;
    print_field("handshake", &format!("{} µs", report.handshake_us))?;
    Ok(print_field(
        "round trip",
        &report.round_trip_us.to_string(),
    )?)
}
