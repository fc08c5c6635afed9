//! Runs mixed traffic through agents while faults are injected: one agent is killed, stopped,
//! paused, degraded and moved, another violates the protocol. Checks every answer and every count,
//! and that memory and file descriptors do not grow. `scripts/soak [minutes]` builds and runs it.

mod account;
mod agent;
mod faults;
mod faulty_agent;
mod resources;
mod traffic;

use account::Ledger;
use resources::Resources;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tollgate::{AgentPool, AgentPoolConfig, FlowControlMode};

type Failure = Box<dyn Error + Send + Sync>;

/// The agent without faults: none of its calls may fail.
const STEADY: &str = "steady";
/// The agent that is killed, stopped, paused, degraded and moved.
const VICTIM: &str = "victim";
/// The agent that violates the protocol: it answers late, twice, to unknown calls, with garbage, or
/// closes the connection.
const FAULTY: &str = "faulty_agent";

fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    match arguments.as_slice() {
        [role, socket] if role == "agent" => runtime.block_on(agent::serve(Path::new(socket))),
        [minutes] => runtime.block_on(soak(minutes.parse()?)),
        _ => Err("usage: soak MINUTES".into()),
    }
}

async fn soak(minutes: f64) -> Result<(), Failure> {
    let directory = std::env::temp_dir().join(format!("tollgate-soak-{}", std::process::id()));
    std::fs::create_dir(&directory)?;
    let soaked = soak_in(&directory, Duration::from_secs_f64(minutes * 60.0)).await;
    std::fs::remove_dir_all(&directory)?;
    soaked
}

async fn soak_in(directory: &Path, duration: Duration) -> Result<(), Failure> {
    let pool = AgentPool::with_config(config());
    let steady = agent::Process::start(&directory.join("steady.sock")).await?;
    let victim = faults::Victim::start(directory).await?;
    let faulty_agent = directory.join("faulty_agent.sock");
    tokio::spawn(faulty_agent::serve(tokio::net::UnixListener::bind(
        &faulty_agent,
    )?));
    for (agent, socket) in [
        (STEADY, steady.socket()),
        (VICTIM, victim.socket()),
        (FAULTY, &*faulty_agent),
    ] {
        pool.connect_agent(agent, socket.display().to_string())
            .await?;
    }

    let ledger = Arc::new(Ledger::default());
    let stop = Arc::new(AtomicBool::new(false));
    let callers = traffic::start(&pool, &ledger, &stop);
    let harm = tokio::spawn(faults::inject(pool.clone(), victim, Arc::clone(&stop)));
    let resources = watch(&pool, &ledger, duration).await?;
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await?;
    }
    let faults = harm.await??;

    println!("\n{faults}");
    let result = ledger.compare(&pool).await;
    resources.check_growth()?;
    pool.shutdown().await?;
    drop(steady);
    result
}

fn config() -> AgentPoolConfig {
    AgentPoolConfig {
        request_timeout: Duration::from_millis(250),
        flow_control_mode: FlowControlMode::WaitAndRetry,
        circuit_breaker_reset_timeout: Duration::from_millis(200),
        drain_timeout: Duration::from_secs(1),
        health_check_interval: Duration::from_secs(1),
        ping_timeout: Duration::from_millis(500),
        ..AgentPoolConfig::default()
    }
}

/// Prints the state of the run at intervals until its end.
async fn watch(
    pool: &AgentPool,
    ledger: &Ledger,
    duration: Duration,
) -> Result<Resources, Failure> {
    let started = Instant::now();
    let step = (duration / 40).clamp(Duration::from_millis(500), Duration::from_secs(30));
    let mut resources = Resources::default();
    while started.elapsed() < duration {
        tokio::time::sleep(step.min(duration.saturating_sub(started.elapsed()))).await;
        let now = resources.sample()?;
        let answered = ledger.answered();
        let rate = answered as f64 / started.elapsed().as_secs_f64();
        let reconnects: u64 = pool
            .stats()
            .await
            .iter()
            .map(|agent| agent.reconnects)
            .sum();
        println!(
            "{:5.0} s  {answered:>10} answered ({rate:.0} per second), {:>7} failed, \
             {reconnects:>4} reconnects, {now}",
            started.elapsed().as_secs_f64(),
            ledger.failed(),
        );
        ledger.check()?;
    }
    Ok(resources)
}
