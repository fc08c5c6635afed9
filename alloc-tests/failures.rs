//! Heap budgets of calls that fail.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod support;

use serde_json::{Value, json};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::common::{
    self, AgentProcess, accept_handshake, encode, frame, message, pool_with, raw_pool,
};
use support::{
    AGENT, Allocations, Budget, Counting, EVENTS, Flavour, HEADERS, Ids, WARM_UP, config, record,
    request,
};
use tempfile::TempDir;
use tokio::io::{AsyncWriteExt, copy, sink};
use tokio::net::UnixListener;
use tollgate::Encoding::{Json, MessagePack};
use tollgate::{AgentPool, AgentPoolConfig, CallError as Error, Exchange, FlowControlMode};

/// Runs the agent that the other tests start as a process. It reads every event and answers none.
#[test]
#[ignore = "the other tests start it as the process of their agent"]
fn agent_process() {
    common::run_agent_process_with(keep_silent);
}

/// Reason for a call to fail.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// The deadline passes.
    Deadline(Dialect),
    /// The connection ends while the call is pending.
    EndOfConnection,
    /// The agent has asked for a pause.
    Pause,
    /// The agent has asked for a pause, and paused calls are allowed.
    PauseFailingOpen,
    /// The connection of the exchange has ended.
    Closed,
    /// No connection is left.
    Unavailable,
}

/// Protocol variant, which decides how answers are matched.
#[derive(Debug, Clone, Copy)]
enum Dialect {
    Extended,
    Zentinel,
}

/// If the process is descheduled, more frames than before wait to be sent, each in its own buffer.
/// A connection keeps up to 128 of them.
const BUFFERS: Budget = Budget::per_1000(13);

/// Also covers the table of ids with a missing answer, which grows to its bound.
const BUFFERS_AND_IDS: Budget = Budget::per_1000(15);

on_both_runtimes! { hold:
    deadline: Failure::Deadline(Dialect::Extended), BUFFERS;
    deadline_without_extension: Failure::Deadline(Dialect::Zentinel), BUFFERS_AND_IDS;
    end_of_connection: Failure::EndOfConnection, Budget::NONE;
    pause: Failure::Pause, Budget::NONE;
    pause_failing_open: Failure::PauseFailingOpen, Budget::NONE;
    closed: Failure::Closed, Budget::NONE;
    unavailable: Failure::Unavailable, Budget::NONE;
}

fn hold(flavour: Flavour, failure: Failure, budget: Budget) {
    let counting = Counting::begin();
    let made = flavour.runtime().block_on(async {
        match failure {
            Failure::Deadline(dialect) => deadline(&counting, dialect).await,
            Failure::EndOfConnection => end_of_connection(&counting).await,
            Failure::Pause => pause(&counting, FlowControlMode::FailClosed).await,
            Failure::PauseFailingOpen => pause(&counting, FlowControlMode::FailOpen).await,
            Failure::Closed => closed(&counting).await,
            Failure::Unavailable => unavailable(&counting).await,
        }
    });
    record(&failure.to_string(), "proxy", flavour, budget, made);
}

/// Returns a configuration without circuit breaker, health checks and maintenance.
fn without_reactions() -> AgentPoolConfig {
    config(MessagePack)
        .circuit_breaker_threshold(0)
        .max_consecutive_errors(u32::MAX)
        .self_maintained(false)
        .connections_per_agent(1)
        .max_concurrent_per_connection(EVENTS as usize)
}

/// Pushed events whose answers are missing.
struct Unanswered {
    pool: AgentPool,
    ids: Ids,
    exchanges: Vec<Exchange>,
}

impl Unanswered {
    fn of(pool: AgentPool) -> Self {
        Self {
            pool,
            ids: Ids::default(),
            exchanges: Vec::with_capacity(EVENTS as usize),
        }
    }

    async fn push(&mut self, events: u64) {
        let event = request("/", &HEADERS[..10]);
        for _ in 0..events {
            let mut exchange = self
                .pool
                .agent(AGENT)
                .unwrap()
                .exchange(self.ids.next())
                .unwrap();
            match exchange.push(&event).await {
                Ok(()) => self.exchanges.push(exchange),
                // The deadline may pass before the event is sent.
                Err(error) => assert!(matches!(error, Error::Timeout { .. }), "{error}"),
            }
        }
    }

    /// Takes the outcome of each event, the oldest first, and checks the error.
    async fn fail(&mut self, is_expected: fn(&Error) -> bool) {
        for exchange in &mut self.exchanges {
            let error = exchange.next_answer().await.unwrap().unwrap_err();
            assert!(is_expected(&error), "{error}");
        }
        self.exchanges.clear();
    }
}

