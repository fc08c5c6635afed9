//! Makes the plan of a seed.

use crate::network::Break;
use crate::plan::{
    Action, AgentKind, AgentPlan, Answer, Caller, End, Kind, NetworkPlan, Plan, PlannedEvent,
    PoolPlan, Report, Step, Wait, Way,
};
use fastrand::Rng;
use std::time::Duration;
use tollgate::{FailureMode, FlowControlMode, LoadBalanceStrategy, Placement};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn pick<T: Clone>(random: &mut Rng, of: &[T]) -> T {
    of[random.usize(..of.len())].clone()
}

/// Returns the end of a runtime that may end, in half of the cases.
fn end_of_runtime(random: &mut Rng, runtime: usize) -> Option<Action> {
    (runtime > 0 && random.bool()).then_some(Action::EndRuntime { runtime })
}

/// Returns `true` in so many percent of cases.
fn chance(random: &mut Rng, percent: u32) -> bool {
    random.u32(..100) < percent
}

impl Plan {
    /// Returns the plan of a seed.
    pub fn of(seed: u64) -> Self {
        let random = &mut Rng::with_seed(seed);
        let is_calm = seed % 5 == 4;
        let runtimes = if seed % 3 == 2 {
            random.usize(2..=3)
        } else {
            1
        };
        let agents: Vec<_> = (0..random.usize(1..=3))
            .map(|number| AgentPlan::random(random, number, runtimes, is_calm))
            .collect();
        let pool = PoolPlan::random(random, is_calm);
        let busy = ms(random.u64(800..=2500));
        let mut plan = Self {
            seed,
            is_calm,
            pool,
            network: NetworkPlan {
                seed: random.u64(..),
                max_latency_ms: pick(random, &[0, 1, 3, 15]),
                split_percent: pick(random, &[0, 10, 50]),
                capacity: pick(random, &[64, 700, 4096, 256 * 1024]),
            },
            agents,
            runtimes,
            steps: Vec::new(),
            configures_first: chance(random, 30),
            configuring: ms(pick(random, &[0, 0, 5, 40])),
            healed_at: busy,
        };
        if is_calm {
            plan.network.capacity = plan.network.capacity.max(4096);
        }
        plan.add_callers(random, busy);
        if is_calm {
            plan.add_changes(random, busy);
        } else {
            plan.add_faults(random, busy);
        }
        plan.add_updates(random, busy);
        plan.add_sticky_sessions(random);
        plan.steps.sort_by_key(|step| step.at);
        plan
    }

    fn add_callers(&mut self, random: &mut Rng, busy: Duration) {
        let count = random.usize(8..=50);
        for number in 0..count {
            let caller = Caller::random(random, self, number);
            let earliest = if self.is_calm { 400 } else { 20 };
            let at = ms(random.u64(earliest..busy.as_millis() as u64));
            let action = Action::Call(caller);
            self.steps.push(Step { at, action });
        }
    }

    /// Adds changes that must not cost any call.
    fn add_changes(&mut self, random: &mut Rng, busy: Duration) {
        for _ in 0..random.usize(0..=6) {
            let agent = random.usize(..self.agents.len());
            let is_server = self.agents[agent].kind == AgentKind::Server;
            let action = match random.u32(..6) {
                0 | 1 if is_server => Action::Add {
                    agent,
                    is_moved: true,
                    runtime: 0,
                },
                2 => Action::Configure { agent },
                3 => Action::Ping { agent },
                _ => Action::JumpClock {
                    seconds: random.u64(1..100_000),
                    is_forward: random.bool(),
                },
            };
            let at = ms(random.u64(400..busy.as_millis() as u64));
            self.steps.push(Step { at, action });
        }
    }

    fn add_faults(&mut self, random: &mut Rng, busy: Duration) {
        for _ in 0..random.usize(0..=24) {
            let at = random.u64(5..busy.as_millis() as u64);
            let agent = random.usize(..self.agents.len());
            let callers = self.steps.len().max(1);
            let runtime = random.usize(..self.runtimes);
            let (action, later) = match random.u32(..24) {
                number @ 0..=4 => (network_fault(random, number, agent), None),
                number @ 5..=12 => agent_fault(random, number, agent, callers),
                number => pool_change(random, number, (agent, callers, runtime)),
            };
            self.steps.push(Step { at: ms(at), action });
            if let Some(action) = later {
                let at = ms(at + random.u64(1..=700));
                self.steps.push(Step { at, action });
            }
        }
        self.steps.retain(|step| step.at < busy);
    }
}

