//! What is done to the agent that is harmed.

use crate::agent::Process;
use crate::{Failure, VICTIM};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;
use tollgate::AgentPool;

/// The process behind the agent's name, and the two places where it may be.
pub(crate) struct Victims {
    process: Process,
    sockets: [PathBuf; 2],
}

impl Victims {
    pub(crate) async fn start(directory: &Path) -> Result<Self, Failure> {
        let sockets = ["victim-1.sock", "victim-2.sock"].map(|name| directory.join(name));
        let process = Process::start(&sockets[0]).await?;
        Ok(Self { process, sockets })
    }

    pub(crate) fn socket(&self) -> &Path {
        self.process.socket()
    }
}

/// How often each was done.
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

/// Does harm every few seconds until it is told to stop.
pub(crate) async fn inject(
    pool: AgentPool,
    mut victims: Victims,
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
                victims.process.signal("KILL")?;
                pause(10..1_000).await;
                let socket = victims.socket().to_owned();
                victims.process = Process::start(&socket).await?;
            }
            1 => {
                faults.stopped += 1;
                victims.process.signal("STOP")?;
                pause(100..2_000).await;
                victims.process.signal("CONT")?;
            }
            2 => {
                faults.paused += 1;
                victims.process.order("pause")?;
                pause(10..500).await;
                victims.process.order("resume")?;
            }
            3 => {
                faults.degraded += 1;
                victims.process.order("degraded")?;
                pause(10..500).await;
                victims.process.order("healthy")?;
            }
            _ => {
                faults.moved += 1;
                let is_there = |socket: &&PathBuf| **socket != victims.process.socket();
                let to = victims
                    .sockets
                    .iter()
                    .find(is_there)
                    .ok_or("nowhere to go")?;
                let process = Process::start(to).await?;
                pool.add_agent(VICTIM, to.display().to_string()).await?;
                // What began at the old place finishes there.
                sleep(Duration::from_millis(1_200)).await;
                victims.process = process;
            }
        }
    }
    Ok(faults)
}

async fn pause(milliseconds: std::ops::Range<u64>) {
    sleep(Duration::from_millis(fastrand::u64(milliseconds))).await;
}
