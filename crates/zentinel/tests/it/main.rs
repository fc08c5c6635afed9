//! The API of `zentinel-agent-protocol` with agents of tollgate and with agents that the tests play
//! byte by byte.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod client;
mod events;
mod headers;
#[path = "../../../../tests/common/message.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the core's tests")]
mod message;
mod pool;
#[path = "../../../../tests/common/raw.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the core's tests")]
mod raw;
mod recorder;
mod reverse;
mod roadmap;
mod servers;
mod sticky_sessions;
mod surface;

use std::path::Path;
use std::time::Duration;
use zentinel_agent_protocol::v2::{AgentPool, AgentPoolConfig};

/// Longer than any operation in the tests takes.
const TEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Asserts that a result is a certain error.
macro_rules! assert_fails {
    ($result:expr, $error:pat) => {
        let result = $result;
        assert!(matches!(result, Err($error)), "{result:?}");
    };
}
use assert_fails;

/// Returns a configuration with one connection.
fn one_connection() -> AgentPoolConfig {
    AgentPoolConfig {
        connections_per_agent: 1,
        ..AgentPoolConfig::default()
    }
}

/// Connects a pool to the agent at `path`, under the name "agent".
async fn pool_with(config: AgentPoolConfig, path: &Path) -> AgentPool {
    let pool = AgentPool::with_config(config);
    pool.add_agent("agent", path.to_str().unwrap())
        .await
        .unwrap();
    pool
}

/// Waits until a condition holds. Checks it every millisecond, up to [`TEST_TIMEOUT`].
async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let checked = tokio::time::timeout(TEST_TIMEOUT, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(checked.await.is_ok(), "never happened: {what}");
}
