//! Handles of agents: the errors of outdated ones, what a replacement takes over, and the options
//! of calls.

use crate::common::{
    BOTH, Call, RawAgent, RawConnection, config, eventually, expect_works, pool_with, raw_pool,
    request, result_of, serve, status_of,
};
use serde_json::json;
use std::time::{Duration, Instant};
use tollgate::{
    Agent, AgentConfig, AgentPool, AgentPoolConfig, AgentResponse, CallError as Error,
    CancelReason, Decision, Encoding, FailureMode,
    control::{DrainReason, ShutdownReason},
};

/// Timeout of calls that are not answered.
const SHORT: Duration = Duration::from_millis(20);

/// Begins a call.
fn begin(agent: &Agent, id: &str) -> Call {
    let (agent, id) = (agent.clone(), id.to_owned());
    tokio::spawn(async move { agent.send(&id, &request(&id, "/")).await })
}

/// Begins a call, and waits until it is counted. By then it is sent, or waits for a slot.
async fn begin_waiting(agent: &Agent, id: &str) -> Call {
    let made = agent.stats().calls.made;
    let call = begin(agent, id);
    eventually("the call is made", async || agent.stats().calls.made > made).await;
    call
}

/// Replaces the agent by one that the test plays on a new connection.
async fn replace(pool: &AgentPool, agent: &RawAgent, encoding: Encoding) -> (Agent, RawConnection) {
    let endpoint = agent.path.display().to_string();
    let (replaced, connection) = tokio::join!(
        pool.replace(AgentConfig::new("agent", endpoint)),
        agent.accept_in(encoding)
    );
    (replaced.unwrap(), connection)
}

fn one_slot(encoding: Encoding) -> AgentPoolConfig {
    config(encoding).max_concurrent_per_connection(1)
}

/// Asserts that everything that can be asked of an outdated handle fails with this kind of error,
/// and that no call is counted.
async fn expect_outdated(agent: &Agent, kind: &str) {
    let calls = agent.stats().calls;
    let event = request("new", "/");
    let timed = agent.send("new", &event).timeout(SHORT).timed();
    let drain = agent.request_drain(SHORT, DrainReason::Manual);
    let shutdown = agent.request_shutdown(SHORT, ShutdownReason::Upgrade);
    let cancel_all = agent.cancel_all(CancelReason::Manual);
    for (way, result) in [
        ("exchange", agent.exchange("new").map(drop)),
        ("send", agent.send("new", &event).await.map(drop)),
        ("send with options", timed.await.map(drop)),
        (
            "configure",
            agent.configure(json!({}), None).await.map(drop),
        ),
        ("ping", agent.ping().await.map(drop)),
        ("cancel", agent.cancel("new", CancelReason::Manual).await),
        ("cancel all", cancel_all.await.map(drop)),
        ("drain", drain.await.map(drop)),
        ("shutdown", shutdown.await.map(drop)),
        ("remove", agent.remove()),
    ] {
        let error = result.expect_err(way);
        assert_eq!(error.kind(), kind, "{way}");
        assert_eq!(error.agent_id(), "agent", "{way}");
        assert!(!error.means_unavailable(), "{way}");
    }
    assert_eq!(agent.stats().calls, calls);
    assert_eq!(agent.stats().failed_open, 0);
    assert_eq!(agent.id(), "agent");
    assert!(!agent.is_healthy());
    assert!(agent.capabilities().is_none() && agent.encoding().is_none());
    assert_eq!(agent.uses_extension(), None);
}

#[tokio::test]
async fn handle_of_a_removed_agent_fails() {
    for failure_mode in [FailureMode::Closed, FailureMode::Open] {
        let config = config(Encoding::Json).failure_mode(failure_mode);
        let (_agent, pool, mut connection) = raw_pool(config).await;
        let agent = pool.agent("agent").unwrap();
        let clone = agent.clone();

        agent.remove().unwrap();
        expect_outdated(&agent, "removed").await;
        assert!(pool.agents().is_empty());
        connection.expect_end().await;

        // Another agent of the name does not change that.
        let other = pool.add(AgentConfig::reverse("agent")).await.unwrap();
        expect_outdated(&clone, "removed").await;
        assert_eq!(other.settings(), None);
        assert!(pool.agent("agent").is_some());
        drop(pool);
        expect_outdated(&clone, "removed").await;
    }
}

