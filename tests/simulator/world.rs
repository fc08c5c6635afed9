//! One simulation: its runtimes, its clock, its steps and its checks.

use crate::agents::RunningAgent;
use crate::callers;
use crate::invariants::{self, Observed, Passing};
use crate::ledger::{CallEnd, FinishedCall, Ledger};
use crate::network::Network;
use crate::panics;
use crate::plan::{Action, AgentKind, Caller, Plan, Way};
use crate::trace::Trace;
use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};
use tokio::runtime::{Builder, Runtime};
use tollgate::sim::{self, clock};
use tollgate::{
    AgentPool, AgentPoolConfig, AgentProtocolError, CancelReason, DrainReason, Encoding,
    FlowControlAction, ReverseConnectionConfig, ReverseConnectionListener,
};

/// Factor by which a degraded agent extends timeouts.
pub const DEGRADED_FACTOR: f32 = 2.0;

/// Longest virtual time after the last fault until every agent answers again.
pub const HEALING_TIME: Duration = Duration::from_secs(15);

/// Virtual time from the end of the last call until nothing may be left over.
const REST: Duration = Duration::from_millis(2500);

/// Longest time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(25);

/// State that the tasks of a simulation share.
pub struct World {
    pub plan: Arc<Plan>,
    pub network: Network,
    pub pool: AgentPool,
    trace: Arc<Trace>,
    ledger: Mutex<Ledger>,
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
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, what: fmt::Arguments<'_>) {
        self.trace.note(what);
    }

    fn agents(&self) -> MutexGuard<'_, Vec<Option<RunningAgent>>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// In a calm plan, an exchange must be had.
    pub fn lost_exchange(&self, caller: &Caller, error: &AgentProtocolError) {
        if self.plan.is_calm {
            let text = format!("caller {} got no exchange: {error}", caller.number);
            self.ledger()
                .violations
                .push(("calm_changes_lose_nothing", text));
        }
    }

    /// Runs an operation of the pool in a task, and records how long it took.
    fn operate<T: fmt::Debug + Send>(
        self: &Arc<Self>,
        what: String,
        limit: Duration,
        operation: impl Future<Output = Result<T, AgentProtocolError>> + Send + 'static,
    ) {
        let world = Arc::clone(self);
        let started = clock::since_start();
        tokio::spawn(async move {
            let result = match operation.await {
                Ok(value) => format!("{value:?}"),
                Err(error) => error.kind().to_owned(),
            };
            world.note(format_args!("{what} ends: {result}"));
            let took = clock::since_start() - started;
            world.ledger().operations.push((what, took, limit));
        });
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

type Violation = (String, String);

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

struct Simulation {
    world: Arc<World>,
    runtimes: Vec<Option<Runtime>>,
    now: Duration,
    tick: Duration,
    passing: RefCell<Passing>,
}

impl Simulation {
    fn new(plan: &Plan, keeps_trace: bool) -> Self {
        let world = World {
            plan: Arc::new(plan.clone()),
            network: Network::new(plan.network),
            pool: AgentPool::with_config(pool_config(plan)),
            trace: Arc::new(Trace::new(keeps_trace)),
            ledger: Mutex::default(),
            agents: Mutex::new((0..plan.agents.len()).map(|_| None).collect()),
        };
        let is_alone = plan.runtimes == 1;
        Self {
            world: Arc::new(world),
            runtimes: (0..plan.runtimes).map(|_| Some(runtime())).collect(),
            now: Duration::ZERO,
            passing: RefCell::default(),
            // Runtimes take turns, so their clocks differ by up to a tick.
            tick: Duration::from_millis(if is_alone { 1_000_000 } else { 1 }),
        }
    }

    fn play(&mut self) -> Result<(), Violation> {
        self.begin()?;
        let plan = Arc::clone(&self.world.plan);
        for step in &plan.steps {
            self.advance(step.at)?;
            self.apply(&step.action);
        }
        self.advance(plan.healed_at)?;
        self.heal()?;
        self.rest()?;
        self.end()
    }

    /// Starts the listener and all agents, and adds the agents to the pool.
    fn begin(&mut self) -> Result<(), Violation> {
        let world = Arc::clone(&self.world);
        self.within(0, || {
            let config = ReverseConnectionConfig {
                handshake_timeout: Duration::from_millis(500),
                grace_time: Duration::from_millis(700),
                require_auth: false,
                ..ReverseConnectionConfig::default()
            };
            let socket = world.network.listen("proxy");
            let listener = Arc::new(ReverseConnectionListener::simulated(socket, config));
            tokio::spawn(listener.accept_loop(Arc::new(world.pool.clone())));
        });
        for agent in 0..self.world.plan.agents.len() {
            if self.world.plan.configures_first {
                self.apply(&Action::Configure { agent });
                self.advance(self.now + Duration::from_millis(1))?;
            }
            self.apply(&Action::Start { agent });
            self.apply(&Action::Add {
                agent,
                is_moved: false,
                runtime: 0,
            });
        }
        Ok(())
    }

    /// Ends all faults, and checks that every agent answers again in time.
    fn heal(&mut self) -> Result<(), Violation> {
        self.world.note(format_args!("all faults end"));
        self.world.network.heal();
        for agent in 0..self.world.plan.agents.len() {
            self.apply(&Action::Start { agent });
            self.apply(&Action::Resume { agent });
            self.apply(&Action::Report {
                agent,
                state: crate::plan::Report::Healthy,
            });
        }
        if !self.world.plan.is_calm {
            self.tick = self.tick.max(Duration::from_millis(2));
        }
        let deadline = self.now + HEALING_TIME;
        let mut unhealed: Vec<_> = (0..self.world.plan.agents.len()).collect();
        let mut number = 1_000_000;
        while !unhealed.is_empty() {
            if self.now >= deadline {
                let names: Vec<_> = unhealed
                    .iter()
                    .map(|agent| &self.world.plan.agents[*agent].name)
                    .collect();
                return Err(violation(
                    "pool_heals_after_the_last_fault",
                    format!("{names:?} do not answer"),
                ));
            }
            self.add_missing();
            let probes: Vec<_> = unhealed
                .iter()
                .map(|agent| {
                    number += 1;
                    let caller = probe(number, *agent);
                    self.apply(&Action::Call(caller));
                    (*agent, format!("i{number}.0"))
                })
                .collect();
            self.advance(self.now + Duration::from_millis(300))?;
            let ledger = self.world.ledger();
            let is_answered = |label: &str| ledger.answered_calls.contains(label);
            unhealed = probes
                .into_iter()
                .filter(|(_, label)| !is_answered(label))
                .map(|(agent, _)| agent)
                .collect();
        }
        self.world.note(format_args!("every agent answers"));
        Ok(())
    }

    /// Adds agents again that were removed, perhaps by a shutdown that has just ended.
    fn add_missing(&mut self) {
        for agent in 0..self.world.plan.agents.len() {
            let plan = &self.world.plan.agents[agent];
            let is_dialer = matches!(plan.kind, AgentKind::Dialer { .. });
            if !is_dialer && !self.world.pool.agent_ids().contains(&plan.name) {
                self.apply(&Action::Add {
                    agent,
                    is_moved: false,
                    runtime: 0,
                });
            }
        }
    }

    /// Waits for the last call, and checks that nothing is left over.
    fn rest(&mut self) -> Result<(), Violation> {
        let world = Arc::clone(&self.world);
        // The longest call, and what a caller does one after another.
        let deadline = self.now + Duration::from_secs(120);
        while world.ledger().running > 0 {
            if self.now >= deadline {
                let running = world.ledger().running;
                return Err(violation(
                    "every_call_ends",
                    format!("{running} callers have not ended"),
                ));
            }
            self.advance(self.now + Duration::from_millis(200))?;
        }
        self.advance(self.now + REST)?;
        self.check(&invariants::AT_REST)
    }

    /// Shuts everything down, and checks that no task and no connection is left.
    fn end(&mut self) -> Result<(), Violation> {
        self.apply(&Action::Shutdown { runtime: 0 });
        for agent in 0..self.world.plan.agents.len() {
            self.apply(&Action::Stop { agent });
        }
        self.advance(self.now + Duration::from_secs(3))?;
        for agent in self.world.agents().iter().flatten() {
            agent.crash();
        }
        self.advance(self.now + self.world.plan.pool.drain_timeout + Duration::from_secs(2))?;
        self.check(&invariants::AT_REST)?;
        for (number, runtime) in self.runtimes.iter().flatten().enumerate() {
            // The listener, and maintenance.
            let expected = if number == 0 { 2 } else { 1 };
            let alive = runtime.metrics().num_alive_tasks();
            if alive > expected {
                let text = format!("runtime {number} has {alive} tasks, expected are {expected}");
                return Err(violation("no_task_is_left", text));
            }
        }
        let open: Vec<_> = sim::connections()
            .into_iter()
            .filter(|one| one.is_open)
            .collect();
        if !open.is_empty() {
            return Err(violation("no_connection_is_left", format!("{open:?}")));
        }
        Ok(())
    }

    /// Lets virtual time pass, and checks the invariants meanwhile.
    fn advance(&mut self, to: Duration) -> Result<(), Violation> {
        while self.now < to {
            let check_at = to.min(self.now + CHECK_INTERVAL);
            while self.now < check_at {
                let next = check_at.min(self.now + self.tick);
                for number in 0..self.runtimes.len() {
                    self.turn(number, next - self.now);
                }
                self.now = next;
                clock::leave(next);
            }
            self.check(&invariants::ALWAYS)?;
        }
        Ok(())
    }

    /// Lets one runtime run for a while.
    fn turn(&self, number: usize, duration: Duration) {
        let Some(runtime) = &self.runtimes[number] else {
            return;
        };
        let _guard = runtime.enter();
        clock::enter(self.now);
        runtime.block_on(tokio::time::sleep(duration));
        clock::leave(self.now);
    }

    /// Runs a function on a runtime, without letting time pass.
    fn within(&self, number: usize, action: impl FnOnce()) {
        let number = if self.runtimes[number].is_some() {
            number
        } else {
            0
        };
        if let Some(runtime) = &self.runtimes[number] {
            let _guard = runtime.enter();
            clock::enter(self.now);
            action();
            clock::leave(self.now);
        }
    }

    fn check(&self, invariants: &[invariants::Invariant]) -> Result<(), Violation> {
        if let Some(panic) = panics::take() {
            return Err(violation("nothing_panics", panic));
        }
        let mut ledger = self.world.ledger();
        if let Some((name, text)) = ledger.violations.pop() {
            return Err(violation(name, text));
        }
        let observed = Observed {
            plan: &self.world.plan,
            pool: &self.world.pool,
            finished: std::mem::take(&mut ledger.finished),
            operations: std::mem::take(&mut ledger.operations),
            ledger: &ledger,
            agents: sim::agents(&self.world.pool),
            connections: sim::connections(),
            overtaken: sim::take_overtaken(),
            passing: &self.passing,
            tick: self.tick.min(Duration::from_millis(5)),
        };
        for invariant in invariants {
            if let Some(text) = (invariant.check)(&observed) {
                let text = format!("{text}\n    (\"{}\")", invariant.sentence);
                return Err(violation(invariant.name, text));
            }
        }
        Ok(())
    }

    fn apply(&mut self, action: &Action) {
        if !matches!(action, Action::Call(_)) {
            self.world.note(format_args!("{action:?}"));
        }
        match action {
            Action::Call(caller) => self.call(caller),
            Action::Break { pick, after, how } => {
                let what = self.world.network.break_link(*pick, *after, *how);
                self.world.note(format_args!("  breaks {what}"));
            }
            Action::Stall { pick, ms } => {
                let what = self
                    .world
                    .network
                    .stall_link(*pick, Duration::from_millis(*ms));
                self.world.note(format_args!("  stalls {what}"));
            }
            Action::EndRuntime { runtime } => self.end_runtime(*runtime),
            Action::JumpClock {
                seconds,
                is_forward,
            } => {
                clock::jump(Duration::from_secs(*seconds), *is_forward);
            }
            Action::Silence { agent, ms } => {
                let name = &self.world.plan.agents[*agent].name;
                self.world.network.silence(name, Duration::from_millis(*ms));
            }
            Action::Crash { .. }
            | Action::Stop { .. }
            | Action::Start { .. }
            | Action::Pause { .. }
            | Action::Resume { .. }
            | Action::PauseExchange { .. }
            | Action::ResumeExchange { .. }
            | Action::Report { .. } => self.change_agent(action),
            _ => self.operate(action),
        }
    }

    fn call(&mut self, caller: &Caller) {
        let world = Arc::clone(&self.world);
        let caller = caller.clone();
        self.within(caller.runtime, || {
            let guard = RunningCaller::new(&world);
            tokio::spawn(async move {
                callers::run(world, caller).await;
                drop(guard);
            });
        });
    }

    fn end_runtime(&mut self, number: usize) {
        if number == 0 {
            return;
        }
        let mut ledger = self.world.ledger();
        ledger.inexact = true;
        drop(ledger);
        let ended = self.runtimes[number].take();
        drop(ended);
        self.runtimes[number] = Some(runtime());
    }

    fn change_agent(&mut self, action: &Action) {
        let world = Arc::clone(&self.world);
        let plan = Arc::clone(&world.plan);
        let number = match action {
            Action::Start { agent } => plan.agents[*agent].runtime,
            _ => 0,
        };
        let id = |caller: &usize| plan.caller(*caller).map_or_else(String::new, Caller::id);
        self.within(number, || {
            let mut agents = world.agents();
            match action {
                Action::Start { agent } => {
                    let is_running = agents[*agent]
                        .as_ref()
                        .is_some_and(RunningAgent::is_running);
                    if !is_running {
                        agents[*agent] = Some(RunningAgent::start(&world, *agent));
                    }
                }
                Action::Crash { agent } => agents[*agent].iter().for_each(RunningAgent::crash),
                Action::Stop { agent } => agents[*agent].iter().for_each(RunningAgent::stop),
                Action::Pause { agent } | Action::Resume { agent } => {
                    let is_pause = matches!(action, Action::Pause { .. });
                    let action = if is_pause {
                        FlowControlAction::Pause
                    } else {
                        FlowControlAction::Resume
                    };
                    for control in agents[*agent].iter().flat_map(RunningAgent::controls) {
                        control.flow_control(action);
                    }
                }
                Action::PauseExchange { agent, caller } => {
                    for control in agents[*agent].iter().flat_map(RunningAgent::controls) {
                        control.flow_control_for(id(caller), FlowControlAction::Pause);
                    }
                }
                Action::ResumeExchange { agent, caller } => {
                    for control in agents[*agent].iter().flat_map(RunningAgent::controls) {
                        control.flow_control_for(id(caller), FlowControlAction::Resume);
                    }
                }
                Action::Report { agent, state } => {
                    agents[*agent]
                        .iter()
                        .for_each(|one| one.report(&plan.agents[*agent], *state));
                }
                _ => {}
            }
        });
    }

    /// Starts an operation of the pool.
    fn operate(&mut self, action: &Action) {
        let world = Arc::clone(&self.world);
        let plan = Arc::clone(&world.plan);
        let pool = world.pool.clone();
        let what = format!("{action:?}");
        let connect = Duration::from_secs(1) * plan.pool.connections_per_agent as u32;
        let brief = Duration::from_secs(2);
        let name = |agent: &usize| plan.agents[*agent].name.clone();
        // Once no call is left, a shutdown has nothing to wait for.
        let is_idle = world.ledger().running == 0 && self.now > plan.healed_at;
        let drain = if is_idle {
            Duration::from_millis(50)
        } else {
            plan.pool.drain_timeout + brief
        };
        match action {
            Action::Add {
                agent,
                is_moved,
                runtime,
            } => {
                let name = name(agent);
                if matches!(plan.agents[*agent].kind, AgentKind::Dialer { .. }) {
                    return;
                }
                let moved = if *is_moved { "-moved" } else { "" };
                let endpoint = format!("sim:{name}{moved}");
                self.within(*runtime, || {
                    world.operate(what, connect, async move {
                        pool.add_agent(name, endpoint).await
                    });
                });
            }
            Action::Remove { agent, runtime } => {
                world.ledger().settings_forgotten(*agent);
                world.ledger().inexact = true;
                let name = name(agent);
                self.within(*runtime, || {
                    world.operate(what, brief, async move { pool.remove_agent(&name).await });
                });
            }
            Action::Configure { agent } => {
                let (name, agent) = (name(agent), *agent);
                let limit = (plan.pool.request_timeout.mul_f32(DEGRADED_FACTOR) + brief) * 8;
                let setting = Arc::clone(&world);
                world.ledger().inexact = true;
                self.within(0, || {
                    world.operate(what, limit, async move {
                        setting.ledger().settings_set(agent);
                        let version = Some(clock::since_start().as_millis().to_string());
                        pool.configure_agent(&name, serde_json::json!({"a": 1}), version)
                            .await
                    });
                });
            }
            Action::Cancel { agent, caller } => {
                let name = name(agent);
                let id = plan.caller(*caller).map_or_else(String::new, Caller::id);
                self.within(0, || {
                    world.operate(what, brief, async move {
                        pool.cancel_request(&name, &id, CancelReason::Manual).await
                    });
                });
            }
            Action::CancelAll { agent } => {
                let name = name(agent);
                self.within(0, || {
                    world.operate(what, brief * 8, async move {
                        pool.cancel_all(&name, CancelReason::Manual).await
                    });
                });
            }
            Action::Ping { agent } => {
                let (name, limit) = (name(agent), plan.pool.request_timeout + brief);
                self.within(0, || {
                    world.operate(what, limit, async move { pool.ping(&name).await });
                });
            }
            Action::AskToDrain { agent } => {
                let name = name(agent);
                self.within(0, || {
                    world.operate(what, brief, async move {
                        pool.send_drain(&name, 100, DrainReason::Manual).await
                    });
                });
            }
            Action::Shutdown { runtime } => {
                world.ledger().inexact = true;
                let ended = Arc::clone(&world);
                self.within(*runtime, || {
                    world.operate(what, drain, async move {
                        ended.ledger().all_settings_forgotten(&ended.plan);
                        let result = pool.shutdown().await;
                        ended.ledger().all_settings_forgotten(&ended.plan);
                        result
                    });
                });
            }
            _ => {}
        }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        clock::leave(self.now);
        self.runtimes.clear();
        self.world.agents().clear();
    }
}

/// A caller that has not ended.
struct RunningCaller(Arc<World>);

impl RunningCaller {
    fn new(world: &Arc<World>) -> Self {
        world.ledger().running += 1;
        Self(Arc::clone(world))
    }
}

impl Drop for RunningCaller {
    fn drop(&mut self) {
        self.0.ledger().running -= 1;
    }
}

fn violation(name: &str, text: impl Into<String>) -> Violation {
    (name.to_owned(), text.into())
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
}

/// A caller that finds out whether an agent answers.
fn probe(number: usize, agent: usize) -> Caller {
    use crate::plan::{Answer, End, Kind, PlannedEvent, Wait};
    Caller {
        number,
        agent,
        runtime: 0,
        shared_id: None,
        way: Way::ById,
        events: vec![PlannedEvent {
            kind: Kind::RequestHeaders,
            pause_ms: 0,
            wait: Wait::No,
            answer: Answer::Allow,
            give_up_ms: None,
            timeout_ms: Some(250),
            padding: 0,
        }],
        end: End::Complete,
    }
}

fn pool_config(plan: &Plan) -> AgentPoolConfig {
    let pool = &plan.pool;
    AgentPoolConfig {
        connections_per_agent: pool.connections_per_agent,
        placement: pool.placement,
        load_balance_strategy: pool.strategy,
        connect_timeout: Duration::from_millis(500),
        request_timeout: pool.request_timeout,
        drain_timeout: pool.drain_timeout,
        max_concurrent_per_connection: pool.max_concurrent,
        max_queued_calls: pool.max_queued,
        queue_timeout: pool.queue_timeout,
        channel_buffer_size: pool.channel,
        flow_control_mode: pool.flow_control_mode,
        flow_control_wait_timeout: Duration::from_millis(80),
        failure_mode: pool.failure_mode,
        circuit_breaker_threshold: pool.breaker_threshold,
        circuit_breaker_reset_timeout: Duration::from_millis(400),
        health_check_interval: Duration::from_millis(300),
        // An agent that handles as many events as it may does not read pings.
        ping_timeout: Duration::from_millis(if plan.is_calm { 60_000 } else { 200 }),
        reconnect_interval: Duration::from_millis(20),
        correlation_affinity_ttl: Duration::from_millis(if plan.is_calm { 100_000 } else { 1000 }),
        max_correlation_affinities: pool.max_pins,
        timing_interval: pool.timing_interval,
        encodings: if pool.prefers_json {
            vec![Encoding::Json]
        } else {
            vec![Encoding::MessagePack, Encoding::Json]
        },
        use_extension: pool.uses_extension,
        ..AgentPoolConfig::default()
    }
}

/// Returns whether a finished call was answered by an agent.
pub fn is_answered(call: &FinishedCall) -> bool {
    matches!(call.end, CallEnd::Answered { mark: Some(_), .. })
}
