use super::cell::Outcome;
use super::column::{Column, Implementation};
use super::fidelity::{LossyFields, is_empty};
use super::notice::{Notice, config_updates, health, metrics};
use super::running_agent::RunningAgent;
use super::{LIMIT, pool_of};
use crate::peer::Peer;
use crate::peer_agent::Logged;
use crate::peer_client::run_client_at_once;
use crate::script::{Step, script};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinSet;
use tollgate::{Agent, AgentControl, CallError};

/// Result of the whole script between a proxy and an agent.
pub(super) struct Session {
    column: Column,
    steps: Arc<[Step]>,
    proxy: ProxyRecord,
    /// Events that the agent's handler received.
    records: Vec<Logged>,
}

/// Results at the proxy.
pub(super) struct ProxyRecord {
    handshake: Outcome,
    /// Answers by the name of the step.
    answers: HashMap<String, Result<Value, Failure>>,
    pongs: usize,
    /// Unsolicited messages of the agent.
    notices: Vec<Value>,
}

enum Failure {
    TimedOut,
    /// The agent ended the connection instead of answering.
    Ended,
    /// The proxy does not support the call.
    Unsupported,
    Other(String),
}

impl Session {
    pub(super) async fn run(column: Column) -> Self {
        let steps: Arc<[Step]> = script().into();
        let agent = RunningAgent::start(&column, send_all_notices).await;
        let proxy = match column.proxy.peer(column.wire) {
            None => through_pool(&column, &agent, &steps).await,
            Some(peer) => through_client(&column, &peer, agent.socket(), &steps).await,
        };
        let records = agent.stop().await;
        Self {
            column,
            steps,
            proxy,
            records,
        }
    }

    pub(super) fn handshake(&self) -> Outcome {
        self.proxy.handshake.clone()
    }

    /// Returns the worst outcome of these steps.
    pub(super) fn events(&self, steps: &[&str]) -> Outcome {
        steps.iter().fold(Outcome::Works, |outcome, step| {
            outcome.and(|| self.event(self.step(step)))
        })
    }

    /// Returns the outcome of a field of the answer to a step. If the event did not arrive, returns
    /// that outcome.
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
        let in_answers = self.column.lossy_fields(LossyFields::IN_ANSWERS);
        match in_answers.missing(&json!(step.answer), answer) {
            Some(of_answer) => {
                missing.extend(of_answer);
                Outcome::without(missing)
            }
            None => Outcome::WrongAnswer,
        }
    }

    /// Returns the answer to an event that the handler received, and the fields of the event that
    /// it did not receive.
    fn answered(&self, step: &Step) -> Result<(&Value, Vec<&'static str>), Outcome> {
        let answer = match self.proxy.answers.get(&step.name) {
            None => return Err(Outcome::Lost),
            Some(Err(Failure::TimedOut)) => return Err(Outcome::TimedOut),
            Some(Err(Failure::Ended)) => return Err(Outcome::Ended),
            Some(Err(Failure::Unsupported)) => return Err(Outcome::CannotSend),
            Some(Err(Failure::Other(error))) => return Err(Outcome::Failed(error.clone())),
            Some(Ok(answer)) => answer,
        };
        match (self.missing_fields(step), answer) {
            (Some(_), Value::Null) => Err(Outcome::NotReported),
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
        if cancels.all(|step| self.missing_fields(step).is_some()) {
            return Outcome::Works;
        }
        // Later calls must be answered, so that cancels do no harm.
        Outcome::NotReported.if_still_answered(&self.answer("request_headers:/last", ""))
    }

    pub(super) fn ping(&self) -> Outcome {
        match self.proxy.pongs {
            // The log of tollgate's client has no pongs.
            0 if self.column.proxy.is_tollgate() => Outcome::NotReported,
            0 => Outcome::Lost,
            _ => Outcome::Works,
        }
    }

    /// Returns the outcome of a notice that tollgate's agent sent to a peer's proxy at the start.
    pub(super) fn notice(&self, notice: Notice) -> Outcome {
        match notice {
            Notice::Metrics => self.received_notice("metrics_report", &json!(metrics())),
            Notice::ConfigUpdates => {
                config_updates()
                    .into_iter()
                    .fold(Outcome::Works, |outcome, update| {
                        outcome.and(|| self.received_notice("config_update", &json!(update)))
                    })
            }
            // The client of `zentinel-agent-protocol` does not report these.
            _ => Outcome::NotReported.if_still_answered(&self.answer("request_headers:/last", "")),
        }
    }

    fn received_notice(&self, kind: &str, value: &Value) -> Outcome {
        let lossy_fields = self.column.lossy_fields(LossyFields::IN_METRICS);
        let received = self
            .proxy
            .notices
            .iter()
            .filter(|line| line["push"] == kind);
        let missing = received.filter_map(|line| lossy_fields.missing(value, &line["value"]));
        missing
            .min_by_key(Vec::len)
            .map_or(Outcome::Lost, Outcome::without)
    }

    fn step(&self, name: &str) -> &Step {
        let step = self.steps.iter().find(|step| step.name == name);
        step.unwrap_or_else(|| panic!("the script has no step '{name}'"))
    }

    /// Returns the fields of a step's event that the handler did not receive, or `None` if it did
    /// not receive the event.
    fn missing_fields(&self, step: &Step) -> Option<Vec<&'static str>> {
        let expected = match self.column.agent {
            Implementation::Tollgate => step.logged(),
            Implementation::Peer(_) => step.logged_by_peer(),
        }?;
        let lossy_fields = self.column.lossy_fields(LossyFields::IN_EVENTS);
        let records = self.records.iter();
        let of_its_kind = records.filter(|record| record.event == expected.event);
        of_its_kind
            .filter_map(|record| lossy_fields.missing(&expected.value, &record.value))
            .min_by_key(Vec::len)
    }
}

