//! Records of what callers and agents saw. The invariants compare the two.

use crate::plan::Plan;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::task::Id;
use tollgate::sim::clock;

/// Records of one simulation.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Number of calls that callers made.
    pub made: u64,
    /// Calls that ended since the last check.
    pub finished: Vec<FinishedCall>,
    /// Calls that ended, by the kind of their end.
    pub ends: BTreeMap<&'static str, u64>,
    /// Answers without an agent's mark: allowed without asking.
    pub allowed_unasked: u64,
    /// Decisions of agents, by label of the event.
    answers: BTreeMap<String, &'static str>,
    sessions: Vec<Session>,
    by_task: BTreeMap<String, usize>,
    /// Session of each exchange.
    exchanges: BTreeMap<String, usize>,
    /// Session in which an agent was asked, by label.
    asked_in: BTreeMap<String, usize>,
    /// Session of each exchange that is pinned by its id, and when its last call began.
    pins: BTreeMap<String, Pin>,
    /// Since when an agent has settings in the pool.
    settings: BTreeMap<usize, Duration>,
    /// Violations that show as soon as something happens.
    pub violations: Vec<(&'static str, String)>,
    /// Pings, drains and the like that ended later than they may.
    pub operations: Vec<(String, Duration, Duration)>,
    /// Number of callers that have not ended.
    pub running: usize,
    /// Labels of the calls that an agent answered.
    pub answered_calls: BTreeSet<String>,
    /// Set once the pool's own calls are counted as well, or calls ended with their caller.
    pub inexact: bool,
}

/// An exchange that is known by its id.
#[derive(Debug, Default)]
struct Pin {
    session: usize,
    is_pinned: bool,
    last_call: Duration,
}

/// Longest time between two calls of a pinned exchange after which it is still pinned for sure.
const PIN_LIFETIME: Duration = Duration::from_millis(900);

/// A call as its caller saw it.
#[derive(Debug)]
pub struct FinishedCall {
    pub label: String,
    pub started: Duration,
    pub ended: Duration,
    /// Longest time that it may take.
    pub limit: Duration,
    pub end: CallEnd,
}

#[derive(Debug)]
pub enum CallEnd {
    Answered {
        /// Label of the event that the agent answered; `None` if no agent did.
        mark: Option<String>,
        decision: &'static str,
    },
    Failed(&'static str),
    GivenUp,
}

/// One connection as its agent sees it.
#[derive(Debug)]
struct Session {
    agent: usize,
    started: Duration,
    is_configured: bool,
    has_events: bool,
}

/// An event as its agent sees it.
#[derive(Debug)]
pub struct Asked<'a> {
    pub agent: usize,
    pub task: Id,
    /// When the connection was opened, as far as the agent knows.
    pub opened: Duration,
    pub label: &'a str,
}

impl Ledger {
    /// Notes that a call begins.
    pub fn begin(&mut self, label: &str) {
        self.made += 1;
        let now = clock::since_start();
        let exchange = exchange_of(label);
        if let Some(pin) = self.pins.get_mut(exchange) {
            let is_expired = now - pin.last_call > PIN_LIFETIME;
            pin.is_pinned &= !is_expired;
            pin.last_call = now;
        } else if exchange.starts_with('i') {
            let pin = Pin {
                last_call: now,
                ..Pin::default()
            };
            self.pins.insert(exchange.to_owned(), pin);
        }
    }

    /// Notes that an exchange may not be pinned.
    pub fn unpin(&mut self, label: &str) {
        if let Some(pin) = self.pins.get_mut(exchange_of(label)) {
            pin.is_pinned = false;
        }
    }