#[tokio::test]
async fn handle_of_a_replaced_agent_fails() {
    let (agent, pool, mut old) = raw_pool(config(Encoding::Json)).await;
    let replaced = pool.agent("agent").unwrap();

    let (successor, mut new) = replace(&pool, &agent, Encoding::Json).await;
    old.expect_end().await;
    expect_outdated(&replaced, "replaced").await;
    assert_eq!(successor.settings(), None);
    expect_works(&pool, &mut new, "c-1").await;

    successor.remove().unwrap();
    expect_outdated(&replaced, "replaced").await;
    expect_outdated(&successor, "removed").await;
}

#[tokio::test]
async fn handle_does_not_keep_the_pool_open() {
    let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    let agent = pool.agent("agent").unwrap();
    let mut exchange = agent.exchange("exchange").unwrap();

    drop(pool);
    connection.expect_end().await;
    expect_outdated(&agent, "pool_dropped").await;
    assert!(!exchange.is_open());
    assert_fails!(
        exchange.send(&request("exchange", "/")).await,
        Error::ConnectionClosed { .. }
    );
}

/// The calls that wait for a slot fail. Those that are sent are finished.
#[tokio::test]
async fn calls_that_wait_for_a_removed_agent_fail() {
    let (_agent, pool, mut connection) = raw_pool(one_slot(Encoding::Json)).await;
    let agent = pool.agent("agent").unwrap();
    let sent = begin(&agent, "sent");
    assert_eq!(connection.event().await, "sent");
    let waiting = begin_waiting(&agent, "waiting").await;

    agent.remove().unwrap();
    assert_fails!(result_of(waiting).await, Error::Removed { .. });
    connection.block("sent", 418).await;
    assert_eq!(status_of(sent).await, 418);
    pool.unpin("sent");
    connection.expect_end().await;

    let calls = agent.stats().calls;
    assert_eq!((calls.made, calls.ended(), calls.answered), (2, 2, 1));
}

#[tokio::test]
async fn pending_calls_fail_when_the_pool_is_dropped() {
    let (_agent, pool, mut connection) = raw_pool(one_slot(Encoding::Json)).await;
    let agent = pool.agent("agent").unwrap();
    let sent = begin(&agent, "sent");
    assert_eq!(connection.event().await, "sent");
    let waiting = begin_waiting(&agent, "waiting").await;

    drop(pool);
    assert_fails!(result_of(sent).await, Error::ConnectionClosed { .. });
    assert_fails!(result_of(waiting).await, Error::PoolDropped { .. });
}

/// A call that is sent is answered on the old connection, and one that waits for a slot is sent on
/// the new one. An exchange goes on on its connection, even if it waits for a slot there.
#[tokio::test]
async fn replacing_an_agent_loses_no_call() {
    for encoding in BOTH {
        let (agent, pool, mut old) = raw_pool(one_slot(encoding)).await;
        let replaced = pool.agent("agent").unwrap();
        let mut exchange = replaced.exchange("exchange").unwrap();
        let sent = begin(&replaced, "sent");
        assert_eq!(old.event().await, "sent");
        let waiting = begin_waiting(&replaced, "waiting").await;
        let event = request("exchange", "/");
        let bound = tokio::spawn(async move { exchange.send(&event).await });

        let (successor, mut new) = replace(&pool, &agent, encoding).await;
        assert_eq!(new.event().await, "waiting");
        new.block("waiting", 418).await;
        assert_eq!(status_of(waiting).await, 418);
        old.block("sent", 419).await;
        assert_eq!(status_of(sent).await, 419);
        assert_eq!(old.event().await, "exchange");
        old.block("exchange", 420).await;
        assert_eq!(status_of(bound).await, 420);

        pool.unpin("sent");
        old.expect_end().await;
        let calls = successor.stats().calls;
        assert_eq!((calls.made, calls.answered), (3, 3), "the counters go on");
        assert_eq!(replaced.stats().calls, calls);
        assert_eq!(pool.metrics().snapshot().total.calls, calls);
        expect_works(&pool, &mut new, "next").await;
        assert_eq!(successor.stats().calls.answered, 4);
    }
}

