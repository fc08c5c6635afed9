use super::cell::Outcome;
use super::column::{Column, Maker};
use super::fidelity::{Dispensable, is_empty};
use super::notice::{Notice, config_updates, health, metrics};
use super::running_agent::RunningAgent;
use super::{LIMIT, pool_of};
use crate::meeting::AGENT;
use crate::peer::Peer;
use crate::peer_agent::Logged;
use crate::peer_client::run_client_at_once;
use crate::script::{Step, script};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinSet;
use tollgate::{AgentControl, AgentPool, AgentProtocolError};

/// What came of the whole script between one proxy and one agent.
pub(super) struct Session {
    column: Column,
    steps: Arc<[Step]>,
    told: Told,
    /// What the agent's handler was given.
    records: Vec<Logged>,
}

/// What the proxy learnt.
pub(super) struct Told {
    handshake: Outcome,
    /// By the name of the step.
    answers: HashMap<String, Result<Value, Failure>>,
    pongs: usize,
    /// What the agent said unasked.
    notices: Vec<Value>,
}

enum Failure {
    TimedOut,
    /// The proxy has no such call.
    Unsupported,
    Other(String),
}

impl Session {
    pub(super) async fn hold(column: Column) -> Self {
        let steps: Arc<[Step]> = script().into();
        let agent = RunningAgent::start(&column, say_everything).await;
        let told = match column.proxy.peer(column.wire) {
            None => through_pool(&column, &agent, &steps).await,
            Some(peer) => through_client(&column, &peer, agent.socket(), &steps).await,
        };
        let records = agent.stop().await;
        Self {
            column,
            steps,
            told,
            records,
        }
    }

    pub(super) fn handshake(&self) -> Outcome {
        self.told.handshake.clone()
    }

    /// What came of these steps: the worst.
    pub(super) fn events(&self, steps: &[&str]) -> Outcome {
        steps.iter().fold(Outcome::Works, |outcome, step| {
            outcome.and(|| self.event(self.step(step)))
        })
    }

    /// What came of one field of the answer to a step, as far as the event got there.
    pub(super) fn answer(&self, step: &str, field: &str) -> Outcome {
        let step = self.step(step);
        let answer = match self.answered(step) {
            Ok((answer, _)) => answer,
            Err(outcome) => return outcome,
        };
        let expected = json!(step.answer);
        let expected = expected.pointer(field).filter(|field| !field.is_null());
        let expected = expected.unwrap_or_else(|| panic!("{}: no '{field}'", step.name));
        match answer.pointer(field) {
            Some(found) if found == expected => Outcome::Works,
            None => Outcome::Lost,
            Some(found) if is_empty(found) => Outcome::Lost,
            Some(_) => Outcome::WrongAnswer,
        }
    }

    fn event(&self, step: &Step) -> Outcome {
        let (answer, mut missing) = match self.answered(step) {
            Ok(answered) => answered,
            Err(outcome) => return outcome,
        };
        let in_answers = self.column.dispensable(Dispensable::IN_ANSWERS);
        match in_answers.missing(&json!(step.answer), answer) {
            Some(of_answer) => {
                missing.extend(of_answer);
                Outcome::without(missing)
            }
            None => Outcome::WrongAnswer,
        }
    }

    /// The answer to an event that was given to the handler, and the event's fields that were not.
    fn answered(&self, step: &Step) -> Result<(&Value, Vec<&'static str>), Outcome> {
        let answer = match self.told.answers.get(&step.name) {
            None => return Err(Outcome::Lost),
            Some(Err(Failure::TimedOut)) => return Err(Outcome::TimedOut),
            Some(Err(Failure::Unsupported)) => return Err(Outcome::CannotSend),
            Some(Err(Failure::Other(error))) => return Err(Outcome::Failed(error.clone())),
            Some(Ok(answer)) => answer,
        };
        match (self.given(step), answer) {
            (Some(_), Value::Null) => Err(Outcome::Untold),
            (Some(missing), _) => Ok((answer, missing)),
            (None, Value::Null) => Err(Outcome::Lost),
            (None, _) if answer["decision"] == "allow" => Err(Outcome::Allowed),
            (None, _) => Err(Outcome::Misread),
        }
    }

