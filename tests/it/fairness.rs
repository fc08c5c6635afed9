//! One peer's work does not keep others waiting, and deadlines end calls in time.

use crate::common::{
    RawAgent, RawConnection, config, frame, message, pool_with, request, result_of, serve,
};
use std::io::Write;
use std::time::{Duration, Instant};
use tollgate::{AgentConfig, AgentPool, AgentPoolConfig, CallError, Encoding};

/// Lateness of a deadline, apart from what the machine causes.
const LATE: Duration = Duration::from_millis(20);

/// Time for which each flood lasts.
const FLOOD: Duration = Duration::from_secs(2);

/// Lateness that the machine causes: other tests may have the processors, and a debug build is
/// slow. Without fair turns the floods below would keep calls waiting for several seconds.
const NOISE: Duration = Duration::from_secs(1);

/// Accepts the connections of a pool as an agent that sends the same bytes again and again, on
/// threads of their own, and answers nothing.
fn flood_with(agent: RawAgent, bytes: Vec<u8>) {
    tokio::spawn(async move {
        loop {
            let connection = agent.accept_in(Encoding::Json).await;
            let (mut socket, bytes) = (connection.into_std(), bytes.clone());
            std::thread::spawn(move || while socket.write_all(&bytes).is_ok() {});
        }
    });
}

fn answer_of(values: usize) -> Vec<u8> {
    let values = "0,".repeat(values);
    let answer = format!(
        r#"{{"version":2,"decision":"allow","audit":{{"custom":{{"correlation_id":"nobody","x":[{values}0]}}}}}}"#
    );
    frame(message::AGENT_RESPONSE, answer.as_bytes())
}

fn report_of(counters: usize) -> Vec<u8> {
    let counters: Vec<_> = (0..counters)
        .map(|n| format!(r#"{{"name":"c{n}","labels":{{}},"value":1}}"#))
        .collect();
    let report = format!(
        r#"{{"agent_id":"a","timestamp_ms":1,"interval_ms":1,"gauges":[],"histograms":[],"counters":[{}]}}"#,
        counters.join(",")
    );
    frame(message::METRICS_REPORT, report.as_bytes())
}

fn pings() -> Vec<u8> {
    frame(message::PING, br#"{"sequence":1,"timestamp_ms":1}"#).repeat(1_000)
}

fn p99(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    durations[durations.len() * 99 / 100]
}

/// Makes calls to an agent until `end`. Returns their durations and those that were answered.
async fn calls(
    pool: &AgentPool,
    agent: &str,
    deadline: Duration,
    end: Instant,
) -> (Vec<Duration>, usize) {
    let agent = pool.agent(agent).unwrap();
    let (mut took, mut answered) = (Vec::new(), 0);
    while Instant::now() < end {
        let id = took.len().to_string();
        let began = Instant::now();
        let event = request(&id, "/");
        let sent = async { agent.exchange(&id)?.send(&event).timeout(deadline).await };
        match sent.await {
            Ok(_) => answered += 1,
            Err(CallError::Timeout { .. } | CallError::Unavailable { .. }) => {}
            Err(error) => assert!(matches!(error, CallError::CircuitOpen { .. }), "{error}"),
        }
        took.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (took, answered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_one_agent_delay_neither_others_nor_deadlines() {
    for (what, bytes) in [
        ("large answers", answer_of(3_000_000)),
        ("answers with many values", answer_of(70_000)),
        ("long reports", report_of(380_000)),
        ("reports", report_of(5_000)),
        ("pings", pings()),
    ] {
        let good = serve().await;
        let pool = pool_with(AgentPoolConfig::default(), &good.path).await;
        let hostile = RawAgent::listen();
        let path = hostile.path.to_str().unwrap().to_owned();
        flood_with(hostile, bytes);
        // One connection, so that the test itself leaves processors to others.
        let config = AgentConfig::new("hostile", path).connections(1);
        pool.add(config).await.unwrap();

        let end = Instant::now() + FLOOD;
        let deadline = Duration::from_millis(300);
        let ((good, answered), (hostile, _)) = tokio::join!(
            calls(&pool, "agent", Duration::from_secs(5), end),
            calls(&pool, "hostile", deadline, end)
        );
        assert_eq!(
            good.len(),
            answered,
            "{what}: the good agent was asked in vain"
        );
        let p99 = p99(good);
        assert!(p99 < NOISE, "{what}: the good agent answered after {p99:?}");
        let slowest = hostile.iter().max().copied().unwrap_or_default();
        let allowed = deadline + deadline / 10 + LATE + NOISE;
        assert!(
            slowest < allowed,
            "{what}: a deadline ended a call after {slowest:?}"
        );
    }
}

#[tokio::test]
async fn answers_that_have_arrived_complete_their_calls_before_the_deadline_counts() {
    let agent = RawAgent::listen();
    let pool_config = config(Encoding::Json).connections_per_agent(1);
    let (pool, mut connection): (_, RawConnection) = tokio::join!(
        pool_with(pool_config, &agent.path),
        agent.accept_in(Encoding::Json)
    );
    let deadline = Duration::from_millis(50);
    let call = {
        let agent = pool.agent("agent").unwrap();
        tokio::spawn(async move {
            agent
                .send("c-1", &request("c-1", "/"))
                .timeout(deadline)
                .await
        })
    };
    let id = connection.event().await;
    connection.block(&id, 418).await;
    // The only thread of the runtime is kept until the deadline has passed.
    std::thread::sleep(2 * deadline);
    result_of(call).await.unwrap();
}
