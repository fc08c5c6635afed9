//! Everything that injects faults during a run.

use crate::Failure;
use crate::account::Ledger;
use crate::clock::Clock;
use crate::faults::Tally;
use crate::log::PoolLog;
use crate::own_faults::OwnFaults;
use crate::roster::{Agent, Role};
use crate::victim::Victim;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::RwLock;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tollgate::AgentPool;

type Task<T> = JoinHandle<Result<T, Failure>>;

/// The tasks that inject faults, one for each victim and one for the pool's own process.
pub(crate) struct Harm {
    own: Task<[Tally; 2]>,
    victims: Vec<(Agent, Task<(Victim, Tally)>)>,
    /// Held alone while this process has no free descriptors.
    pub(crate) quiet: Arc<RwLock<()>>,
}

/// The faults that were injected.
pub(crate) struct Injected {
    /// Faults of each agent, in the order of the roster.
    pub(crate) agents: Vec<Tally>,
    pub(crate) own: Tally,
    /// The victims, which serve until they are dropped.
    pub(crate) victims: Vec<Victim>,
}

impl Harm {
    /// Injects faults until `deadline`. A failure to do so ends the run.
    pub(crate) fn begin(
        pool: &AgentPool,
        ledger: &Arc<Ledger>,
        victims: Vec<(Agent, Victim)>,
        own_faults: OwnFaults,
        deadline: Instant,
    ) -> Self {
        let quiet = Arc::clone(&own_faults.quiet);
        let own = spawn_noting_failure(ledger, own_faults.inject(deadline));
        let victims = victims.into_iter().map(|(agent, victim)| {
            let suffering = victim.suffer(pool.clone(), Arc::clone(&quiet), deadline);
            (agent, spawn_noting_failure(ledger, suffering))
        });
        Self {
            own,
            victims: victims.collect(),
            quiet,
        }
    }

    /// Waits until the last fault is over and every victim answers again.
    pub(crate) async fn end(
        self,
        pool: &AgentPool,
        ledger: &Ledger,
        agents: &[Agent],
    ) -> Result<Injected, Failure> {
        let [own, steady] = self.own.await??;
        let of_steady = |agent: &Agent| match agent.role {
            Role::Steady => steady,
            Role::Victim | Role::Faulty => Tally::default(),
        };
        let mut injected = Injected {
            agents: agents.iter().map(of_steady).collect(),
            own,
            victims: Vec::new(),
        };
        for (agent, suffering) in self.victims {
            let (victim, tally) = suffering.await??;
            victim.recover(pool).await?;
            await_answer(ledger, &agent).await?;
            injected.agents[agent.index] = tally;
            injected.victims.push(victim);
        }
        Ok(injected)
    }
}

/// Returns the faults that are injected into this process.
pub(crate) fn own_faults(
    directory: &Path,
    clock: Clock,
    log: PoolLog,
    agents: &[Agent],
    victims: &[(Agent, Victim)],
) -> OwnFaults {
    let steady = agents.iter().filter(|agent| agent.role == Role::Steady);
    OwnFaults {
        log,
        clock,
        steady_clocks: steady
            .map(|agent| Clock::of(directory, &agent.id))
            .collect(),
        relays: victims.iter().map(|(_, victim)| victim.relay()).collect(),
        quiet: Arc::default(),
    }
}

/// Spawns a task whose failure ends the run.
fn spawn_noting_failure<T: Send + 'static>(
    ledger: &Arc<Ledger>,
    task: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Task<T> {
    let ledger = Arc::clone(ledger);
    tokio::spawn(async move {
        let done = task.await;
        done.inspect_err(|failure| ledger.record_wrong(failure.to_string()))
    })
}

/// Waits until an agent has answered another call.
async fn await_answer(ledger: &Ledger, agent: &Agent) -> Result<(), Failure> {
    let before = ledger.answered_by(agent);
    let began = Instant::now();
    while ledger.answered_by(agent) == before {
        if began.elapsed() > Duration::from_secs(30) {
            return Err(format!("{} does not answer after the last fault", agent.id).into());
        }
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
