//! Settings that a new connection begins with.

use super::cell::Outcome;
use super::column::Column;
use super::empty_pool;
use super::row::FirstSettings;
use super::running_agent::RunningAgent;
use crate::events;
use crate::peer::Version;
use crate::peer_client::{Via, run_client_with_settings};
use crate::pool_with_peer::AGENT;
use serde_json::{Value, json};
use std::path::Path;
use tollgate::{AgentConfig, error::AddError};

/// Step of the script that follows the settings.
const STEP: &str = "request_headers:/allow";

/// Returns the outcome of a connection that begins with settings.
pub(super) async fn outcome(column: &Column, case: FirstSettings) -> Outcome {
    let lacks_settings = |version: Version| !version.has_settings();
    if column.proxy.zentinel().is_some_and(lacks_settings) {
        return Outcome::CannotSend;
    }
    let agent = RunningAgent::start(column, |_| {}).await;
    let settings = settings(case);
    let is_used = match column.proxy.peer(column.wire) {
        None => is_used_by_pool(column, agent.socket(), &settings).await,
        Some(peer) => {
            let via = Via::Pool;
            let lines = run_client_with_settings(&peer, via, agent.socket(), &settings, STEP).await;
            Ok(lines[0]["ok"] == true)
        }
    };
    let records = agent.stop().await;
    let first = |event: &str| records.iter().position(|record| record.event == event);
    let (configured, asked) = (first("configure"), first("request_headers"));
    match (is_used, case) {
        (Err(error), _) => Outcome::Failed(error),
        (Ok(false), FirstSettings::Accepted) => {
            Outcome::Failed("the connection is not used".into())
        }
        (Ok(true), FirstSettings::Accepted) if asked.is_none() => Outcome::Lost,
        (_, _) if configured.is_none() => Outcome::NotReported,
        (Ok(true), FirstSettings::Accepted) if configured < asked => Outcome::Works,
        (Ok(false), FirstSettings::Rejected) if asked.is_none() => Outcome::Works,
        _ => Outcome::Ignored,
    }
}

fn settings(case: FirstSettings) -> Value {
    match case {
        FirstSettings::Accepted => json!({"mode": "strict"}),
        FirstSettings::Rejected => json!({"reject": true}),
    }
}

/// Returns whether the pool uses the connection and gets an answer there, or why it failed.
async fn is_used_by_pool(column: &Column, socket: &Path, settings: &Value) -> Result<bool, String> {
    let pool = empty_pool(column);
    let config = AgentConfig::new(AGENT, socket.display().to_string())
        .settings(settings.clone(), None)
        .require_connection();
    let agent = match pool.add(config).await {
        Ok(agent) => agent,
        Err(AddError::Connect { .. }) => return Ok(false),
        Err(error) => return Err(error.to_string()),
    };
    let event = events::request_headers("first", "/allow");
    match agent.send("first", &event).await {
        Ok(_) => Ok(true),
        Err(error) => Err(error.to_string()),
    }
}
