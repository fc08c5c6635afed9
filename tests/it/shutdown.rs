//! Shutting a pool down: cancel-safe, safe to do twice at once, and the pool can be used again.

use crate::common::{RawAgent, RawConnection, arrived, config, expect_works, raw_pool, status_of};
use futures_util::FutureExt;
use std::pin::pin;
use tollgate::{AddError, AgentConfig, AgentPool, CallError as Error, Encoding};

/// Adds the agent again and plays its end of the handshake.
async fn add_again(pool: &AgentPool, agent: &RawAgent) -> RawConnection {
    let endpoint = agent.path.display().to_string();
    let (added, connection) = tokio::join!(
        pool.add(AgentConfig::new("agent", endpoint)),
        agent.accept_in(Encoding::Json)
    );
    added.unwrap();
    connection
}

#[tokio::test]
async fn dropped_shutdown_reopens_the_pool() {
    let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    let agent = pool.agent("agent").unwrap();
    let exchange = agent.exchange("c-1").unwrap();
    {
        let mut shutdown = pin!(pool.shutdown());
        assert!(shutdown.as_mut().now_or_never().is_none());
        assert_fails!(agent.exchange("c-2"), Error::Unavailable { .. });
    }

    assert_eq!(crate::common::agent_ids(&pool), ["agent"]);
    drop(agent.exchange("c-2").unwrap());
    drop(exchange);
    expect_works(&pool, &mut connection, "c-3").await;
}

#[tokio::test]
async fn pool_stays_closed_until_the_last_shutdown_ends() {
    let (agent, pool, connection) = raw_pool(config(Encoding::Json)).await;
    let exchange = pool.agent("agent").unwrap().exchange("c-1").unwrap();
    let mut first = pin!(pool.shutdown());
    let mut second = pin!(pool.shutdown());
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());

    drop(exchange);
    first.await;
    assert!(crate::common::agent_ids(&pool).is_empty());
    let endpoint = agent.path.display().to_string();
    assert_fails!(
        pool.add(AgentConfig::new("agent", endpoint)).await,
        AddError::ShuttingDown { .. }
    );

    drop(connection);
    second.await;
    let mut connection = add_again(&pool, &agent).await;
    expect_works(&pool, &mut connection, "c-2").await;
}

#[tokio::test]
async fn dropped_shutdown_leaves_a_concurrent_one_in_force() {
    let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    let exchange = pool.agent("agent").unwrap().exchange("c-1").unwrap();
    let mut lasting = pin!(pool.shutdown());
    assert!(lasting.as_mut().now_or_never().is_none());
    {
        let mut dropped = pin!(pool.shutdown());
        assert!(dropped.as_mut().now_or_never().is_none());
    }
    assert_fails!(
        pool.agent("agent").unwrap().exchange("c-2"),
        Error::Unavailable { .. }
    );

    drop(exchange);
    lasting.await;
    assert!(crate::common::agent_ids(&pool).is_empty());
    connection.expect_end().await;
}

#[tokio::test]
async fn no_agent_can_be_added_during_a_shutdown() {
    let (agent, pool, _connection) = raw_pool(config(Encoding::Json)).await;
    let exchange = pool.agent("agent").unwrap().exchange("c-1").unwrap();
    let mut shutdown = pin!(pool.shutdown());
    assert!(shutdown.as_mut().now_or_never().is_none());

    let endpoint = agent.path.display().to_string();
    for name in ["agent", "other"] {
        let config = AgentConfig::new(name, &*endpoint);
        for config in [config.clone(), config.require_connection()] {
            assert_fails!(pool.replace(config).await, AddError::ShuttingDown { .. });
        }
    }
    let other = AgentConfig::new("other", &*endpoint);
    assert_fails!(pool.add(other).await, AddError::ShuttingDown { .. });
    assert_eq!(crate::common::agent_ids(&pool), ["agent"]);

    drop(exchange);
    shutdown.await;
}

#[tokio::test]
async fn agent_that_connects_during_a_shutdown_is_not_added() {
    let (agent, pool, _connection) = raw_pool(config(Encoding::Json)).await;
    let exchange = pool.agent("agent").unwrap().exchange("c-1").unwrap();
    let endpoint = agent.path.display().to_string();
    let mut adding = pin!(pool.add(AgentConfig::new("other", endpoint)));
    assert!(adding.as_mut().now_or_never().is_none());
    let mut shutdown = pin!(pool.shutdown());
    assert!(shutdown.as_mut().now_or_never().is_none());

    let (added, mut other) = tokio::join!(adding, agent.accept_in(Encoding::Json));
    assert_fails!(added, AddError::ShuttingDown { .. });
    other.expect_end().await;
    assert_eq!(crate::common::agent_ids(&pool), ["agent"]);

    drop(exchange);
    shutdown.await;
}

#[tokio::test]
async fn pool_can_be_used_again_after_a_shutdown() {
    let (agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    for n in 0..3 {
        let pending = arrived(&pool, &mut connection, "c-1").await;
        tokio::join!(pool.shutdown(), async {
            connection.block("c-1", 418).await;
            connection.expect_end().await;
        });
        assert_eq!(status_of(pending).await, 418);
        assert!(crate::common::agent_ids(&pool).is_empty(), "round {n}");
        connection = add_again(&pool, &agent).await;
    }
    expect_works(&pool, &mut connection, "c-2").await;
}

#[tokio::test]
async fn shutdown_does_not_wait_for_pinned_exchanges() {
    let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    let call = arrived(&pool, &mut connection, "c-1").await;
    connection.allow("c-1").await;
    call.await.unwrap().unwrap();
    assert_eq!(crate::common::pins(&pool), 1);
    pool.shutdown().await;
    connection.expect_end().await;
}
