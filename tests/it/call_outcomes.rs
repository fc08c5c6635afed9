//! Callers and counters agree on the outcome of every call, and nothing stays in flight.

use crate::common::{RawAgent, RawConnection, config, eventually, message, request};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;
use tollgate::{
    Agent, AgentConfig, AgentPool, AgentPoolConfig, CallError as Error, CancelReason, Encoding,
    events::RequestBodyChunkEvent, metrics::CallCounts,
};

/// Course of one call.
#[derive(Debug, Clone, Copy)]
enum Scenario {
    Allow,
    Block,
    /// The agent answers twice.
    Twice,
    /// The agent answers a call that was never made, and then this one.
    Foreign,
    /// The agent does not answer, and the deadline passes.
    TimeOut,
    /// The agent answers after the deadline.
    Late,
    /// The agent does not answer, and the caller drops its future.
    GiveUp,
    /// The agent does not answer, and the call is cancelled.
    Cancel,
    /// The answer does not decode, but its correlation id can be read.
    Garble,
    /// The agent closes the connection.
    HangUp,
    /// The agent asks for a pause, answers and resumes.
    Pause,
    /// The body is larger than the agent takes.
    TooLarge,
    /// The id is that of a call in flight.
    SameId,
}

const SCENARIOS: [Scenario; 13] = [
    Scenario::Allow,
    Scenario::Block,
    Scenario::Twice,
    Scenario::Foreign,
    Scenario::TimeOut,
    Scenario::Late,
    Scenario::GiveUp,
    Scenario::Cancel,
    Scenario::Garble,
    Scenario::HangUp,
    Scenario::Pause,
    Scenario::TooLarge,
    Scenario::SameId,
];

const MAX_BODY: usize = 10;

/// Longer than an answer takes, so most calls are answered.
const DEADLINE: Duration = Duration::from_secs(5);

/// Timeout of calls that are not answered.
const SHORT: Duration = Duration::from_millis(20);

fn pool_config(encoding: Encoding, use_extension: bool) -> AgentPoolConfig {
    config(encoding)
        .connections_per_agent(2)
        .max_concurrent_per_connection(2)
        .max_queued_calls(6)
        .queue_timeout(Duration::from_millis(50))
        .circuit_breaker_threshold(4)
        .circuit_breaker_reset_timeout(Duration::from_millis(5))
        .reconnect_interval(Duration::from_millis(1))
        .timing_interval(2)
        .use_extension(use_extension)
}

/// Plays the agent on every connection of the pool.
async fn play(agent: RawAgent, encoding: Encoding) {
    loop {
        let limit = |response: &mut serde_json::Value| {
            response["capabilities"]["limits"]["max_body_size"] = json!(MAX_BODY);
        };
        let connection = agent.accept_with(encoding, limit).await;
        tokio::spawn(answer(connection));
    }
}

/// Treats each call as its id says.
async fn answer(mut connection: RawConnection) -> Option<()> {
    loop {
        let (message, payload) = connection.receive().await?;
        if message == message::PING {
            connection
                .try_send(&crate::common::frame(message::PONG, &payload))
                .await
                .ok()?;
        }
        if !message::EVENTS.contains(&message) {
            continue;
        }

        let event = connection.decode(&payload);
        let id = event["metadata"]["correlation_id"].as_str()?.to_owned();
        let allow = crate::common::allowing(&id);
        let garbled = json!({
            "version": 2, "decision": 7, "audit": {"custom": {"correlation_id": id}},
        });

        let flow = |action: u8| (message::FLOW_CONTROL, json!({"action": action}));
        let messages = match id.split('-').next()? {
            "Allow" | "SameId" => vec![(message::AGENT_RESPONSE, allow)],
            "Block" => vec![(message::AGENT_RESPONSE, crate::common::blocking(&id, 403))],
            "Twice" => vec![
                (message::AGENT_RESPONSE, allow.clone()),
                (message::AGENT_RESPONSE, allow),
            ],
            "Foreign" => vec![
                (message::AGENT_RESPONSE, crate::common::allowing("unknown")),
                (message::AGENT_RESPONSE, allow),
            ],
            "Garble" => vec![(message::AGENT_RESPONSE, garbled)],
            "Pause" => vec![flow(1), (message::AGENT_RESPONSE, allow), flow(2)],
            "Late" => {
                tokio::time::sleep(SHORT * 2).await;
                vec![(message::AGENT_RESPONSE, allow)]
            }
            "HangUp" => return None,
            _ => vec![],
        };

        for (message, value) in messages {
            let payload = match message {
                message::FLOW_CONTROL => value.to_string().into_bytes(),
                _ => crate::common::encode(connection.encoding, &value),
            };
            connection
                .try_send(&crate::common::frame(message, &payload))
                .await
                .ok()?;
        }
    }
}