impl Outcome {
    fn if_still_answered(self, afterwards: &Self) -> Self {
        match afterwards {
            Self::Works => self,
            _ => Self::Lost,
        }
    }
}

/// Sends all notices except flow control, which would stop the session.
fn send_all_notices(control: &AgentControl) {
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

async fn through_client(
    column: &Column,
    peer: &Peer,
    socket: &Path,
    steps: &[Step],
) -> ProxyRecord {
    let run = run_client_at_once(peer, socket, LIMIT).await;
    let mut record = ProxyRecord {
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
            record.notices.push(line);
            continue;
        };
        if call == "connect" {
            record.handshake = client_handshake(column, &line);
        } else if let Some(id) = ids.get(call.as_str()) {
            record
                .answers
                .insert(call, printed_answer(column, &mut line, id));
        }
    }
    record
}

fn client_handshake(column: &Column, line: &Value) -> Outcome {
    let is_agreed = line["encoding"] == column.wire.encoding().as_str();
    let is_known = line["capabilities"]["agent_id"] == RunningAgent::name(column.agent);
    match line["ok"] == true && is_agreed && is_known {
        true => Outcome::Works,
        false => Outcome::Failed(line.to_string()),
    }
}

/// Takes the answer from a printed line. The client of `zentinel-agent-protocol` leaves the
/// correlation id in `audit.custom`. With the extension it is not there.
fn printed_answer(column: &Column, line: &mut Value, id: &str) -> Result<Value, Failure> {
    if line["ok"] != true {
        let kind = line["kind"].as_str().unwrap_or("unknown");
        return Err(match kind {
            "Unsupported" => Failure::Unsupported,
            kind if kind.starts_with("Timeout") => Failure::TimedOut,
            kind if kind.contains("rejects its settings") => Failure::Ended,
            kind => Failure::Other(kind.to_owned()),
        });
    }
    let mut answer = line["response"].take();
    let custom = answer
        .pointer_mut("/audit/custom")
        .and_then(Value::as_object_mut);
    if let Some(custom) = custom.filter(|_| column.has_id_in_audit()) {
        let named = custom.remove("correlation_id");
        if named != Some(json!(id)) {
            return Err(Failure::Other("answer to another call".to_owned()));
        }
    }
    Ok(answer)
}

async fn through_pool(column: &Column, running: &RunningAgent, steps: &Arc<[Step]>) -> ProxyRecord {
    let (_pool, agent) = pool_of(column, running.socket()).await;
    let mut record = ProxyRecord {
        handshake: pool_handshake(column, &agent),
        answers: HashMap::new(),
        pongs: 0,
        notices: Vec::new(),
    };
    let in_order = steps.iter().position(|step| step.answer.is_none());
    let in_order = in_order.unwrap_or(steps.len());
    record.answers = send_concurrently(&agent, steps, in_order).await;
    for step in &steps[in_order..] {
        let answer = send(&agent, step).await;
        if step.name == "ping" && answer.is_ok() {
            record.pongs += 1;
        }
        record.answers.insert(step.name.clone(), answer);
    }
    agent.remove().expect("the agent is in the pool");
    record
}

/// Sends the first steps: those of each exchange in order, and all exchanges at the same time.
async fn send_concurrently(
    agent: &Agent,
    steps: &Arc<[Step]>,
    count: usize,
) -> HashMap<String, Result<Value, Failure>> {
    let mut exchanges: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, step) in steps[..count].iter().enumerate() {
        exchanges.entry(&step.id).or_default().push(index);
    }
    let mut running = JoinSet::new();
    for indices in exchanges.into_values() {
        let (agent, steps) = (agent.clone(), Arc::clone(steps));
        running.spawn(async move {
            let mut answers = Vec::new();
            for index in indices {
                let step = &steps[index];
                answers.push((step.name.clone(), send(&agent, step).await));
            }
            answers
        });
    }
    running.join_all().await.into_iter().flatten().collect()
}

async fn send(agent: &Agent, step: &Step) -> Result<Value, Failure> {
    match step.send_to(agent).await {
        Ok(answer) => Ok(json!(answer)),
        Err(CallError::Timeout { .. }) => Err(Failure::TimedOut),
        Err(CallError::ConnectionClosed { .. }) => Err(Failure::Ended),
        Err(error) => Err(Failure::Other(error.to_string())),
    }
}

fn pool_handshake(column: &Column, agent: &Agent) -> Outcome {
    let capabilities = agent.capabilities();
    let name = capabilities.map(|capabilities| capabilities.agent_id);
    let is_known = name.as_deref() == Some(RunningAgent::name(column.agent));
    let is_agreed = agent.encoding() == Some(column.wire.encoding());
    let is_as_offered = agent.extension_version() == Some(column.extension_version());
    match is_known && is_agreed && is_as_offered {
        true => Outcome::Works,
        false => Outcome::Failed("the two sides disagree".to_owned()),
    }
}
