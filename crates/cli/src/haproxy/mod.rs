//! HAProxy: agents that it asks, and commands that ask agents as it does.

mod agent;
mod answer;
mod load;
mod probe;
mod question;
mod send;

pub(crate) use agent::HaproxyOptions;
pub(crate) use load::drive;
pub(crate) use probe::probe;
pub(crate) use send::{Asked, send};

use crate::exit::AgentFailure;
use std::time::Duration;
use tokio::time::timeout;
use tollgate_haproxy::SpopEndpoint;
use tollgate_haproxy::client::{ClientError, SpopClient};

/// Connects to an agent, within a time limit.
async fn connect(endpoint: &str, time_limit: Duration) -> Result<SpopClient, AgentFailure> {
    let address = address(endpoint)?;
    within(endpoint, time_limit, SpopClient::connect(&address)).await
}

fn address(endpoint: &str) -> Result<SpopEndpoint, AgentFailure> {
    endpoint
        .parse()
        .map_err(|error| AgentFailure::new(endpoint, error))
}

/// Waits for an answer of the agent, within a time limit.
async fn within<T>(
    endpoint: &str,
    time_limit: Duration,
    answer: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, AgentFailure> {
    match timeout(time_limit, answer).await {
        Ok(answer) => answer.map_err(|error| AgentFailure::new(endpoint, error)),
        Err(_) => {
            let cause = format_args!("timed out after {time_limit:?}").to_string();
            Err(AgentFailure::new(endpoint, cause))
        }
    }
}
