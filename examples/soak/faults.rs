//! Injects faults into one agent.

use crate::agent::Process;
use crate::{Failure, VICTIM};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;
use tollgate::AgentPool;

/// The process of the agent that faults are injected into, and the two sockets between which it
/// moves.
pub(crate) struct Victim {
    process: Process,
    sockets: [PathBuf; 2],
}

impl Victim {
    pub(crate) async fn start(directory: &Path) -> Result<Self, Failure> {
        let sockets = ["victim-1.sock", "victim-2.sock"].map(|name| directory.join(name));
        let process = Process::start(&sockets[0]).await?;
        Ok(Self { process, sockets })
    }

    pub(crate) fn socket(&self) -> &Path {
        self.process.socket()
    }
}

/// Number of times that each fault was injected.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    killed: usize,
    stopped: usize,
    paused: usize,
    degraded: usize,
    moved: usize,
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the victim was killed {} times, stopped {}, paused {}, degraded {}, moved {}",
            self.killed, self.stopped, self.paused, self.degraded, self.moved
        )
    }
}

/// Injects a fault every one to three seconds until `stop` is set.
pub(crate) async fn inject(
    pool: AgentPool,
    mut victim: Victim,
    stop: Arc<AtomicBool>,
) -> Result<Faults, Failure> {
    let mut faults = Faults::default();
    for round in 0.. {
        pause(1_000..3_000).await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        match round % 5 {
            0 => {
                faults.killed += 1;
                victim.process.signal("KILL")?;
                pause(10..1_000).await;
                let socket = victim.socket().to_owned();
                victim.process = Process::start(&socket).await?;
            }
            1 => {
                faults.stopped += 1;
                victim.process.signal("STOP")?;
                pause(100..2_000).await;
                victim.process.signal("CONT")?;
            }
            2 => {
                faults.paused += 1;
                victim.process.command("pause")?;
                pause(10..500).await;
                victim.process.command("resume")?;
            }
            3 => {
                faults.degraded += 1;
                victim.process.command("degraded")?;
                pause(10..500).await;
                victim.process.command("healthy")?;
            }
            _ => {
                faults.moved += 1;
                let is_unused = |socket: &&PathBuf| **socket != victim.process.socket();
                let to = victim
                    .sockets
                    .iter()
                    .find(is_unused)
                    .ok_or("both sockets are in use")?;
                let process = Process::start(to).await?;
                pool.add_agent(VICTIM, to.display().to_string()).await?;
                // Exchanges that began at the old socket finish there: the drain timeout is 1 s.
                sleep(Duration::from_millis(1_200)).await;
                victim.process = process;
            }
        }
    }
    Ok(faults)
}

async fn pause(milliseconds: std::ops::Range<u64>) {
    sleep(Duration::from_millis(fastrand::u64(milliseconds))).await;
}
