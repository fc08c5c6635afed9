//! `tollgate probe`: an agent's capabilities, and its handshake and ping times.

use crate::connect::{LinkChoice, LinkKind, Target, connect};
use crate::exit::{AgentError, AgentFailure};
use crate::output::{OutputError, micros, print_json, print_line, printable};
#[cfg(feature = "envoy")]
use crate::values::is_envoy;
#[cfg(feature = "haproxy")]
use crate::values::is_haproxy;
use crate::values::parse_timeout;
use serde::Serialize;
use std::fmt::{self, Display, Formatter};
use std::time::{Duration, Instant};
use tollgate::{
    Agent, AgentCapabilities, Encoding,
    control::{AgentFeatures, AgentLimits},
};

/// Number of pings.
pub(crate) const PINGS: usize = 5;

/// Options of `tollgate probe`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Time limit for connecting and for each ping, such as 500ms or 5s
    #[arg(long, default_value = "5s", value_parser = parse_timeout)]
    timeout: Duration,
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

/// Connects to an agent, pings it and prints a report.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    #[cfg(feature = "haproxy")]
    if is_haproxy(&args.target.endpoint) {
        return crate::haproxy::probe(&args.target.endpoint, args.timeout, args.json).await;
    }
    #[cfg(feature = "envoy")]
    if is_envoy(&args.target.endpoint) {
        return crate::envoy::probe(&args.target, args.timeout, args.json).await;
    }
    let report = probe(&args.target, args.timeout).await?;
    if args.json {
        print_json(&report)
    } else {
        Ok(print_report(&report)?)
    }
}

#[derive(Serialize)]
struct Report {
    endpoint: String,
    encoding: Encoding,
    extension: bool,
    /// Version of the extension; 0 without it.
    extension_version: u64,
    link: LinkKind,
    /// Reason why the link is not shared memory.
    link_refusal: Option<String>,
    handshake_us: f64,
    round_trip_us: RoundTrip,
    capabilities: AgentCapabilities,
}

#[derive(Serialize)]
pub(crate) struct RoundTrip {
    min: f64,
    median: f64,
    max: f64,
}

async fn probe(target: &Target, timeout: Duration) -> anyhow::Result<Report> {
    let endpoint = &target.endpoint;
    let started = Instant::now();
    let connected = connect(target, None, 1, timeout, LinkChoice::Auto).await?;
    let handshake = started.elapsed();
    let agent = &connected.agent;
    let closed = || AgentFailure::new(endpoint, "the connection was closed after the handshake");
    Ok(Report {
        endpoint: endpoint.clone(),
        encoding: agent.encoding().ok_or_else(closed)?,
        extension: agent.uses_extension().ok_or_else(closed)?,
        extension_version: agent.extension_version().unwrap_or(0),
        link: LinkKind::of(agent, &target.endpoint),
        link_refusal: agent.stats().shared_memory.refusal.map(|it| it.to_string()),
        handshake_us: micros(handshake),
        capabilities: agent.capabilities().ok_or_else(closed)?,
        round_trip_us: measure(agent, endpoint).await?,
    })
}

async fn measure(agent: &Agent, endpoint: &str) -> Result<RoundTrip, AgentFailure> {
    let mut times = Vec::with_capacity(PINGS);
    for _ in 0..PINGS {
        let time = agent.ping().await.map_err(|error| {
            AgentFailure::new(endpoint, format_args!("ping: {}", error.reason()))
        })?;
        times.push(time);
    }
    Ok(RoundTrip::of(times))
}

impl RoundTrip {
    /// Summarizes times, of which there is at least one.
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self {
            min: micros(times[0]),
            median: micros(times[times.len() / 2]),
            max: micros(times[times.len() - 1]),
        }
    }
}

impl Display for RoundTrip {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { min, median, max } = self;
        write!(
            formatter,
            "min {min} µs, median {median} µs, max {max} µs of {PINGS} pings"
        )
    }
}

fn print_report(report: &Report) -> Result<(), OutputError> {
    let agent = &report.capabilities;
    let round_trip = &report.round_trip_us;
    print_field("endpoint", &report.endpoint)?;
    print_field(
        "agent",
        &format!("{} ({} {})", agent.agent_id, agent.name, agent.version),
    )?;
    print_field("protocol", &format!("version {}", agent.protocol_version))?;
    print_field("encoding", report.encoding.as_str())?;
    let extension = match report.extension_version {
        0 => "none".to_owned(),
        version => format!("tollgate {version}"),
    };
    print_field("extension", &extension)?;
    let link = match &report.link_refusal {
        Some(reason) => format!("{}; no shared memory: {reason}", report.link.as_str()),
        None => report.link.as_str().to_owned(),
    };
    print_field("link", &link)?;
    print_field("events", &events(agent))?;
    print_field("features", &features(&agent.features))?;
    print_field("limits", &limits(&agent.limits))?;
    print_field("handshake", &format!("{} µs", report.handshake_us))?;
    print_field("round trip", &round_trip.to_string())
}

/// Prints a line of a report.
pub(crate) fn print_field(name: &str, value: &str) -> Result<(), OutputError> {
    print_line(format_args!("{name:<12}{}", printable(value)))
}

fn events(agent: &AgentCapabilities) -> String {
    let names = agent.supported_events.iter().map(|event| event.as_str());
    comma_separated(names.collect())
}

fn features(features: &AgentFeatures) -> String {
    let flags = [
        ("streaming body", features.streaming_body),
        ("websocket", features.websocket),
        ("guardrails", features.guardrails),
        ("config push", features.config_push),
        ("metrics export", features.metrics_export),
        ("cancellation", features.cancellation),
        ("flow control", features.flow_control),
        ("health reporting", features.health_reporting),
    ];
    let offered = flags.iter().filter(|(_, offered)| *offered);
    comma_separated(offered.map(|(name, _)| *name).collect())
}

fn limits(limits: &AgentLimits) -> String {
    format!(
        "bodies of {} bytes, {} events at once, preferred chunk size {} bytes",
        limits.max_body_size, limits.max_concurrency, limits.preferred_chunk_size
    )
}

fn comma_separated(names: Vec<&str>) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.join(", ")
}