    pub(super) fn cancels(&self) -> Outcome {
        let mut cancels = self
            .steps
            .iter()
            .filter(|step| step.name.starts_with("cancel_request"));
        if cancels.all(|step| self.given(step).is_some()) {
            return Outcome::Works;
        }
        // The calls after them are answered, so they did no harm.
        Outcome::Untold.unless_lost(&self.answer("request_headers:/last", ""))
    }

    pub(super) fn ping(&self) -> Outcome {
        match self.told.pongs {
            0 => Outcome::Lost,
            _ => Outcome::Works,
        }
    }

    /// What a published proxy learnt of what tollgate's agent said at the beginning.
    pub(super) fn notice(&self, notice: Notice) -> Outcome {
        match notice {
            Notice::Metrics => self.told_of("metrics_report", &json!(metrics())),
            Notice::ConfigUpdates => config_updates()
                .into_iter()
                .fold(Outcome::Works, |outcome, update| {
                    outcome.and(|| self.told_of("config_update", &json!(update)))
                }),
            // The published client has nothing that would tell.
            _ => Outcome::Untold.unless_lost(&self.answer("request_headers:/last", "")),
        }
    }

    fn told_of(&self, kind: &str, value: &Value) -> Outcome {
        let dispensable = self.column.dispensable(Dispensable::IN_METRICS);
        let told = self.told.notices.iter().filter(|line| line["push"] == kind);
        let missing = told.filter_map(|line| dispensable.missing(value, &line["value"]));
        missing
            .min_by_key(Vec::len)
            .map_or(Outcome::Lost, Outcome::without)
    }

    fn step(&self, name: &str) -> &Step {
        let step = self.steps.iter().find(|step| step.name == name);
        step.unwrap_or_else(|| panic!("the script has no step '{name}'"))
    }

    /// What the handler was given lacks these fields; `None` if it was not given this.
    fn given(&self, step: &Step) -> Option<Vec<&'static str>> {
        let expected = match self.column.agent {
            Maker::Tollgate => step.logged(),
            Maker::Published(_) => step.logged_by_peer(),
        }?;
        let dispensable = self.column.dispensable(Dispensable::IN_EVENTS);
        let records = self.records.iter();
        let of_its_kind = records.filter(|record| record.event == expected.event);
        of_its_kind
            .filter_map(|record| dispensable.missing(&expected.value, &record.value))
            .min_by_key(Vec::len)
    }
}

impl Outcome {
    fn unless_lost(self, afterwards: &Self) -> Self {
        match afterwards {
            Self::Works => self,
            _ => Self::Lost,
        }
    }
}

/// All that changes nothing: a pause would end the session.
fn say_everything(control: &AgentControl) {
    let states = [
        Notice::Unhealthy,
        Notice::Degraded,
        Notice::Draining,
        Notice::Healthy,
    ];
    for status in states.into_iter().filter_map(health) {
        control.report_health(status);
    }
    control.report_metrics(metrics());
    for update in config_updates() {
        control.request_config_update(update);
    }
}

async fn through_client(column: &Column, peer: &Peer, socket: &Path, steps: &[Step]) -> Told {
    let run = run_client_at_once(peer, socket, LIMIT).await;
    let mut told = Told {
        handshake: Outcome::Lost,
        answers: HashMap::new(),
        pongs: run.pongs,
        notices: Vec::new(),
    };
    let ids: HashMap<_, _> = steps
        .iter()
        .map(|step| (step.name.as_str(), &step.id))
        .collect();
    for mut line in run.lines {
        let Some(call) = line["call"].as_str().map(str::to_owned) else {
            told.notices.push(line);
            continue;
        };
        if call == "connect" {
            told.handshake = client_handshake(column, &line);
        } else if let Some(id) = ids.get(call.as_str()) {
            told.answers
                .insert(call, printed_answer(column, &mut line, id));
        }
    }
    told
}