/// A step, and one that follows it later.
type Pair = (Action, Option<Action>);

fn network_fault(random: &mut Rng, number: u32, agent: usize) -> Action {
    match number {
        0 | 1 => Action::Break {
            pick: random.usize(..64),
            after: pick(random, &[0, 1, 4, 37, 200, 900]),
            how: pick(random, &[Break::Reset, Break::End]),
        },
        2 | 3 => Action::Stall {
            pick: random.usize(..64),
            ms: random.u64(1..=600),
        },
        _ => Action::Silence {
            agent,
            ms: random.u64(50..=900),
        },
    }
}

fn agent_fault(random: &mut Rng, number: u32, agent: usize, callers: usize) -> Pair {
    let later;
    let action = match number {
        5 | 6 => {
            later = Some(Action::Start { agent });
            Action::Crash { agent }
        }
        7 | 8 => {
            later = Some(Action::Start { agent });
            Action::Stop { agent }
        }
        9 | 10 => {
            later = Some(Action::Resume { agent });
            Action::Pause { agent }
        }
        11 => {
            let caller = random.usize(..callers);
            later = Some(Action::ResumeExchange { agent, caller });
            Action::PauseExchange { agent, caller }
        }
        _ => {
            later = Some(Action::Report {
                agent,
                state: Report::Healthy,
            });
            let unhealthy = Report::Unhealthy {
                valid_ms: random.u64(50..=800),
            };
            let states = [Report::Degraded, Report::Draining, unhealthy];
            Action::Report {
                agent,
                state: pick(random, &states),
            }
        }
    };
    (action, later)
}

/// Returns a change that the pool's user makes, the end of a runtime or a jump of the clock.
fn pool_change(
    random: &mut Rng,
    number: u32,
    (agent, callers, runtime): (usize, usize, usize),
) -> Pair {
    let mut later = None;
    let action = match number {
        13 => {
            later = end_of_runtime(random, runtime);
            Action::Add {
                agent,
                is_moved: random.bool(),
                runtime,
            }
        }
        14 | 15 => {
            later = Some(Action::Add {
                agent,
                is_moved: false,
                runtime,
            });
            Action::Remove { agent, runtime }
        }
        16 | 17 => Action::Configure { agent },
        18 => Action::Cancel {
            agent,
            caller: random.usize(..callers),
        },
        19 => Action::CancelAll { agent },
        20 => Action::Ping { agent },
        21 => Action::AskToDrain { agent },
        22 if chance(random, 30) => {
            later = end_of_runtime(random, runtime);
            Action::Shutdown { runtime }
        }
        22 | 23 if runtime > 0 => Action::EndRuntime { runtime },
        _ => Action::JumpClock {
            seconds: random.u64(1..100_000),
            is_forward: random.bool(),
        },
    };
    (action, later)
}

impl AgentPlan {
    fn random(random: &mut Rng, number: usize, runtimes: usize, is_calm: bool) -> Self {
        let kind = match random.u32(..10) {
            0..=3 => AgentKind::Server,
            4..=6 => AgentKind::Dialer {
                connections: random.usize(1..=3),
            },
            _ if is_calm => AgentKind::Server,
            _ => AgentKind::Raw {
                has_streams: random.bool(),
            },
        };
        Self {
            name: format!("agent{number}"),
            kind,
            max_concurrent: pick(random, &[1, 3, 1024]),
            announced_limit: pick(random, &[0, 0, 0, 2]),
            // A runtime may end, and its agents with it. They start again elsewhere.
            runtime: if is_calm { 0 } else { random.usize(..runtimes) },
        }
    }
}

