//! The steps of a plan: what each does to the world.

use crate::agents::RunningAgent;
use crate::callers;
use crate::plan::{Action, AgentKind, Caller};
use crate::simulation::{Simulation, runtime};
use crate::world::{DEGRADED_FACTOR, RunningCaller};
use std::sync::Arc;
use std::time::Duration;
use tollgate::sim::clock;
use tollgate::{
    AgentConfig, CallError, CancelReason,
    control::{DrainReason, FlowControlAction},
};

/// Longest time of an operation that waits for nothing.
const BRIEF: Duration = Duration::from_secs(2);

/// Longest time in which an agent is added, for each of its connections.
const ADDING: Duration = Duration::from_secs(1);

fn settings() -> serde_json::Value {
    serde_json::json!({"a": 1})
}

impl Simulation {
    /// Does what a step says.
    pub fn apply(&mut self, action: &Action) {
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
            Action::Configure { agent }
            | Action::Cancel { agent, .. }
            | Action::CancelAll { agent }
            | Action::Ping { agent }
            | Action::AskToDrain { agent } => self.tell_agent(action, *agent),
            Action::RequestUpdate { .. } | Action::Push { .. } | Action::Log { .. } => {
                self.update(action);
            }
            Action::Add { .. } | Action::Remove { .. } | Action::Shutdown { .. } => {
                self.change_pool(action);
            }
        }
    }

    /// Adds an agent that has its settings from the start.
    pub fn add_configured(&mut self, agent: usize) {
        let world = Arc::clone(&self.world);
        let (pool, plan) = (world.pool.clone(), &world.plan.agents[agent]);
        let config = match plan.kind {
            AgentKind::Dialer { .. } => AgentConfig::reverse(&*plan.name),
            _ => AgentConfig::new(&*plan.name, format!("sim:{}", plan.name)),
        };
        let config = config.settings(settings(), Some("first".to_owned()));
        world.ledger().inexact = true;
        let what = format!("adding {} with settings", plan.name);
        let limit = ADDING * world.plan.pool.connections_per_agent as u32;
        self.within(0, || {
            world.operate(what, limit, async move { pool.add(config).await });
        });
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

    /// Starts an operation of the pool that changes its agents.
    fn change_pool(&mut self, action: &Action) {
        let world = Arc::clone(&self.world);
        let plan = Arc::clone(&world.plan);
        let pool = world.pool.clone();
        let what = format!("{action:?}");
        let name = |agent: &usize| plan.agents[*agent].name.clone();
        match action {
            Action::Add {
                agent,
                is_moved,
                runtime,
            } => {
                if matches!(plan.agents[*agent].kind, AgentKind::Dialer { .. }) {
                    return;
                }
                let name = name(agent);
                let moved = if *is_moved { "-moved" } else { "" };
                let endpoint = format!("sim:{name}{moved}");
                let limit = ADDING * plan.pool.connections_per_agent as u32;
                self.within(*runtime, || {
                    world.operate(what, limit, async move {
                        pool.replace(AgentConfig::new(name, endpoint)).await
                    });
                });
            }
            Action::Remove { agent, runtime } => {
                world.ledger().inexact = true;
                world.updates().removed([*agent]);
                let (name, agent) = (name(agent), *agent);
                let removed = Arc::clone(&world);
                self.within(*runtime, || {
                    world.operate(what, BRIEF, async move {
                        let result = pool.remove(&name);
                        removed.ledger().settings_forgotten(agent);
                        result
                    });
                });
            }
            Action::Shutdown { runtime } => {
                world.ledger().inexact = true;
                world.updates().removed(0..plan.agents.len());
                // Once no call is left, a shutdown has nothing to wait for.
                let is_idle = world.ledger().running == 0 && self.now > plan.healed_at;
                let limit = if is_idle {
                    Duration::from_millis(50)
                } else {
                    plan.pool.drain_timeout + BRIEF
                };
                let ended = Arc::clone(&world);
                self.within(*runtime, || {
                    world.operate(what, limit, async move {
                        ended.ledger().all_settings_forgotten(&ended.plan);
                        pool.shutdown().await;
                        ended.ledger().all_settings_forgotten(&ended.plan);
                        Ok::<_, CallError>(())
                    });
                });
            }
            _ => {}
        }
    }

    /// Starts an operation of the pool that says something to an agent.
    fn tell_agent(&mut self, action: &Action, agent: usize) {
        let world = Arc::clone(&self.world);
        let plan = Arc::clone(&world.plan);
        let what = format!("{action:?}");
        let asked = Arc::clone(&world);
        self.within(0, || match action {
            Action::Configure { .. } => {
                let limit = (plan.pool.request_timeout.mul_f32(DEGRADED_FACTOR) + BRIEF) * 8;
                world.ledger().inexact = true;
                world.operate(what, limit, async move {
                    let handle = asked.agent(agent)?;
                    asked.ledger().settings_set(agent);
                    let version = Some(clock::since_start().as_millis().to_string());
                    handle.configure(settings(), version).await
                });
            }
            Action::Cancel { caller, .. } => {
                let id = plan.caller(*caller).map_or_else(String::new, Caller::id);
                world.operate(what, BRIEF, async move {
                    asked.agent(agent)?.cancel(&id, CancelReason::Manual).await
                });
            }
            Action::CancelAll { .. } => {
                world.operate(what, BRIEF * 8, async move {
                    asked.agent(agent)?.cancel_all(CancelReason::Manual).await
                });
            }
            Action::Ping { .. } => {
                let limit = plan.pool.request_timeout + BRIEF;
                world.operate(what, limit, async move { asked.agent(agent)?.ping().await });
            }
            _ => {
                world.operate(what, BRIEF, async move {
                    asked
                        .agent(agent)?
                        .request_drain(Duration::from_millis(100), DrainReason::Manual)
                        .await
                });
            }
        });
    }
}