/// The old handle may still finish what is pinned to its connections.
#[tokio::test]
async fn pinned_exchange_goes_on_with_the_handle_that_began_it() {
    let (agent, pool, mut old) = raw_pool(config(Encoding::Json)).await;
    let replaced = pool.agent("agent").unwrap();
    let head = begin(&replaced, "c-1");
    assert_eq!(old.event().await, "c-1");
    old.allow("c-1").await;
    result_of(head).await.unwrap();

    let (successor, _new) = replace(&pool, &agent, Encoding::Json).await;
    for (index, handle) in [replaced, successor].iter().enumerate() {
        let chunk =
            tollgate::events::RequestBodyChunkEvent::new("c-1", "x", index as u32, index == 1);
        let (answer, ()) = tokio::join!(handle.send("c-1", &chunk), async {
            assert_eq!(old.event().await, "c-1");
            old.allow("c-1").await;
        });
        answer.unwrap();
    }
    pool.unpin("c-1");
    old.expect_end().await;
}

#[tokio::test]
async fn call_is_made_when_it_is_awaited() {
    let agent = serve().await;
    let pool = pool_with(config(Encoding::MessagePack), &agent.path).await;
    let handle = pool.agent("agent").unwrap();
    let event = request("c-1", "/");

    let call = handle.send("c-1", &event);
    drop(handle.send("c-1", &event).timed());
    assert_eq!(handle.stats().calls.made, 0);
    call.await.unwrap();
    assert_eq!(handle.stats().calls.made, 1);
}

#[tokio::test]
async fn timeout_of_a_call_applies_to_both_forms() {
    let agent = serve().await;
    let pool = pool_with(config(Encoding::MessagePack), &agent.path).await;
    let handle = pool.agent("agent").unwrap();
    let event = request("c", "/wait");
    let exchange = |n: usize| handle.exchange(&format!("exchange-{n}")).unwrap();
    let [mut one, mut two, mut three] = [exchange(1), exchange(2), exchange(3)];

    for (way, result) in [
        ("by id", handle.send("1", &event).timeout(SHORT).await),
        (
            "by id, timed",
            answer_of(handle.send("2", &event).timeout(SHORT).timed().await),
        ),
        (
            "by id, timed first",
            answer_of(handle.send("3", &event).timed().timeout(SHORT).await),
        ),
        ("exchange", one.send(&event).timeout(SHORT).await),
        (
            "exchange, timed",
            answer_of(two.send(&event).timeout(SHORT).timed().await),
        ),
        (
            "exchange, timed first",
            answer_of(three.send(&event).timed().timeout(SHORT).await),
        ),
    ] {
        let is_timeout = matches!(result, Err(Error::Timeout { after, .. }) if after == SHORT);
        assert!(is_timeout, "{way}: {result:?}");
    }
    assert_eq!(handle.stats().calls.timed_out, 6);
}

fn answer_of<T>(result: Result<(AgentResponse, T), Error>) -> Result<AgentResponse, Error> {
    result.map(|(answer, _)| answer)
}

#[tokio::test]
async fn both_forms_of_a_call_can_be_timed() {
    let agent = serve().await;
    let pool = pool_with(config(Encoding::MessagePack), &agent.path).await;
    let handle = pool.agent("agent").unwrap();
    let mut exchange = handle.exchange("exchange").unwrap();
    let event = request("c", "/block");

    let begun = Instant::now();
    for timed in [
        handle.send("by-id", &event).timed().await,
        exchange.send(&event).timed().await,
        exchange.send_by_id("on-it", &event).timed().await,
    ] {
        let (answer, timings) = timed.unwrap();
        assert!(matches!(answer.decision, Decision::Block { .. }));
        let timings = timings.expect("the agent was asked");
        assert!(timings.wire > Duration::ZERO && timings.encode > Duration::ZERO);
        assert!(timings.total() <= begun.elapsed());
    }
}

/// There is nothing to time if the event is allowed without asking the agent.
#[tokio::test]
async fn call_that_is_not_sent_has_no_timings() {
    let pool = AgentPool::new();
    let absent = AgentConfig::reverse("agent").failure_mode(FailureMode::Open);
    let agent = pool.add(absent).await.unwrap();
    let event = request("c-1", "/");
    let mut exchange = agent.exchange("c-2").unwrap();

    let expected = (AgentResponse::default_allow(), None);
    assert_eq!(agent.send("c-1", &event).timed().await.unwrap(), expected);
    assert_eq!(exchange.send(&event).timed().await.unwrap(), expected);
    assert_eq!(agent.stats().failed_open, 2);
}