impl PoolPlan {
    fn random(random: &mut Rng, is_calm: bool) -> Self {
        let mut plan = Self {
            connections_per_agent: random.usize(1..=3),
            max_concurrent: pick(random, &[1, 2, 4, 1000]),
            max_queued: pick(random, &[0, 2, 1000, 1000]),
            channel: pick(random, &[1, 2, 64]),
            request_timeout: ms(pick(random, &[60, 200, 600])),
            queue_timeout: ms(pick(random, &[30, 150, 1000])),
            drain_timeout: ms(pick(random, &[0, 100, 600])),
            placement: pick(random, &[Placement::Shared, Placement::PerRuntime]),
            strategy: pick(
                random,
                &[
                    LoadBalanceStrategy::RoundRobin,
                    LoadBalanceStrategy::LeastConnections,
                    LoadBalanceStrategy::HealthBased,
                    LoadBalanceStrategy::Random,
                ],
            ),
            failure_mode: pick(
                random,
                &[FailureMode::Closed, FailureMode::Closed, FailureMode::Open],
            ),
            flow_control_mode: pick(
                random,
                &[
                    FlowControlMode::FailClosed,
                    FlowControlMode::FailOpen,
                    FlowControlMode::WaitAndRetry,
                ],
            ),
            breaker_threshold: pick(random, &[0, 1, 2, 5]),
            max_pins: pick(random, &[2, 1000]),
            uses_extension: chance(random, 70),
            prefers_json: chance(random, 30),
            timing_interval: pick(random, &[0, 1, 64]),
        };
        if is_calm {
            plan.request_timeout = ms(60_000);
            plan.queue_timeout = ms(60_000);
            plan.drain_timeout = ms(60_000);
            plan.max_queued = 1000;
            plan.max_pins = 1000;
            plan.breaker_threshold = 0;
            plan.failure_mode = FailureMode::Closed;
        }
        plan
    }
}

impl Caller {
    fn random(random: &mut Rng, plan: &Plan, number: usize) -> Self {
        let is_calm = plan.is_calm;
        let way = match random.u32(..4) {
            0 | 1 => Way::Exchange,
            2 => Way::Pushed {
                window: random.usize(1..=4),
            },
            _ => Way::ById,
        };
        let mut kinds = vec![Kind::RequestHeaders];
        let chunks = random.usize(0..=4);
        kinds.extend((0..chunks).map(|chunk| Kind::RequestBody {
            is_last: chunk + 1 == chunks,
        }));
        if random.bool() {
            kinds.push(Kind::ResponseHeaders);
            kinds.push(Kind::ResponseBody { is_last: true });
        }
        // Some requests end in the middle.
        kinds.truncate(random.usize(1..=8));
        let end = match random.u32(..8) {
            0 => End::Drop,
            1 => End::Cancel,
            2 | 3 => End::Hold {
                ms: random.u64(1..=800),
            },
            _ => End::Complete,
        };
        if end == End::Complete {
            kinds.push(Kind::Complete);
        }
        let events = kinds
            .into_iter()
            .map(|kind| PlannedEvent::random(random, kind, is_calm))
            .collect();
        let agent = random.usize(..plan.agents.len());
        // Events whose answers are not taken keep their slots, and callers could wait for them.
        let has_slots = plan.pool.max_concurrent >= 100 && plan.agents[agent].announced_limit == 0;
        let way = if is_calm && !has_slots && way != Way::ById {
            Way::Exchange
        } else {
            way
        };
        Self {
            number,
            agent,
            runtime: random.usize(..plan.runtimes),
            shared_id: (!is_calm && chance(random, 10)).then(|| random.usize(..3)),
            way,
            events,
            end,
        }
    }
}

impl PlannedEvent {
    fn random(random: &mut Rng, kind: Kind, is_calm: bool) -> Self {
        let wait = match random.u32(..20) {
            0..=9 => Wait::No,
            10..=15 => Wait::For(random.u64(1..=20)),
            16 | 17 => Wait::For(random.u64(20..=400)),
            18 if !is_calm => Wait::Forever,
            _ => Wait::For(3),
        };
        let answer = match random.u32(..12) {
            0 | 1 => Answer::Block,
            2 => Answer::Twice,
            3 => Answer::Foreign,
            4 => Answer::Damaged,
            _ => Answer::Allow,
        };
        Self {
            kind,
            pause_ms: pick(random, &[0, 0, 0, 1, 5, 40]),
            wait,
            answer,
            give_up_ms: (!is_calm && chance(random, 10)).then(|| random.u64(0..=60)),
            timeout_ms: (!is_calm && chance(random, 10)).then(|| random.u64(0..=100)),
            padding: pick(random, &[0, 0, 0, 20, 300, 3000]),
        }
    }
}
