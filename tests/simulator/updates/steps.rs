//! Steps that concern config updates and log lines.

use super::{Line, Push, Request, Updates};
use crate::agents::RunningAgent;
use crate::plan::{Action, AgentKind, Asking, Plan, RequestedUpdate};
use crate::simulation::Simulation;
use crate::world::World;
use futures_util::future::select_all;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::timeout;
use tollgate::{
    AgentControl,
    config_push::ConfigUpdateHandler,
    control::{ConfigUpdateRequest, ConfigUpdateType, LogLevel, LogMessage},
};

/// Number of the requests that are made once all faults have ended.
pub const LAST_REQUEST: usize = 1_000_000;

/// Longest time until a request is answered that an agent repeats.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Longest such time once all faults have ended. Sessions may still be busy with old events, each
/// of which takes 5 s, and read nothing meanwhile.
const LAST_ANSWER_TIME: Duration = Duration::from_secs(30);

impl Simulation {
    pub fn update(&self, action: &Action) {
        let world = Arc::clone(&self.world);
        let plan = Arc::clone(&world.plan);
        let (Action::RequestUpdate { agent, .. }
        | Action::Push { agent, .. }
        | Action::Log { agent, .. }) = action
        else {
            return;
        };
        let runtime = match action {
            Action::Push { .. } => 0,
            _ => plan.agents[*agent].runtime,
        };
        self.within(runtime, || {
            let agents = world.agents();
            let running = agents[*agent].as_ref();
            let controls = running.map_or(&[][..], RunningAgent::controls).to_vec();
            drop(agents);
            match *action {
                Action::Log {
                    agent,
                    number,
                    lines,
                } => log(&world, agent, number, (lines, &controls)),
                Action::Push {
                    agent,
                    number,
                    is_accepted,
                    wait_ms,
                } => push(&world, agent, &format!("p{number}:{wait_ms}"), is_accepted),
                _ => request(&world, action, &controls),
            }
        });
    }

    /// Every agent asks for an update, now that all faults have ended.
    pub fn request_last_updates(&self) {
        let plan = Arc::clone(&self.world.plan);
        for agent in 0..plan.agents.len() {
            if plan.pool.uses_extension {
                self.update(&Action::RequestUpdate {
                    agent,
                    number: LAST_REQUEST,
                    update: RequestedUpdate::AcceptedList,
                    asking: Asking::UntilAnswered,
                });
            }
        }
    }
}

fn log(world: &World, agent: usize, number: usize, (lines, controls): (usize, &[AgentControl])) {
    let plan = &world.plan;
    let moves = |one: &Action| matches!(one, Action::Add { agent: other, .. } if *other == agent);
    let is_moved = plan.steps.iter().any(|step| moves(&step.action));
    for (position, control) in controls.iter().enumerate() {
        let is_certain =
            plan.is_calm && plan.pool.uses_extension && !is_moved && control.connections() > 0;
        for line in 0..lines {
            let text = format!("l{number}.{agent}.{position}.{line}");
            let record = Line {
                agent,
                is_certain,
                seen: 0,
            };
            world.updates().lines.insert(text.clone(), record);
            control.log(LogMessage::new(LogLevel::Info, text));
        }
    }
}

fn push(world: &World, agent: usize, text: &str, is_accepted: bool) {
    let Ok(handle) = world.agent(agent) else {
        return;
    };
    let update = list(text);
    // The pool's own calls are counted as well.
    world.ledger().inexact = true;
    let push_id = handle.push_config(update);
    world.note(format_args!("  is {push_id:?}"));
    let Some(push_id) = push_id else {
        return;
    };
    let mut updates = world.updates();
    if matches!(world.plan.agents[agent].kind, AgentKind::Raw { .. }) {
        updates.violated(
            "only_agents_that_take_pushes_get_them",
            handle.id().to_owned(),
        );
    }
    let push = Push {
        agent,
        is_accepted,
        deadline: updates.push_deadline(agent),
        seen: 0,
        has_decided: false,
        end: None,
    };
    updates.pushes.insert(push_id, push);
}

