//! Starts requests on a schedule, whether or not earlier ones are answered, and prints how long
//! after its scheduled start each was answered: `steady_load SOCKET RATE...`. Also writes
//! `target/performance/latency.json`.

use hdrhistogram::{CreationError, Histogram};
use serde_json::{Value, json};
use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tollgate::{Agent, AgentConfig, AgentPool, Metadata, RequestHeaders};

const LENGTH: Duration = Duration::from_secs(5);

/// Interval at which the scheduler wakes. Requests that are due by then start together.
const STEP: Duration = Duration::from_micros(100);

const PERCENTILES: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 100.0];

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let socket = arguments
        .next()
        .ok_or("usage: steady_load SOCKET RATE...")?;
    let pool = AgentPool::new();
    let agent = pool
        .add(AgentConfig::new("agent", socket).require_connection())
        .await?;
    println!(
        "  requests/s   failed    scheduling lag      p50      p90      p99    p99.9   p99.99      max us"
    );
    let mut runs = Vec::new();
    for rate in arguments {
        let rate: f64 = rate.parse()?;
        // The first second is a warm-up and not measured.
        run(&agent, rate, Duration::from_secs(1)).await?;
        let measured = run(&agent, rate, LENGTH).await?;
        measured.print(rate);
        runs.push(measured.to_json(rate));
    }
    let folder = Path::new("target/performance");
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("latency.json"), json!(runs).to_string())?;
    Ok(())
}

struct Measured {
    /// From scheduled start to answer, in nanoseconds.
    latencies: Histogram<u64>,
    /// From scheduled to actual start, in nanoseconds: the delay of machine and scheduler.
    lag: Histogram<u64>,
    failed: u64,
}

struct Run {
    agent: Agent,
    latencies: Mutex<Histogram<u64>>,
    failed: AtomicU64,
    number: AtomicU64,
}

async fn run(agent: &Agent, rate: f64, length: Duration) -> Result<Measured, Box<dyn Error>> {
    let run = Arc::new(Run {
        agent: agent.clone(),
        latencies: Mutex::new(histogram()?),
        failed: AtomicU64::new(0),
        number: AtomicU64::new(0),
    });
    let (runtime, started) = (Handle::current(), Arc::clone(&run));
    let lag = tokio::task::spawn_blocking(move || start_requests(&runtime, &started, rate, length))
        .await?;
    // Every call ends, at its deadline at the latest.
    while Arc::strong_count(&run) > 1 {
        tokio::time::sleep(STEP).await;
    }
    let run = Arc::into_inner(run).ok_or("a request is still in progress")?;
    Ok(Measured {
        latencies: run.latencies.into_inner()?,
        lag: lag?,
        failed: run.failed.into_inner(),
    })
}

/// Starts requests when they are due. Runs on a separate thread, so that answers do not delay it.
fn start_requests(
    runtime: &Handle,
    run: &Arc<Run>,
    rate: f64,
    length: Duration,
) -> Result<Histogram<u64>, CreationError> {
    let mut lag = histogram()?;
    let began = Instant::now();
    let mut started = 0_u64;
    while began.elapsed() < length {
        let due_by_now = (began.elapsed().as_secs_f64() * rate) as u64;
        while started < due_by_now {
            let due = began + Duration::from_secs_f64(started as f64 / rate);
            lag.saturating_record(nanoseconds(due.elapsed()));
            runtime.spawn(Arc::clone(run).request(due));
            started += 1;
        }
        std::thread::sleep(STEP);
    }
    Ok(lag)
}

impl Run {
    async fn request(self: Arc<Self>, due: Instant) {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let id = format!("steady-{number:016x}");
        match self.send(&id).await {
            Ok(()) => {
                let taken = nanoseconds(due.elapsed());
                // No holder of this lock panics.
                if let Ok(mut latencies) = self.latencies.lock() {
                    latencies.saturating_record(taken);
                }
            }
            Err(_) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn send(&self, id: &str) -> Result<(), tollgate::CallError> {
        let headers = [
            ("host", "example.com"),
            (
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            ),
            (
                "accept",
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            ),
        ];
        let head = RequestHeaders {
            metadata: Metadata {
                request_id: id,
                client_ip: "192.0.2.7",
                client_port: 54321,
                protocol: "HTTP/1.1",
                timestamp: "2026-01-02T03:04:05Z",
                ..Metadata::default()
            },
            method: "GET",
            uri: "/products/1843",
            headers: &headers[..],
        };
        self.agent.exchange(id)?.send(&head).await.map(drop)
    }
}

impl Measured {
    fn print(&self, rate: f64) {
        let at = |percentile| micros(self.latencies.value_at_percentile(percentile));
        let percentiles: String = PERCENTILES
            .iter()
            .map(|percentile| format!("{:9.1}", at(*percentile)))
            .collect();
        let lag = micros(self.lag.value_at_percentile(50.0));
        println!("{rate:12.0} {:8} {lag:14.1} us{percentiles}", self.failed);
    }

    fn to_json(&self, rate: f64) -> Value {
        let at = |percentile| micros(self.latencies.value_at_percentile(percentile));
        json!({
            "rate": rate,
            "answered": self.latencies.len(),
            "failed": self.failed,
            "started_late_us": micros(self.lag.value_at_percentile(50.0)),
            "percentiles_us": PERCENTILES.map(|percentile| json!([percentile, at(percentile)])),
        })
    }
}

/// Returns a histogram for up to a minute.
fn histogram() -> Result<Histogram<u64>, CreationError> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}
