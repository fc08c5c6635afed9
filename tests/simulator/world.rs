//! The world of a simulation: what its tasks share, and how it is run.

use crate::agents::RunningAgent;
use crate::ledger::{CallEnd, FinishedCall, Ledger};
use crate::network::Network;
use crate::panics;
use crate::plan::{Caller, Plan};
use crate::simulation::{Simulation, runtime, violation};
use crate::trace::Trace;
use crate::updates::{self, Updates};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};
use tollgate::error::UnknownAgent;
use tollgate::sim::{self, clock};
use tollgate::{
    AddError, Agent, AgentPool, AgentPoolConfig, CallError, Encoding,
    config_push::ConfigPusherConfig,
};

/// Factor by which a degraded agent extends timeouts.
pub const DEGRADED_FACTOR: f32 = 2.0;

/// Interval of the pool's health checks.
pub const HEALTH_CHECK_INTERVAL: Duration = Duration::from_millis(300);

/// State that the tasks of a simulation share.
pub struct World {
    pub plan: Arc<Plan>,
    pub network: Network,
    pub pool: AgentPool,
    trace: Arc<Trace>,
    ledger: Mutex<Ledger>,
    updates: Mutex<Updates>,
    agents: Mutex<Vec<Option<RunningAgent>>>,
}

/// Result of a simulation.
#[derive(Debug)]
pub struct Report {
    /// The violated invariant and how, if one was.
    pub violation: Option<(String, String)>,
    pub trace: Vec<String>,
    /// Hash of the trace.
    pub hash: u64,
    pub calls: u64,
}

impl World {
    pub fn new(plan: &Plan, keeps_trace: bool) -> Self {
        Self {
            plan: Arc::new(plan.clone()),
            network: Network::new(plan.network),
            pool: AgentPool::with_config(pool_config(plan)),
            trace: Arc::new(Trace::new(keeps_trace)),
            ledger: Mutex::default(),
            updates: Mutex::default(),
            agents: Mutex::new((0..plan.agents.len()).map(|_| None).collect()),
        }
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn updates(&self) -> MutexGuard<'_, Updates> {
        self.updates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, what: fmt::Arguments<'_>) {
        self.trace.note(what);
    }

    pub fn agents(&self) -> MutexGuard<'_, Vec<Option<RunningAgent>>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the handle of an agent.
    pub fn agent(&self, number: usize) -> Result<Agent, CallError> {
        let name = &*self.plan.agents[number].name;
        let agent = self.pool.agent(name);
        agent.ok_or_else(|| CallError::Removed {
            agent_id: name.into(),
        })
    }

    /// In a calm plan, an exchange must be had.
    pub fn lost_exchange(&self, caller: &Caller, error: &CallError) {
        if self.plan.is_calm {
            let text = format!("caller {} got no exchange: {error}", caller.number);
            self.ledger()
                .violations
                .push(("calm_changes_lose_nothing", text));
        }
    }

    /// Runs an operation of the pool in a task, and records how long it took.
    pub fn operate<T: fmt::Debug + Send, E: Into<Failure> + Send>(
        self: &Arc<Self>,
        what: String,
        limit: Duration,
        operation: impl Future<Output = Result<T, E>> + Send + 'static,
    ) {
        let world = Arc::clone(self);
        let started = clock::since_start();
        tokio::spawn(async move {
            let result = match operation.await {
                Ok(value) => format!("{value:?}"),
                Err(error) => error.into().0,
            };
            world.note(format_args!("{what} ends: {result}"));
            let took = clock::since_start() - started;
            world.ledger().operations.push((what, took, limit));
        });
    }
}

/// The error of an operation of the pool, in the trace.
pub struct Failure(String);

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self(error.kind().to_owned())
    }
}

impl From<AddError> for Failure {
    fn from(error: AddError) -> Self {
        Self(error.to_string())
    }
}