fn list(list_id: &str) -> ConfigUpdateType {
    ConfigUpdateType::ListUpdate {
        list_id: list_id.to_owned(),
        add: vec!["a".to_owned()],
        remove: Vec::new(),
    }
}

/// Requests an update on each of an agent's controls, of which some may have no connection.
fn request(world: &Arc<World>, action: &Action, controls: &[AgentControl]) {
    let Action::RequestUpdate {
        agent,
        number,
        update,
        asking,
    } = *action
    else {
        return;
    };
    let requests: Vec<_> = (0..controls.len())
        .map(|position| {
            let id = format!("u{number}.{agent}.{position}");
            let record = Request {
                agent,
                is_accepted: update != RequestedUpdate::RejectedList,
                is_single: asking == Asking::Once,
                handled: 0,
                answers: Vec::new(),
                notices: 0,
            };
            world.updates().requests.insert(id.clone(), record);
            let update = match update {
                RequestedUpdate::Reload => ConfigUpdateType::RequestReload,
                _ => list(&id),
            };
            ConfigUpdateRequest::new(id, update)
        })
        .collect();
    let pairs = controls.iter().cloned().zip(requests);
    if asking == Asking::Once {
        pairs.for_each(|(control, request)| control.request_config_update(request));
    } else if !controls.is_empty() {
        let open = OpenRequest::new(world);
        tokio::spawn(confirm(open, (agent, number), pairs.collect()));
    }
}

/// Repeats requests until one of them is answered.
async fn confirm(
    open: OpenRequest,
    (agent, number): (usize, usize),
    pairs: Vec<(AgentControl, ConfigUpdateRequest)>,
) {
    let world = &open.0;
    let is_last = number == LAST_REQUEST;
    let limit = if is_last {
        LAST_ANSWER_TIME
    } else {
        ANSWER_TIME
    };
    let confirming = pairs.iter().map(|(control, request)| {
        let retry = Duration::from_millis(30);
        Box::pin(control.confirm_config_update(request.clone(), retry))
    });
    let confirmed = timeout(limit, select_all(confirming)).await;
    let answer = confirmed.map(|(response, ..)| (response.request_id, response.accepted));
    world.note(format_args!("request {number} of {agent} ends: {answer:?}"));
    let must_end = world.plan.pool.uses_extension && (is_last || world.plan.is_calm);
    if answer.is_err() && must_end {
        let text = format!("request {number} of agent {agent}");
        world.updates().violated("a_request_is_answered", text);
    }
}

/// A request that has no answer yet.
struct OpenRequest(Arc<World>);

impl OpenRequest {
    fn new(world: &Arc<World>) -> Self {
        world.updates().open_requests += 1;
        Self(Arc::clone(world))
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.updates().open_requests -= 1;
    }
}

/// Returns the pool's handler for requests of agents.
pub fn handler(world: &Weak<World>, plan: &Plan) -> ConfigUpdateHandler {
    let names: Vec<_> = plan.agents.iter().map(|one| one.name.clone()).collect();
    let (lists, reloads) = (Weak::clone(world), Weak::clone(world));
    ConfigUpdateHandler::new()
        .on_list_update(move |list_id, _, _| {
            let handled = |updates: &mut Updates| updates.handled(list_id);
            let world = lists.upgrade().expect("the simulation goes on");
            world.note(format_args!("the handler decides on {list_id}"));
            handled(&mut world.updates())
        })
        .on_reload(move |name| {
            let world = reloads.upgrade().expect("the simulation goes on");
            world.note(format_args!("the handler reloads {name}"));
            let agent = names.iter().position(|one| one == name).expect("an agent");
            let has_settings = world
                .pool
                .agent(name)
                .is_some_and(|agent| agent.settings().is_some());
            world.updates().reloads(agent, has_settings);
            true
        })
}
