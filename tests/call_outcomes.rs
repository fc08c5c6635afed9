//! Whatever becomes of calls, callers and counters agree on it, and nothing stays in flight.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::{RawAgent, RawConnection, config, eventually, request};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;
use tollgate::{
    AgentPool, AgentPoolConfig, AgentProtocolError as Error, CallCounts, CancelReason, Encoding,
    RequestBodyChunkEvent,
};

/// What is to become of a call.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Allow,
    Block,
    /// The agent answers twice.
    Twice,
    /// The agent answers a call that nobody made, and then this one.
    Foreign,
    /// The agent says nothing, and the deadline passes.
    TimeOut,
    /// The agent answers when the deadline has passed.
    Late,
    /// The agent says nothing, and the caller drops its future.
    GiveUp,
    /// The agent says nothing, and the call is cancelled.
    Cancel,
    /// The answer does not decode, but says which call it is for.
    Garble,
    /// The agent hangs up.
    HangUp,
    /// The agent asks for a pause, answers and resumes.
    Pause,
    /// The body is larger than the agent takes.
    TooLarge,
    /// The id is that of a call under way.
    SameId,
}

const FATES: [Fate; 13] = [
    Fate::Allow,
    Fate::Block,
    Fate::Twice,
    Fate::Foreign,
    Fate::TimeOut,
    Fate::Late,
    Fate::GiveUp,
    Fate::Cancel,
    Fate::Garble,
    Fate::HangUp,
    Fate::Pause,
    Fate::TooLarge,
    Fate::SameId,
];

const MAX_BODY: usize = 10;

/// Longer than an answer takes, so that most calls are answered.
const DEADLINE: Duration = Duration::from_secs(5);

/// For calls that nobody answers.
const SHORT: Duration = Duration::from_millis(20);

fn pool_config(encoding: Encoding, use_extension: bool) -> AgentPoolConfig {
    AgentPoolConfig {
        connections_per_agent: 2,
        max_concurrent_per_connection: 2,
        max_queued_calls: 6,
        queue_timeout: Duration::from_millis(50),
        circuit_breaker_threshold: 4,
        circuit_breaker_reset_timeout: Duration::from_millis(5),
        reconnect_interval: Duration::from_millis(1),
        timing_interval: 2,
        use_extension,
        ..config(encoding)
    }
}

/// Plays the agent on every connection that comes.
async fn play(agent: RawAgent, encoding: Encoding) {
    loop {
        let limit = |said: &mut serde_json::Value| {
            said["limits"]["max_body_size"] = json!(MAX_BODY);
        };
        let connection = agent.accept_saying(encoding, limit).await;
        tokio::spawn(answer(connection));
    }
}

/// Does to each call what its id says.
async fn answer(mut connection: RawConnection) -> Option<()> {
    loop {
        let (message, payload) = connection.receive().await?;
        if message == 0x41 {
            connection
                .try_send(&common::frame(0x42, &payload))
                .await
                .ok()?;
        }
        if !(0x10..=0x17).contains(&message) {
            continue;
        }
        let event = connection.decode(&payload);
        let id = event["metadata"]["correlation_id"].as_str()?.to_owned();
        let allow = common::allowing(&id);
        let garbled = json!({
            "version": 2, "decision": 7, "audit": {"custom": {"correlation_id": id}},
        });
        let flow = |action: u8| (0x33, json!({"action": action}));
        let said = match id.split('-').next()? {
            "Allow" | "SameId" => vec![(0x20, allow)],
            "Block" => vec![(0x20, common::blocking(&id, 403))],
            "Twice" => vec![(0x20, allow.clone()), (0x20, allow)],
            "Foreign" => vec![(0x20, common::allowing("nobody")), (0x20, allow)],
            "Garble" => vec![(0x20, garbled)],
            "Pause" => vec![flow(1), (0x20, allow), flow(2)],
            "Late" => {
                tokio::time::sleep(SHORT * 2).await;
                vec![(0x20, allow)]
            }
            "HangUp" => return None,
            _ => vec![],
        };
        for (message, value) in said {
            let payload = match message {
                0x33 => value.to_string().into_bytes(),
                _ => common::encode(connection.encoding, &value),
            };
            connection
                .try_send(&common::frame(message, &payload))
                .await
                .ok()?;
        }
    }
}

/// Makes a call and says how it ended for its caller, by the name of its count.
async fn call(pool: AgentPool, number: usize, fate: Fate) -> &'static str {
    let id = match fate {
        Fate::SameId => "SameId-0".to_owned(),
        fate => format!("{fate:?}-{number}"),
    };
    let event = request(&id, "/");
    let result = match fate {
        Fate::TimeOut | Fate::Late => pool.send_within("agent", &id, &event, SHORT).await,
        Fate::GiveUp => match timeout(SHORT, pool.send("agent", &id, &event)).await {
            Ok(result) => result,
            Err(_) => return "given_up",
        },
        Fate::Cancel => {
            let cancelling = async {
                tokio::time::sleep(SHORT).await;
                let reason = CancelReason::ClientDisconnect;
                // There may be no connection just now; then the deadline ends the call.
                let _ = pool.cancel_request("agent", &id, reason).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                result = pool.send_within("agent", &id, &event, SHORT * 5) => result,
                () = cancelling => unreachable!("it waits for ever"),
            }
        }
        Fate::TooLarge => {
            let body = RequestBodyChunkEvent::new(&*id, vec![7; MAX_BODY + 1], 0, true);
            pool.send("agent", &id, &body).await
        }
        _ => pool.send("agent", &id, &event).await,
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

async fn run(fates: &[Fate], encoding: Encoding) {
    let agent = RawAgent::listen();
    let endpoint = agent.path.display().to_string();
    let playing = tokio::spawn(play(agent, encoding));
    let pool = AgentPool::with_config(pool_config(encoding, false));
    pool.add_agent("agent", endpoint).await.unwrap();
    let calls = fates.iter().enumerate();
    let calls: Vec<_> = calls
        .map(|(number, fate)| tokio::spawn(call(pool.clone(), number, *fate)))
        .collect();
    let mut ended = BTreeMap::new();
    for call in calls {
        *ended.entry(call.await.unwrap()).or_insert(0) += 1;
    }
    let metrics = pool.protocol_metrics();
    let snapshot = metrics.snapshot();
    assert_eq!(by_name(&snapshot.total.calls), ended, "{fates:?}");
    assert_eq!(snapshot.requests_total, fates.len() as u64);
    assert_eq!(snapshot.in_flight_requests, 0, "{fates:?}");
    assert_eq!(snapshot.total.pending_requests, 0, "{fates:?}");
    let decisions = snapshot.total.decisions;
    assert_eq!(decisions.allow + decisions.block, snapshot.responses_total);
    // A slot that is given back late would show here.
    eventually("the agent is asked again", async || {
        timeout(DEADLINE, call(pool.clone(), 0, Fate::Block))
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
fn each_fate_alone() {
    block_on(async {
        let runs = common::BOTH.into_iter().flat_map(|encoding| {
            FATES.map(|fate| async move { run(&[fate, fate], encoding).await })
        });
        futures_util::future::join_all(runs).await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn nothing_stays_in_flight(
        fates in prop::collection::vec(prop::sample::select(&FATES[..]), 1..24),
        in_json: bool,
    ) {
        let encoding = if in_json { Encoding::Json } else { Encoding::MessagePack };
        block_on(run(&fates, encoding));
    }
}
