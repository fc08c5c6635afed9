//! Streams a body of 64 MiB through an agent, one chunk at a time and pipelined, and prints the
//! throughput and the peak memory:
//!
//! ```sh
//! cargo run --release --example pipelined_body
//! ```

use std::error::Error;
use std::time::{Duration, Instant};
use tollgate::{
    AddError, Agent, AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentPoolConfig,
    AgentResponse, AgentServer, BodyChunk, Bytes, CallError, Decision, Exchange, RequestBodyChunk,
};

const BODY_LEN: usize = 64 * 1024 * 1024;
const CHUNK_LEN: usize = 64 * 1024;

/// Number of unanswered chunks when pipelined.
const WINDOW: usize = 16;

/// Number of bodies streamed in each form, in turn. The median is reported.
const ROUNDS: usize = 9;

/// Memory limit of both sides together, in KiB.
const MEMORY_LIMIT_KIB: usize = 32 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("pipelined-body-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let socket = dir.join("agent.sock");
    let served = AgentServer::builder(ZeroFinder)
        .listen(socket.display().to_string())
        .bind()
        .await?;
    tokio::spawn(served.serve());
    let result = compare(&format!("unix:{}", socket.display())).await;
    std::fs::remove_dir_all(&dir)?;
    result
}

/// An agent that blocks bodies with a zero byte.
struct ZeroFinder;

impl AgentHandler for ZeroFinder {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("zero-finder", "Blocks zero bytes", "1.0.0")
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        if event.data.contains(&0) {
            return AgentResponse::block(403, None);
        }
        AgentResponse::default_allow()
    }
}

async fn compare(endpoint: &str) -> Result<(), Box<dyn Error>> {
    let memory_before = peak_memory_kib()?;
    let with_extension = connect(endpoint, AgentPoolConfig::default()).await?;
    let config = AgentPoolConfig::default().use_extension(false);
    let without_extension = connect(endpoint, config).await?;
    let forms = [
        ("pipelined", &with_extension, WINDOW),
        ("one chunk at a time", &with_extension, 1),
        (
            "one chunk at a time in base64, as for peers without tollgate's extension",
            &without_extension,
            1,
        ),
    ];
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for ((_, (_, agent), window), times) in forms.iter().zip(&mut times) {
            let id = "body";
            let exchange = agent.exchange(id)?;
            times.push(stream(exchange, id, *window).await?);
        }
    }
    println!("64 MiB in chunks of 64 KiB through an agent that reads every byte:");
    for ((form, ..), times) in forms.iter().zip(&mut times) {
        times.sort_unstable();
        let rate = |time: Duration| (BODY_LEN >> 20) as f64 / time.as_secs_f64();
        let (slowest, median, fastest) = (times[ROUNDS - 1], times[ROUNDS / 2], times[0]);
        println!(
            "{:6.0} MiB/s  {form} ({ROUNDS} bodies: {:.0} to {:.0})",
            rate(median),
            rate(slowest),
            rate(fastest),
        );
    }
    let growth = peak_memory_kib()? - memory_before;
    println!("peak memory: {growth} KiB more than before, proxy and agent together");
    if growth > MEMORY_LIMIT_KIB {
        return Err(format!("peak memory grew by more than {MEMORY_LIMIT_KIB} KiB").into());
    }
    Ok(())
}

async fn connect(endpoint: &str, config: AgentPoolConfig) -> Result<(AgentPool, Agent), AddError> {
    let pool = AgentPool::with_config(config);
    let agent = pool
        .add(AgentConfig::new("zero-finder", endpoint).require_connection())
        .await?;
    Ok((pool, agent))
}

/// Streams a body with at most `window` unanswered chunks.
async fn stream(mut exchange: Exchange, id: &str, window: usize) -> Result<Duration, CallError> {
    let data = Bytes::from(vec![b'x'; CHUNK_LEN]);
    let count = (BODY_LEN / CHUNK_LEN) as u32;
    let started = Instant::now();
    for index in 0..count {
        if exchange.unanswered() == window {
            take_answer(&mut exchange).await?;
        }
        let chunk = BodyChunk::new(id, data.clone(), index, index + 1 == count);
        exchange.push(&RequestBodyChunk(chunk)).await?;
    }
    while exchange.unanswered() > 0 {
        take_answer(&mut exchange).await?;
    }
    Ok(started.elapsed())
}

async fn take_answer(exchange: &mut Exchange) -> Result<(), CallError> {
    if let Some(answer) = exchange.next_answer().await {
        assert_eq!(answer?.decision, Decision::Allow);
    }
    Ok(())
}

/// Returns the peak resident memory of this process so far.
fn peak_memory_kib() -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|value| value.split_whitespace().next())
        .ok_or("no VmHWM in /proc/self/status")?;
    Ok(peak.parse()?)
}