fn client_handshake(column: &Column, line: &Value) -> Outcome {
    let is_agreed = line["encoding"] == column.wire.encoding().as_str();
    let is_known = line["capabilities"]["agent_id"] == RunningAgent::name(column.agent);
    match line["ok"] == true && is_agreed && is_known {
        true => Outcome::Works,
        false => Outcome::Failed(line.to_string()),
    }
}

/// The published client leaves the correlation id where it came.
fn printed_answer(column: &Column, line: &mut Value, id: &str) -> Result<Value, Failure> {
    if line["ok"] != true {
        let kind = line["kind"].as_str().unwrap_or("unknown");
        return Err(match kind {
            "Unsupported" => Failure::Unsupported,
            kind if kind.starts_with("Timeout") => Failure::TimedOut,
            kind => Failure::Other(kind.to_owned()),
        });
    }
    let mut answer = line["response"].take();
    let custom = answer
        .pointer_mut("/audit/custom")
        .and_then(Value::as_object_mut);
    if let Some(custom) = custom.filter(|_| column.wire.names_events_in_audit()) {
        let named = custom.remove("correlation_id");
        if named != Some(json!(id)) {
            return Err(Failure::Other("answer to another call".to_owned()));
        }
    }
    Ok(answer)
}

async fn through_pool(column: &Column, agent: &RunningAgent, steps: &Arc<[Step]>) -> Told {
    let pool = pool_of(column, agent.socket()).await;
    let mut told = Told {
        handshake: pool_handshake(column, &pool).await,
        answers: HashMap::new(),
        pongs: 0,
        notices: Vec::new(),
    };
    let in_order = steps.iter().position(|step| step.answer.is_none());
    let in_order = in_order.unwrap_or(steps.len());
    told.answers = at_once(&pool, steps, in_order).await;
    for step in &steps[in_order..] {
        let answer = put(&pool, step).await;
        if step.name == "ping" && answer.is_ok() {
            told.pongs += 1;
        }
        told.answers.insert(step.name.clone(), answer);
    }
    pool.remove_agent(AGENT).await.expect("the agent is known");
    told
}

/// Puts the first steps, those of each exchange in order and all exchanges at once.
async fn at_once(
    pool: &AgentPool,
    steps: &Arc<[Step]>,
    count: usize,
) -> HashMap<String, Result<Value, Failure>> {
    let mut exchanges: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, step) in steps[..count].iter().enumerate() {
        exchanges.entry(&step.id).or_default().push(place);
    }
    let mut running = JoinSet::new();
    for places in exchanges.into_values() {
        let (pool, steps) = (pool.clone(), Arc::clone(steps));
        running.spawn(async move {
            let mut answers = Vec::new();
            for place in places {
                let step = &steps[place];
                answers.push((step.name.clone(), put(&pool, step).await));
            }
            answers
        });
    }
    running.join_all().await.into_iter().flatten().collect()
}

async fn put(pool: &AgentPool, step: &Step) -> Result<Value, Failure> {
    match step.put_to(pool).await {
        Ok(answer) => Ok(json!(answer)),
        Err(AgentProtocolError::Timeout { .. }) => Err(Failure::TimedOut),
        Err(error) => Err(Failure::Other(error.to_string())),
    }
}

async fn pool_handshake(column: &Column, pool: &AgentPool) -> Outcome {
    let capabilities = pool.agent_capabilities(AGENT).await;
    let name = capabilities.map(|capabilities| capabilities.agent_id);
    let is_known = name.as_deref() == Some(RunningAgent::name(column.agent));
    let is_agreed = pool.agent_encoding(AGENT) == Some(column.wire.encoding());
    let is_as_offered = pool.agent_uses_extension(AGENT) == Some(column.has_extension());
    match is_known && is_agreed && is_as_offered {
        true => Outcome::Works,
        false => Outcome::Failed("the two disagree".to_owned()),
    }
}