impl From<UnknownAgent> for Failure {
    fn from(_: UnknownAgent) -> Self {
        Self("unknown_agent".to_owned())
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

/// Runs a plan.
pub fn run(plan: &Plan, keeps_trace: bool) -> Report {
    sim::reset();
    panics::take();
    fastrand::seed(plan.seed);
    align_task_ids();
    clock::start(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
    let mut simulation = Simulation::new(plan, keeps_trace);
    let network = simulation.world.network.clone();
    sim::set_connector(Some(Box::new(move |name| network.connect(name))));
    let world = Arc::clone(&simulation.world);
    let mut violation = simulation.play().err();
    drop(simulation);
    sim::set_connector(None);
    let calls = world.ledger().made;
    let trace = Arc::clone(&world.trace);
    let left = Arc::downgrade(&world);
    drop(world);
    if violation.is_none() {
        violation = leftovers(&left);
    }
    if let Some((name, text)) = &violation {
        trace.note(format_args!("VIOLATION of {name}: {text}"));
    }
    let (trace, hash) = trace.finish();
    clock::stop();
    sim::reset();
    Report {
        violation,
        trace,
        hash,
        calls,
    }
}

/// Lists in which a runtime keeps its tasks, by their id. When it ends, it drops one list after
/// another.
const TASK_LISTS: u64 = 4;

/// Uses up ids of tasks, so that those of a simulation are in the same lists whatever ran before.
fn align_task_ids() {
    let runtime = runtime();
    let _guard = runtime.enter();
    let is_last = |id: tokio::task::Id| {
        let id: u64 = id.to_string().parse().expect("a number");
        id % TASK_LISTS == TASK_LISTS - 1
    };
    while !is_last(tokio::spawn(async {}).id()) {}
}

/// Name of the violated invariant, and how it is violated.
pub type Violation = (String, String);

/// Checks that nothing of a simulation is left in memory.
fn leftovers(world: &Weak<World>) -> Option<Violation> {
    if world.strong_count() > 0 {
        return Some(violation(
            "no_task_is_left",
            "a task of an ended runtime is still there",
        ));
    }
    let connections = sim::connections();
    let text = format!("{connections:?}");
    (!connections.is_empty()).then(|| violation("no_connection_is_left", text))
}

/// A caller that has not ended.
pub struct RunningCaller(Arc<World>);

impl RunningCaller {
    pub fn new(world: &Arc<World>) -> Self {
        world.ledger().running += 1;
        Self(Arc::clone(world))
    }
}

impl Drop for RunningCaller {
    fn drop(&mut self) {
        self.0.ledger().running -= 1;
    }
}

fn pool_config(plan: &Plan) -> AgentPoolConfig {
    let pool = &plan.pool;
    AgentPoolConfig::default()
        .connections_per_agent(pool.connections_per_agent)
        .placement(pool.placement)
        .load_balance_strategy(pool.strategy)
        .connect_timeout(Duration::from_millis(500))
        .request_timeout(pool.request_timeout)
        .drain_timeout(pool.drain_timeout)
        .max_concurrent_per_connection(pool.max_concurrent)
        .max_queued_calls(pool.max_queued)
        .queue_timeout(pool.queue_timeout)
        .channel_buffer_size(pool.channel)
        .flow_control_mode(pool.flow_control_mode)
        .flow_control_wait_timeout(Duration::from_millis(80))
        .failure_mode(pool.failure_mode)
        .circuit_breaker_threshold(pool.breaker_threshold)
        // Short, so that agents are silent for the whole of it now and then.
        .circuit_breaker_window(Duration::from_millis(200))
        .circuit_breaker_reset_timeout(Duration::from_millis(400))
        .health_check_interval(HEALTH_CHECK_INTERVAL)
        // An agent that handles as many events as it may does not read pings.
        .ping_timeout(Duration::from_millis(if plan.is_calm {
            60_000
        } else {
            200
        }))
        .reconnect_interval(Duration::from_millis(20))
        .correlation_affinity_ttl(Duration::from_millis(if plan.is_calm {
            100_000
        } else {
            1000
        }))
        .config_push(push_config(plan))
        .max_correlation_affinities(pool.max_pins)
        .timing_interval(pool.timing_interval)
        .encodings(if pool.prefers_json {
            vec![Encoding::Json]
        } else {
            vec![Encoding::MessagePack, Encoding::Json]
        })
        .use_extension(pool.uses_extension)
}

fn push_config(plan: &Plan) -> ConfigPusherConfig {
    let mut config = ConfigPusherConfig::default()
        .ack_timeout(updates::ACK_TIMEOUT)
        .max_retries(updates::MAX_ATTEMPTS - 1)
        .retry_interval(updates::RETRY_INTERVAL);
    if plan.is_calm {
        config.ack_timeout = Duration::from_secs(60);
        // A push does not wait for a slot, and an agent may have few.
        config.max_retries = 20;
    }
    config
}

/// Returns whether a finished call was answered by an agent.
pub fn is_answered(call: &FinishedCall) -> bool {
    matches!(call.end, CallEnd::Answered { mark: Some(_), .. })
}
