//! The load generator: callers that send request headers through the published
//! pool, each waiting for its answer before the next, and what they measured.
//!
//! A caller keeps its event and changes only the correlation id, so the figures
//! are those of the hop and not of building events.

use crate::agent::{self, Recorder};
use crate::link::{connect_pool, probe_encoding, AGENT};
use crate::{encoding, events, output};
use anyhow::{Context as _, Result};
use clap::ArgGroup;
use hdrhistogram::Histogram;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use zentinel_agent_protocol::v2::AgentPool;
use zentinel_agent_protocol::{AgentResponse, Decision};

/// The longest latency the histogram tells apart, in nanoseconds.
const LONGEST: u64 = 120_000_000_000;

/// The command line of `load`.
#[derive(clap::Args)]
#[command(group(ArgGroup::new("agent").required(true).args(["connect", "in_process"])))]
pub struct Args {
    /// The agent's socket.
    #[arg(long, value_name = "PATH")]
    connect: Option<PathBuf>,
    /// Serve a quiet agent in this process, on a socket of its own.
    #[arg(long)]
    in_process: bool,
    /// Stop after this many requests.
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    requests: Option<u64>,
    /// Stop after this time.
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    seconds: Duration,
    /// Requests in flight at a time.
    #[arg(long, value_name = "N", default_value = "1")]
    concurrency: NonZeroUsize,
    /// Connections of the pool.
    #[arg(long, value_name = "N", default_value = "4")]
    connections: NonZeroUsize,
    /// How long to wait for an answer.
    #[arg(long, default_value_t = 5000)]
    timeout_ms: u64,
}

fn seconds(text: &str) -> Result<Duration> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}

/// Runs the load and prints the figures.
pub async fn run(args: Args) -> Result<()> {
    let own = args.in_process.then(OwnAgent::start);
    let path = match (&own, &args.connect) {
        (Some(agent), _) => agent.path.as_path(),
        (None, Some(path)) => path,
        (None, None) => anyhow::bail!("no socket to connect to"),
    };
    let limit = Duration::from_millis(args.timeout_ms);
    if own.is_some() {
        tokio::time::timeout(limit, agent::listening(path))
            .await
            .context("the agent in this process does not listen")?;
    }
    let encoding = probe_encoding(path, limit)
        .await
        .map_or("unknown", encoding::name);
    let pool = connect_pool(path, args.connections.get(), limit).await?;
    let figures = measure(Arc::new(pool), &args, encoding).await?;
    output::emit(&figures)?;
    Ok(())
}

/// A quiet agent in this process; dropping it removes the socket.
struct OwnAgent {
    path: PathBuf,
}

impl OwnAgent {
    fn start() -> Self {
        let name = format!("{}-{}.sock", env!("CARGO_PKG_NAME"), std::process::id());
        let path = std::env::temp_dir().join(name);
        tokio::spawn(serve_quietly(path.clone()));
        Self { path }
    }
}

impl Drop for OwnAgent {
    fn drop(&mut self) {
        // If it is gone already, so much the better.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve_quietly(path: PathBuf) {
    if let Err(error) = agent::serve(Path::new(&path), Recorder::quiet()).await {
        eprintln!("error: {error:#}");
    }
}

async fn measure(pool: Arc<AgentPool>, args: &Args, encoding: &str) -> Result<Value> {
    let start = Instant::now();
    let budget = Arc::new(match args.requests {
        Some(count) => Budget::Requests(AtomicU64::new(count)),
        None => Budget::Until(start + args.seconds),
    });
    let mut callers = JoinSet::new();
    for number in 0..args.concurrency.get() {
        callers.spawn(call(Arc::clone(&pool), Arc::clone(&budget), number));
    }
    let mut total = Tally::new()?;
    while let Some(tally) = callers.join_next().await {
        total.add(&tally??)?;
    }
    Ok(total.figures(start.elapsed(), encoding))
}

/// What is left to do, shared by all callers.
enum Budget {
    Requests(AtomicU64),
    Until(Instant),
}

impl Budget {
    /// Whether there is another request to make.
    fn take(&self) -> bool {
        match self {
            Self::Requests(left) => left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                })
                .is_ok(),
            Self::Until(end) => Instant::now() < *end,
        }
    }
}

/// One caller: a request at a time until there is nothing left to do.
async fn call(pool: Arc<AgentPool>, budget: Arc<Budget>, number: usize) -> Result<Tally> {
    let mut tally = Tally::new()?;
    let mut event = events::request_headers("", "/catalogue/shoes/1234?colour=red");
    event.headers = events::browser_headers();
    while budget.take() {
        let id = format!("l-{number}-{}", tally.requests);
        event.metadata.correlation_id.clone_from(&id);
        let start = Instant::now();
        let answer = pool.send_request_headers(AGENT, &id, &event).await;
        tally.record(start.elapsed(), answer.as_ref().ok());
        // As a proxy does when a request is over; the pool would keep it.
        pool.clear_correlation_affinity(&id);
        if answer.is_err() {
            // Without a connection the pool fails at once, time and again.
            tokio::task::yield_now().await;
        }
    }
    Ok(tally)
}

/// What was measured; latencies are those of answered requests.
struct Tally {
    requests: u64,
    errors: u64,
    nanoseconds: Histogram<u64>,
    decisions: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn new() -> Result<Self> {
        Ok(Self {
            requests: 0,
            errors: 0,
            nanoseconds: Histogram::new_with_bounds(1, LONGEST, 3)?,
            decisions: BTreeMap::new(),
        })
    }

    fn record(&mut self, taken: Duration, answer: Option<&AgentResponse>) {
        self.requests += 1;
        let Some(answer) = answer else {
            self.errors += 1;
            return;
        };
        let nanoseconds = u64::try_from(taken.as_nanos()).unwrap_or(LONGEST);
        self.nanoseconds.saturating_record(nanoseconds);
        *self.decisions.entry(name(&answer.decision)).or_default() += 1;
    }

    fn add(&mut self, other: &Self) -> Result<()> {
        self.requests += other.requests;
        self.errors += other.errors;
        self.nanoseconds.add(&other.nanoseconds)?;
        for (&decision, count) in &other.decisions {
            *self.decisions.entry(decision).or_default() += count;
        }
        Ok(())
    }

    fn figures(&self, elapsed: Duration, encoding: &str) -> Value {
        let seconds = elapsed.as_secs_f64();
        let at = |quantile| microseconds(self.nanoseconds.value_at_quantile(quantile));
        json!({
            "requests": self.requests,
            "errors": self.errors,
            "seconds": round(seconds, 1e3),
            "requests_per_second": (self.requests as f64 / seconds).round(),
            "latency_us": {
                "p50": at(0.5),
                "p90": at(0.9),
                "p99": at(0.99),
                "p999": at(0.999),
                "max": microseconds(self.nanoseconds.max()),
            },
            "decisions": self.decisions,
            "encoding": encoding,
        })
    }
}

fn microseconds(nanoseconds: u64) -> f64 {
    round(nanoseconds as f64 / 1e3, 1e1)
}

fn round(value: f64, steps_per_unit: f64) -> f64 {
    (value * steps_per_unit).round() / steps_per_unit
}

fn name(decision: &Decision) -> &'static str {
    match decision {
        Decision::Allow => "allow",
        Decision::Block { .. } => "block",
        Decision::Redirect { .. } => "redirect",
        Decision::Challenge { .. } => "challenge",
    }
}
