//! The driver of a simulation: its runtimes, its clock, its phases and its checks.

use crate::invariants::{self, Observed, Passing};
use crate::panics;
use crate::plan::{Action, AgentKind, Caller, Plan, Way};
use crate::updates::{self, Updates};
use crate::world::{DEGRADED_FACTOR, HEALTH_CHECK_INTERVAL, Violation, World};
use futures_util::FutureExt;
use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tollgate::control::{NoticeError, Notices};
use tollgate::sim::{self, clock};
use tollgate::{ReverseConnectionConfig, ReverseConnectionListener};

/// Longest virtual time after the last fault until every agent answers again. The longest backoff
/// is 30 s.
pub const HEALING_TIME: Duration = Duration::from_secs(35);

/// Virtual time from the end of the last call until nothing may be left over.
const REST: Duration = Duration::from_millis(2500);

/// Time for which the runtimes are observed after the end; longer than any backoff.
const QUIET_TIME: Duration = Duration::from_secs(60);

/// Longest time between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(25);

/// Token of the agents that are added before they connect.
pub const TOKEN: &str = "simulated";

/// The runtimes and the clock of a simulation.
pub struct Simulation {
    pub world: Arc<World>,
    pub runtimes: Vec<Option<Runtime>>,
    pub now: Duration,
    tick: Duration,
    passing: RefCell<Passing>,
    notices: RefCell<Notices>,
}

impl Simulation {
    pub fn new(plan: &Plan, keeps_trace: bool) -> Self {
        let world = Arc::new(World::new(plan, keeps_trace));
        let handler = updates::handler(&Arc::downgrade(&world), plan);
        world.pool.set_config_update_handler(handler);
        let notices = world.pool.notices();
        let is_alone = plan.runtimes == 1;
        Self {
            world,
            notices: RefCell::new(notices),
            runtimes: (0..plan.runtimes).map(|_| Some(runtime())).collect(),
            now: Duration::ZERO,
            passing: RefCell::default(),
            // Runtimes take turns, so their clocks differ by up to a tick.
            tick: Duration::from_millis(if is_alone { 1_000_000 } else { 1 }),
        }
    }

    /// Runs all phases.
    pub fn play(&mut self) -> Result<(), Violation> {
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
            let mut config = ReverseConnectionConfig::default()
                .handshake_timeout(Duration::from_millis(500))
                .grace_time(Duration::from_millis(700))
                .require_auth(false);
            if world.plan.configures_first {
                // The ids of agents that the proxy added belong to those with a token.
                let tokens = HashSet::from([TOKEN.to_owned()]);
                config.agent_tokens.insert("*".to_owned(), tokens);
            }
            let socket = world.network.listen("proxy");
            let listener = Arc::new(ReverseConnectionListener::simulated(socket, config));
            tokio::spawn(listener.accept_loop(Arc::new(world.pool.clone())));
        });
        for agent in 0..self.world.plan.agents.len() {
            if self.world.plan.configures_first {
                self.world.ledger().settings_set(agent);
                self.advance(self.now + Duration::from_millis(1))?;
                self.add_configured(agent);
            }
            self.apply(&Action::Start { agent });
            if !self.world.plan.configures_first {
                self.apply(&Action::Add {
                    agent,
                    is_moved: false,
                    runtime: 0,
                });
            }
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
            if !is_dialer && self.world.agent(agent).is_err() {
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
        self.request_last_updates();
        // Nothing expires in a calm plan, and pushes may find all slots taken for long.
        let retries = if world.plan.is_calm { 30 } else { 0 };
        let deadline = self.now + Duration::from_secs(retries);
        let has_pushes = |now| now < deadline && world.pool.config_pusher().pending_count() > 0;
        while world.updates().open_requests > 0 || has_pushes(self.now) {
            self.advance(self.now + Duration::from_millis(100))?;
        }
        self.advance(self.now + REST)?;
        // The pool may just give a new connection its settings.
        let deadline = self.now + world.plan.pool.request_timeout.mul_f32(DEGRADED_FACTOR);
        while self.now < deadline && sim::connections().iter().any(|one| one.in_flight > 0) {
            self.advance(self.now + Duration::from_millis(5))?;
        }
        self.check(&invariants::AT_REST)?;
        let agents = sim::agents(&world.pool);
        let mut updates = world.updates();
        updates.check_at_rest(&world.plan, &world.pool, &agents);
        violation_of(&mut updates)
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
        self.check_timers()
    }

    /// Checks that only the ticks of maintenance wake a runtime, now that nothing is left to do.
    fn check_timers(&mut self) -> Result<(), Violation> {
        let mut parks = 0;
        for number in 0..self.runtimes.len() {
            let before = self.parks(number);
            self.turn(number, QUIET_TIME);
            parks += self.parks(number) - before;
        }
        self.now += QUIET_TIME;
        let ticks = QUIET_TIME.as_millis() / HEALTH_CHECK_INTERVAL.as_millis();
        // Tokio also wakes to move timers to a finer level of its wheel, and parks three times for
        // each wake-up.
        let expected = 3 * (ticks as u64 + 20 * self.runtimes.len() as u64);
        if parks > expected {
            let text = format!("{parks} parks within {QUIET_TIME:?}, at most {expected}");
            return Err(violation("no_timer_is_left", text));
        }
        Ok(())
    }

    /// Returns how often a runtime has had nothing to do.
    fn parks(&self, number: usize) -> u64 {
        let runtime = self.runtimes[number].as_ref();
        runtime.map_or(0, |runtime| runtime.metrics().worker_park_count(0))
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
    pub fn within(&self, number: usize, action: impl FnOnce()) {
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

    fn check_updates(&self) -> Result<(), Violation> {
        let (world, plan) = (&self.world, &*self.world.plan);
        let mut updates = world.updates();
        let mut notices = self.notices.borrow_mut();
        while let Some(received) = notices.recv().now_or_never() {
            match received {
                Ok(notice) => updates.notice(plan, &notice),
                Err(NoticeError::Missed(_)) => updates.lost_notices(),
                Err(_) => break,
            }
        }
        updates.check_pushes(plan, &world.pool);
        violation_of(&mut updates)
    }

    fn check(&self, invariants: &[invariants::Invariant]) -> Result<(), Violation> {
        if let Some(panic) = panics::take() {
            return Err(violation("nothing_panics", panic));
        }
        self.check_updates()?;
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
}

impl Drop for Simulation {
    fn drop(&mut self) {
        clock::leave(self.now);
        self.runtimes.clear();
        self.world.agents().clear();
    }
}

pub fn violation(name: &str, text: impl Into<String>) -> Violation {
    (name.to_owned(), text.into())
}

fn violation_of(updates: &mut Updates) -> Result<(), Violation> {
    let found = updates.take_violation();
    found.map_or(Ok(()), |(name, text)| Err(violation(name, text)))
}

pub fn runtime() -> Runtime {
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
