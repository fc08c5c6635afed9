//! Injects faults into an agent.

use crate::Failure;
use crate::agent::CONNECTIONS;
use crate::clock::{self, Clock};
use crate::common::addresses::{Address, Addresses};
use crate::common::process::Process;
use crate::faults::{Fault, Tally};
use crate::links::Direction;
use crate::log::Log;
use crate::roster::Agent;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::RwLock;
use tokio::time::sleep;
use tollgate::{AgentConfig, AgentPool};

/// The faults of a victim in order. The first half meets it behind its relay.
const ROUND: [Fault; 15] = [
    Fault::Killed,
    Fault::Stalled,
    Fault::Lost,
    Fault::Stopped,
    Fault::Reset,
    Fault::Paused,
    Fault::NoDescriptors,
    Fault::ClockJump,
    Fault::Moved,
    Fault::Killed,
    Fault::FullDisk,
    Fault::Stopped,
    Fault::Degraded,
    Fault::ClockJump,
    Fault::Moved,
];

/// Time that a victim gets to be connected again. The longest backoff is 30 s.
const RECOVERY: Duration = Duration::from_secs(60);

/// Duration of a fault that makes a victim silent, in milliseconds. Some exceed the timeout of the
/// peer's ping.
const SILENCE: Range<u64> = 100..18_000;

/// The process of an agent that faults are injected into, and the two places between which it
/// moves: one behind a relay, one without.
#[derive(Debug)]
pub(crate) struct Victim {
    directory: PathBuf,
    agent: Agent,
    /// Addresses that the agent's process is given, to listen at or to dial.
    serve: [Address; 2],
    /// Addresses that the pool connects to. Not used by agents that dial.
    reach: [Address; 2],
    place: usize,
    process: Process,
    relay: Arc<Process>,
}

impl Victim {
    /// Starts an agent behind a relay. `proxy` is the address that agents of this link dial.
    pub(crate) async fn start(
        directory: &Path,
        agent: &Agent,
        addresses: &mut Addresses,
        proxy: Option<&Address>,
    ) -> Result<Self, Failure> {
        let mut next = || agent.link.next(addresses);
        let relayed = next();
        let (serve, reach, target) = match proxy {
            Some(proxy) => {
                let dialed = [relayed.clone(), proxy.clone()];
                (dialed.clone(), dialed, proxy.clone())
            }
            None => {
                let serve = [next(), next()];
                let reach = [relayed.clone(), serve[1].clone()];
                let target = serve[0].clone();
                (serve, reach, target)
            }
        };
        let relay = Process::relay(directory, &agent.id, &relayed, &target).await?;
        let process =
            Process::agent(directory, &agent.id, agent.link, &serve[0], Log::File).await?;
        Ok(Self {
            directory: directory.to_owned(),
            agent: agent.clone(),
            serve,
            reach,
            place: 0,
            process,
            relay: Arc::new(relay),
        })
    }

    pub(crate) fn relay(&self) -> Arc<Process> {
        Arc::clone(&self.relay)
    }

    /// Returns the endpoint that the pool connects to.
    pub(crate) fn endpoint(&self) -> String {
        self.agent.link.endpoint(&self.reach[self.place])
    }

    /// Injects a fault every one to three seconds until `deadline`. Each fault holds the lock
    /// shared. Returns the victim, which serves.
    pub(crate) async fn suffer(
        mut self,
        pool: AgentPool,
        quiet: Arc<RwLock<()>>,
        deadline: Instant,
    ) -> Result<(Self, Tally), Failure> {
        let mut tally = Tally::default();
        for fault in ROUND.into_iter().cycle() {
            pause(1_000..3_000).await;
            if Instant::now() >= deadline {
                break;
            }
            if fault == Fault::ClockJump && clock::library().is_none() {
                continue;
            }
            let _shared = quiet.read().await;
            let injected = self.inject(fault, &pool).await;
            injected.map_err(|error| format!("{}: {fault:?}: {error}", self.agent.id))?;
            tally.count(fault);
        }
        Ok((self, tally))
    }

    async fn inject(&mut self, fault: Fault, pool: &AgentPool) -> Result<(), Failure> {
        match fault {
            Fault::Killed => {
                self.process.kill()?;
                pause(10..1_000).await;
                self.start_again(Log::File).await
            }
            Fault::Stopped => {
                self.process.signal("STOP")?;
                pause(SILENCE).await;
                self.process.signal("CONT")
            }
            Fault::Paused => self.command_for("pause", 10..500, "resume").await,
            Fault::Degraded => self.command_for("degraded", 10..500, "healthy").await,
            Fault::Moved => self.move_to(1 - self.place, pool).await,
            Fault::Stalled => self.relay_for("stall").await,
            Fault::Lost => self.relay_for("lose").await,
            Fault::Reset => self.relay.command("reset"),
            Fault::NoDescriptors => {
                self.process.command("take-descriptors")?;
                self.relay.command("reset")?;
                pause(500..2_000).await;
                self.process.command("release-descriptors")
            }
            Fault::FullDisk => {
                self.process.kill()?;
                self.start_again(Log::FullDisk).await
            }
            Fault::ClockJump => {
                let clock = Clock::of(&self.directory, &self.agent.id);
                clock.jump()?;
                clock::stay().await;
                Ok(clock.restore()?)
            }
        }
    }

    async fn command_for(
        &self,
        begin: &str,
        milliseconds: Range<u64>,
        end: &str,
    ) -> Result<(), Failure> {
        self.process.command(begin)?;
        pause(milliseconds).await;
        self.process.command(end)
    }

    async fn relay_for(&self, mode: &str) -> Result<(), Failure> {
        self.relay.command(mode)?;
        pause(SILENCE).await;
        self.relay.command("forward")
    }

    async fn start_again(&mut self, log: Log) -> Result<(), Failure> {
        self.process = self.process_at(self.place, log).await?;
        Ok(())
    }

    async fn process_at(&self, place: usize, log: Log) -> Result<Process, Failure> {
        let Agent { id, link, .. } = &self.agent;
        Process::agent(&self.directory, id, *link, &self.serve[place], log).await
    }

    async fn move_to(&mut self, place: usize, pool: &AgentPool) -> Result<(), Failure> {
        let process = self.process_at(place, Log::File).await?;
        self.place = place;
        if self.agent.link.direction == Direction::Forward {
            pool.replace(AgentConfig::new(&self.agent.id, self.endpoint()))
                .await?;
            // Exchanges that began at the old address finish there: the drain timeout is 1 s.
            sleep(Duration::from_millis(1_200)).await;
        }
        let former = std::mem::replace(&mut self.process, process);
        former.stop().await?;
        Ok(())
    }

    /// Waits until the pool has all connections to the agent again.
    pub(crate) async fn recover(&self, pool: &AgentPool) -> Result<(), Failure> {
        let began = Instant::now();
        let id = &self.agent.id;
        while began.elapsed() < RECOVERY {
            let stats = pool.agent(id).map(|agent| agent.stats());
            if stats.is_some_and(|stats| stats.healthy_connections >= CONNECTIONS) {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Err(format!("{id}: not connected again {RECOVERY:?} after the last fault").into())
    }
}

pub(crate) async fn pause(milliseconds: Range<u64>) {
    sleep(Duration::from_millis(fastrand::u64(milliseconds))).await;
}