/// Deadlines are checked every few milliseconds, so several calls wait at the same time.
async fn deadline(counting: &Counting, dialect: Dialect) -> Allocations {
    const AT_ONCE: u64 = 50;
    let (_dir, agent) = silent_agent(dialect).await;
    let config = without_reactions().request_timeout(Duration::from_millis(1));
    let mut unanswered = Unanswered::of(pool_with(config, &agent.socket).await);
    let mut miss = async |events: u64| {
        for _ in 0..events / AT_ONCE {
            unanswered.push(AT_ONCE).await;
            let is_late = |error: &Error| matches!(error, Error::Timeout { .. });
            unanswered.fail(is_late).await;
        }
        events
    };
    miss(WARM_UP).await;
    counting.during(miss(EVENTS)).await
}

async fn end_of_connection(counting: &Counting) -> Allocations {
    let (_dir, agent) = silent_agent(Dialect::Extended).await;
    let mut unanswered = Unanswered::of(pool_with(without_reactions(), &agent.socket).await);
    unanswered.push(EVENTS).await;
    let lose = async {
        agent.kill();
        let is_closed = |error: &Error| matches!(error, Error::ConnectionClosed { .. });
        unanswered.fail(is_closed).await;
        EVENTS
    };
    counting.during(lose).await
}

async fn pause(counting: &Counting, flow_control_mode: FlowControlMode) -> Allocations {
    let config = without_reactions().flow_control_mode(flow_control_mode);
    let (_agent, pool, mut connection) = raw_pool(config).await;
    connection
        .send(message::FLOW_CONTROL, br#"{"action":1}"#)
        .await;
    connection.sync().await;
    let mut ids = Ids::default();
    let mut rejected = async |calls: u64| {
        let event = request("/", &HEADERS[..10]);
        for _ in 0..calls {
            match pool.agent(AGENT).unwrap().send(ids.next(), &event).await {
                Ok(_) => assert_eq!(flow_control_mode, FlowControlMode::FailOpen),
                Err(error) => assert!(matches!(error, Error::FlowControlPaused { .. })),
            }
        }
        calls
    };
    rejected(WARM_UP).await;
    counting.during(rejected(EVENTS)).await
}

async fn closed(counting: &Counting) -> Allocations {
    let (_agent, pool, connection) = raw_pool(without_reactions()).await;
    let mut exchange = pool.agent(AGENT).unwrap().exchange("exchange").unwrap();
    drop(connection);
    let mut rejected = async |calls: u64| {
        let event = request("/", &HEADERS[..10]);
        for _ in 0..calls {
            let answer = exchange.send(&event).await;
            assert!(matches!(answer, Err(Error::ConnectionClosed { .. })));
        }
        calls
    };
    rejected(WARM_UP).await;
    counting.during(rejected(EVENTS)).await
}

async fn unavailable(counting: &Counting) -> Allocations {
    let (_agent, pool, connection) = raw_pool(without_reactions()).await;
    drop(connection);
    common::eventually("the connection ends", async || {
        !pool.agent(AGENT).is_some_and(|agent| agent.is_healthy())
    })
    .await;
    let mut ids = Ids::default();
    let mut rejected = async |calls: u64| {
        let event = request("/", &HEADERS[..10]);
        for _ in 0..calls {
            let answer = pool.agent(AGENT).unwrap().send(ids.next(), &event).await;
            assert!(matches!(answer, Err(Error::Unavailable { .. })));
        }
        calls
    };
    rejected(WARM_UP).await;
    counting.during(rejected(EVENTS)).await
}

async fn silent_agent(dialect: Dialect) -> (TempDir, AgentProcess) {
    let dir = tempfile::tempdir().unwrap();
    let (agent, _) = AgentProcess::start(&dir.path().join(dialect.to_string())).await;
    (dir, agent)
}

/// Answers every handshake and reads all events. The file name of the socket selects the dialect.
async fn keep_silent(socket: PathBuf) {
    let handshake = handshake_at(&socket);
    let listener = UnixListener::bind(socket).unwrap();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let handshake = handshake.clone();
        tokio::spawn(async move {
            // A peer that disconnects is not an error.
            let _ = stream.write_all(&handshake).await;
            let _ = copy(&mut stream, &mut sink()).await;
        });
    }
}

fn handshake_at(socket: &Path) -> Vec<u8> {
    let mut handshake = accept_handshake(MessagePack.as_str());
    let unlimited = &mut handshake["capabilities"]["limits"]["max_concurrency"];
    *unlimited = json!(0);
    handshake["tollgate"] = if socket.ends_with(Dialect::Extended.to_string()) {
        json!({ "version": 1 })
    } else {
        Value::Null
    };
    frame(message::HANDSHAKE_RESPONSE, &encode(Json, &handshake))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failed call: ")?;
        match self {
            Self::Deadline(dialect) => write!(f, "deadline, {dialect} protocol"),
            Self::EndOfConnection => f.write_str("connection ends"),
            Self::Pause => f.write_str("paused"),
            Self::PauseFailingOpen => f.write_str("paused, failing open"),
            Self::Closed => f.write_str("closed"),
            Self::Unavailable => f.write_str("unavailable"),
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Extended => "extended",
            Self::Zentinel => "zentinel-agent-protocol's",
        })
    }
}
