//! A run: starts the agents, the callers and the faults, and checks what they leave.

use crate::account::Ledger;
use crate::certificates;
use crate::clock::Clock;
use crate::common::addresses::{Address, Addresses};
use crate::common::child;
use crate::common::markdown::grouped;
use crate::common::process::Process;
use crate::common::resources::Resources;
use crate::harm::{self, Harm, Injected};
use crate::links::Direction;
use crate::log::{Log, PoolLog};
use crate::proxy::Proxy;
use crate::report::{AgentReport, Report};
use crate::roster::{Agent, Role, roster};
use crate::victim::Victim;
use crate::{Failure, agent, traffic};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::RwLock;
use tokio::time::sleep;
use tollgate::{AgentConfig, AgentPool, AgentPoolConfig, FlowControlMode, stats::AgentPoolStats};

pub(crate) async fn run(
    directory: &Path,
    clock: Clock,
    minutes: f64,
    report: Option<&Path>,
) -> Result<(), Failure> {
    child::record_panics(directory);
    let log = PoolLog::start(directory)?;
    let agents = roster();
    let ids = agents.iter().map(|agent| agent.id.clone());
    certificates::create(directory, ids.collect())?;
    let pool = AgentPool::with_config(config(directory)?);
    let mut addresses = Addresses::new(directory);
    let proxy = Proxy::listen(directory, &pool, &mut addresses).await?;
    let started = start(directory, &agents, &pool, &proxy, &mut addresses).await?;

    let ledger = Arc::new(Ledger::new(agents.clone()));
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let deadline = began + Duration::from_secs_f64(minutes * 60.0);
    let callers = traffic::start(&pool, &agents, &ledger, &stop);
    let own_faults = harm::own_faults(directory, clock, log, &agents, &started.victims);
    let harm = Harm::begin(&pool, &ledger, started.victims, own_faults, deadline);
    let mut resources = started.resources;
    watch(&mut resources, &ledger, &harm.quiet, deadline).await?;

    let injected = harm.end(&pool, &ledger, &agents).await?;
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await?;
    }
    let took = began.elapsed();
    let stats = ledger.compare(&pool).await?;
    proxy.stop();
    pool.shutdown().await;
    compare_handled(&ledger, started.unharmed).await?;
    child::check_failures(directory)?;
    let summary = Report {
        minutes,
        took,
        agents: report_agents(&agents, &ledger, stats, &injected),
        own_faults: injected.own,
        resources: &resources,
    };
    let summary = summary.to_markdown()?;
    println!("\n{summary}");
    resources.iter().try_for_each(Resources::check_growth)?;
    if let Some(report) = report {
        std::fs::write(report, summary)?;
    }
    Ok(())
}

fn report_agents<'a>(
    agents: &'a [Agent],
    ledger: &Ledger,
    stats: Vec<AgentPoolStats>,
    injected: &Injected,
) -> Vec<AgentReport<'a>> {
    let faults = injected.agents.iter();
    let agents = agents.iter().zip(stats).zip(faults);
    agents
        .map(|((agent, stats), faults)| AgentReport {
            agent,
            seen: ledger.counts(agent),
            stats,
            faults: *faults,
        })
        .collect()
}

fn config(directory: &Path) -> Result<AgentPoolConfig, Failure> {
    Ok(AgentPoolConfig::default()
        .connect_timeout(Duration::from_secs(2))
        .flow_control_mode(FlowControlMode::WaitAndRetry)
        .flow_control_wait_timeout(Duration::from_secs(1))
        .circuit_breaker_reset_timeout(Duration::from_millis(200))
        .drain_timeout(Duration::from_secs(1))
        .health_check_interval(Duration::from_secs(1))
        .ping_timeout(agent::PING_TIMEOUT)
        .tls(certificates::client(directory)?))
}

/// The processes of the agents.
struct Started {
    unharmed: Vec<(Agent, Process)>,
    victims: Vec<(Agent, Victim)>,
    resources: Vec<Resources>,
}

async fn start(
    directory: &Path,
    agents: &[Agent],
    pool: &AgentPool,
    proxy: &Proxy,
    addresses: &mut Addresses,
) -> Result<Started, Failure> {
    let mut started = Started {
        unharmed: Vec::new(),
        victims: Vec::new(),
        resources: vec![Resources::of("pool", std::process::id())],
    };
    for agent in agents {
        let proxy = proxy.address_for(agent);
        let endpoint = if agent.role == Role::Victim {
            let victim = Victim::start(directory, agent, addresses, proxy).await?;
            let endpoint = victim.endpoint();
            started.victims.push((agent.clone(), victim));
            endpoint
        } else {
            let address = match proxy {
                Some(proxy) => proxy.clone(),
                None => agent.link.next(addresses),
            };
            let process = start_unharmed(directory, agent, &address).await?;
            started
                .resources
                .push(Resources::of(&agent.id, process.id()));
            started.unharmed.push((agent.clone(), process));
            agent.link.endpoint(&address)
        };
        if agent.link.direction == Direction::Forward {
            pool.add(AgentConfig::new(&agent.id, endpoint).require_connection())
                .await?;
        }
    }
    Ok(started)
}

async fn start_unharmed(
    directory: &Path,
    agent: &Agent,
    address: &Address,
) -> Result<Process, Failure> {
    let Agent { id, link, role, .. } = agent;
    match (role, address) {
        (Role::Faulty, Address::Unix(path)) => Process::faulty_agent(directory, id, path).await,
        (Role::Faulty, Address::Tcp(_)) => Err("the faulty agent listens on a Unix socket".into()),
        _ => Process::agent(directory, id, *link, address, Log::FullDisk).await,
    }
}

/// Prints the state of the run at intervals until its end.
async fn watch(
    resources: &mut [Resources],
    ledger: &Ledger,
    quiet: &RwLock<()>,
    deadline: Instant,
) -> Result<(), Failure> {
    let began = Instant::now();
    let duration = deadline - began;
    let step = (duration / 40).clamp(Duration::from_millis(500), Duration::from_secs(30));
    while Instant::now() < deadline {
        sleep(step.min(deadline - Instant::now())).await;
        // Sampling needs descriptors.
        let _shared = quiet.read().await;
        let mut samples = Vec::new();
        for process in &mut *resources {
            samples.push(process.sample()?);
        }
        let answered = ledger.answered();
        let rate = answered as f64 / began.elapsed().as_secs_f64();
        println!(
            "{:5.0} s  {:>12} answered ({} per second), {:>10} failed, {}",
            began.elapsed().as_secs_f64(),
            grouped(answered),
            grouped(rate as u64),
            grouped(ledger.failed()),
            samples[0],
        );
        ledger.check()?;
    }
    Ok(())
}

/// Compares what steady agents have handled with what callers saw. A call that its caller dropped
/// may have reached the agent or not.
async fn compare_handled(ledger: &Ledger, unharmed: Vec<(Agent, Process)>) -> Result<(), Failure> {
    for (agent, process) in unharmed {
        if agent.role != Role::Steady {
            continue;
        }
        let handled: u64 = process.stop().await?.trim().parse()?;
        let seen = ledger.counts(&agent);
        if !(ledger.answered_by(&agent)..=seen.iter().sum()).contains(&handled) {
            let id = &agent.id;
            return Err(format!("{id} handled {handled} events, its callers saw {seen:?}").into());
        }
    }
    Ok(())
}
