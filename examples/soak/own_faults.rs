//! Injects faults into the pool's own process, and moves the clocks of steady agents.

use crate::Failure;
use crate::clock::{self, Clock};
use crate::common::process::Process;
use crate::descriptors::TakenDescriptors;
use crate::faults::{Fault, Tally};
use crate::log::Log;
use crate::log::PoolLog;
use crate::victim::pause;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::RwLock;
use tokio::time::sleep;

/// The faults of the pool's process in order.
const ROUND: [Fault; 3] = [Fault::NoDescriptors, Fault::ClockJump, Fault::FullDisk];

#[derive(Debug)]
pub(crate) struct OwnFaults {
    pub(crate) log: PoolLog,
    /// The clock of this process.
    pub(crate) clock: Clock,
    pub(crate) steady_clocks: Vec<Clock>,
    pub(crate) relays: Vec<Arc<Process>>,
    /// Held by each fault of a victim.
    pub(crate) quiet: Arc<RwLock<()>>,
}

impl OwnFaults {
    /// Injects a fault every four to eight seconds until `deadline`. Returns the faults of this
    /// process and those of each steady agent.
    pub(crate) async fn inject(self, deadline: Instant) -> Result<[Tally; 2], Failure> {
        let [mut own, mut steady] = [Tally::default(); 2];
        for fault in ROUND.into_iter().cycle() {
            pause(4_000..8_000).await;
            if Instant::now() >= deadline {
                break;
            }
            match fault {
                Fault::NoDescriptors => self.take_descriptors().await?,
                Fault::ClockJump if clock::library().is_some() => {
                    self.move_clocks().await?;
                    steady.count(fault);
                }
                Fault::FullDisk => {
                    self.log.switch_to(Log::FullDisk);
                    sleep(Duration::from_secs(2)).await;
                    self.log.switch_to(Log::File);
                }
                _ => continue,
            }
            own.count(fault);
        }
        Ok([own, steady])
    }

    /// Takes all descriptors for a second. Victims lose their connections meanwhile. No process
    /// may be started during that time.
    async fn take_descriptors(&self) -> Result<(), Failure> {
        let _alone = self.quiet.write().await;
        let taken = TakenDescriptors::take()?;
        for relay in &self.relays {
            relay.command("reset")?;
        }
        sleep(Duration::from_secs(1)).await;
        Ok(taken.release()?)
    }

    async fn move_clocks(&self) -> Result<(), Failure> {
        let before = SystemTime::now();
        let clocks = || self.steady_clocks.iter().chain([&self.clock]);
        for clock in clocks() {
            clock.jump()?;
        }
        clock::stay().await;
        let moved = before
            .elapsed()
            .unwrap_or_else(|backwards| backwards.duration());
        if moved < Duration::from_secs(12 * 3600) {
            return Err("the clock of the pool's process did not jump".into());
        }
        for clock in clocks() {
            clock.restore()?;
        }
        Ok(())
    }
}