    pub fn finish(&mut self, call: FinishedCall) {
        if call.label.ends_with(".0")
            && matches!(call.end, CallEnd::Answered { mark: Some(_), .. })
            && let Some(pin) = self.pins.get_mut(exchange_of(&call.label))
        {
            pin.is_pinned = true;
        }
        let kind = match &call.end {
            CallEnd::Answered {
                mark: None,
                decision: "allow",
            } => {
                self.allowed_unasked += 1;
                "allowed unasked"
            }
            CallEnd::Answered { .. } => {
                self.answered_calls.insert(call.label.clone());
                "answered"
            }
            CallEnd::Failed(kind) => kind,
            CallEnd::GivenUp => "given up",
        };
        *self.ends.entry(kind).or_default() += 1;
        self.finished.push(call);
    }

    /// Notes that an agent got settings. Returns the number of the session.
    pub fn configured(&mut self, agent: usize, task: Id, opened: Duration) -> usize {
        let session = self.session(agent, task, opened);
        self.sessions[session].is_configured = true;
        session
    }

    /// Notes that an agent got an event. Returns the number of the session.
    pub fn asked(&mut self, asked: &Asked<'_>) -> usize {
        let number = self.session(asked.agent, asked.task, asked.opened);
        let has_settings = self.settings.get(&asked.agent).copied();
        let session = &mut self.sessions[number];
        let is_first = !std::mem::replace(&mut session.has_events, true);
        if let Some(since) = has_settings
            && is_first
            && !session.is_configured
            && session.started > since
        {
            let text = format!(
                "{} was asked on a connection opened at {:?}, which has no settings, set at {since:?}",
                asked.label, session.started,
            );
            self.violations
                .push(("agent_is_configured_before_it_is_asked", text));
        }
        self.asked_in.insert(asked.label.to_owned(), number);
        let exchange = exchange_of(asked.label);
        if let Some(pin) = self.pins.get_mut(exchange) {
            if pin.is_pinned && pin.session != number {
                let text = format!(
                    "{} went to session {number}, not {}",
                    asked.label, pin.session
                );
                self.violations
                    .push(("exchange_keeps_its_connection", text));
            }
            pin.session = number;
        }
        if exchange.starts_with('x') {
            self.keeps_session("exchange_keeps_its_connection", asked.label, number);
        }
        number
    }

    /// Notes that a call was answered on the connection of its sticky session.
    pub fn answered_in_session(&mut self, label: &str) {
        if let Some(number) = self.asked_in.get(label).copied() {
            self.keeps_session("sticky_session_keeps_its_connection", label, number);
        }
    }

    fn keeps_session(&mut self, rule: &'static str, label: &str, number: usize) {
        let exchange = exchange_of(label).to_owned();
        let first = *self.exchanges.entry(exchange).or_insert(number);
        if first != number {
            let text = format!("{label} went to session {number}, not {first}");
            self.violations.push((rule, text));
        }
    }

    fn session(&mut self, agent: usize, task: Id, opened: Duration) -> usize {
        let next = self.sessions.len();
        let number = *self.by_task.entry(task.to_string()).or_insert(next);
        if number == next {
            self.sessions.push(Session {
                agent,
                started: opened,
                is_configured: false,
                has_events: false,
            });
        }
        debug_assert_eq!(self.sessions[number].agent, agent);
        number
    }

    pub fn answered(&mut self, label: &str, decision: &'static str) {
        self.answers.insert(label.to_owned(), decision);
    }

    pub fn answer_to(&self, label: &str) -> Option<&'static str> {
        self.answers.get(label).copied()
    }

    pub fn settings_set(&mut self, agent: usize) {
        self.settings
            .entry(agent)
            .or_insert_with(clock::since_start);
    }

    pub fn settings_forgotten(&mut self, agent: usize) {
        self.settings.remove(&agent);
    }

    pub fn all_settings_forgotten(&mut self, plan: &Plan) {
        (0..plan.agents.len()).for_each(|agent| self.settings_forgotten(agent));
    }
}

/// Returns the part of a label that names the exchange.
fn exchange_of(label: &str) -> &str {
    label.split('.').next().unwrap_or_default()
}