/// Makes a call. Returns the name of the count that its outcome belongs to.
async fn call(agent: Agent, number: usize, scenario: Scenario) -> &'static str {
    let id = match scenario {
        Scenario::SameId => "SameId-0".to_owned(),
        scenario => format!("{scenario:?}-{number}"),
    };
    let event = request(&id, "/");
    let result = match scenario {
        Scenario::TimeOut | Scenario::Late => agent.send(&id, &event).timeout(SHORT).await,
        Scenario::GiveUp => match timeout(SHORT, agent.send(&id, &event)).await {
            Ok(result) => result,
            Err(_) => return "given_up",
        },
        Scenario::Cancel => {
            let cancelling = async {
                tokio::time::sleep(SHORT).await;
                let reason = CancelReason::ClientDisconnect;
                // Without a connection this fails, and the deadline ends the call.
                let _ = agent.cancel(&id, reason).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                result = agent.send(&id, &event).timeout(SHORT * 5) => result,
                () = cancelling => unreachable!("it never completes"),
            }
        }
        Scenario::TooLarge => {
            let body = RequestBodyChunkEvent::new(&*id, vec![7; MAX_BODY + 1], 0, true);
            agent.send(&id, &body).await
        }
        _ => agent.send(&id, &event).await,
    };
    match result {
        Ok(_) => "answered",
        Err(Error::Timeout { .. }) => "timed_out",
        Err(Error::ConnectionClosed { .. }) => "connection_closed",
        Err(Error::InvalidMessage { .. }) => "undecodable",
        Err(Error::Cancelled { .. }) => "cancelled",
        Err(Error::MessageTooLarge { .. }) => "too_large",
        Err(Error::FlowControlPaused { .. }) => "paused",
        Err(Error::CorrelationBusy { .. }) => "busy",
        Err(Error::QueueFull { .. }) => "queue_full",
        Err(Error::QueueTimeout { .. }) => "queue_timed_out",
        Err(Error::Unavailable { .. }) => "unavailable",
        Err(Error::CircuitOpen { .. }) => "circuit_open",
        Err(other) => panic!("{other}"),
    }
}

fn by_name(counts: &CallCounts) -> BTreeMap<&'static str, u64> {
    let all = [
        ("answered", counts.answered),
        ("timed_out", counts.timed_out),
        ("connection_closed", counts.connection_closed),
        ("undecodable", counts.undecodable),
        ("cancelled", counts.cancelled),
        ("given_up", counts.given_up),
        ("too_large", counts.too_large),
        ("paused", counts.paused),
        ("busy", counts.busy),
        ("queue_full", counts.queue_full),
        ("queue_timed_out", counts.queue_timed_out),
        ("unavailable", counts.unavailable),
        ("circuit_open", counts.circuit_open),
        ("skipped", counts.skipped),
    ];
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

async fn run(scenarios: &[Scenario], encoding: Encoding) {
    let listening = RawAgent::listen();
    let endpoint = listening.path.display().to_string();
    let playing = tokio::spawn(play(listening, encoding));

    let pool = AgentPool::with_config(pool_config(encoding, false));
    let agent = pool.add(AgentConfig::new("agent", endpoint)).await.unwrap();

    let calls = scenarios.iter().enumerate();
    let calls: Vec<_> = calls
        .map(|(number, scenario)| tokio::spawn(call(agent.clone(), number, *scenario)))
        .collect();

    let mut ended = BTreeMap::new();
    for call in calls {
        *ended.entry(call.await.unwrap()).or_insert(0) += 1;
    }

    let metrics = pool.metrics();
    let snapshot = metrics.snapshot();
    assert_eq!(by_name(&snapshot.total.calls), ended, "{scenarios:?}");
    assert_eq!(snapshot.requests_total, scenarios.len() as u64);
    assert_eq!(snapshot.in_flight_requests, 0, "{scenarios:?}");
    assert_eq!(snapshot.total.pending_requests, 0, "{scenarios:?}");
    let decisions = snapshot.total.decisions;
    assert_eq!(decisions.allow + decisions.block, snapshot.responses_total);

    // Fails if a slot was not released.
    eventually("the agent is called again", async || {
        timeout(DEADLINE, call(agent.clone(), 0, Scenario::Block))
            .await
            .is_ok_and(|ended| ended == "answered")
    })
    .await;

    assert_eq!(metrics.snapshot().in_flight_requests, 0);
    playing.abort();
}

fn block_on(run: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(run);
}

#[test]
fn each_scenario_alone_is_counted_correctly() {
    block_on(async {
        let runs = crate::common::BOTH.into_iter().flat_map(|encoding| {
            SCENARIOS
                .map(|scenario| Box::pin(async move { run(&[scenario, scenario], encoding).await }))
        });
        futures_util::future::join_all(runs).await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_mix_of_scenarios_is_counted_correctly(
        scenarios in prop::collection::vec(prop::sample::select(&SCENARIOS[..]), 1..24),
        in_json: bool,
    ) {
        let encoding = if in_json { Encoding::Json } else { Encoding::MessagePack };
        block_on(run(&scenarios, encoding));
    }
}
