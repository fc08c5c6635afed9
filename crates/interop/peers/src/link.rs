//! The clients of zentinel-agent-protocol: its connection pool, and the clients of a
//! single connection over Unix sockets and over gRPC. The pool does not support all
//! calls, and neither does the client over gRPC.

use crate::agent::grpc_address;
use crate::output;
use crate::script::{Call, Step};
use serde_json::{json, Value};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use zentinel_agent_protocol::v2::{
    AgentCapabilities, AgentClientV2, AgentClientV2Uds, AgentPool, AgentPoolConfig,
    ConfigUpdateCallback, ConfigUpdateResponse, MetricsCallback, ReverseConnectionConfig,
    ReverseConnectionListener, UdsEncoding,
};
use zentinel_agent_protocol::{AgentProtocolError, AgentResponse};

/// Name of the agent in the pool.
pub const AGENT: &str = "agent";

/// Shortest time that an agent gets to accept its settings.
const SETTINGS_LIMIT: Duration = Duration::from_secs(5);

/// Error of a call, as text for the output.
#[derive(Debug)]
pub struct Failure {
    pub error: String,
    pub kind: String,
}

impl Failure {
    /// The error for a call that the type does not support.
    fn unsupported(of: &str) -> Self {
        Self {
            error: format!("{of} has no such call"),
            kind: "Unsupported".to_owned(),
        }
    }
}

impl From<AgentProtocolError> for Failure {
    fn from(error: AgentProtocolError) -> Self {
        Self {
            error: error.to_string(),
            kind: format!("{error:?}"),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        AgentProtocolError::Serialization(error.to_string()).into()
    }
}

/// Runs a future of zentinel-agent-protocol with a timeout.
pub async fn within<T>(
    limit: Duration,
    work: impl std::future::Future<Output = Result<T, AgentProtocolError>>,
) -> Result<T, AgentProtocolError> {
    timeout(limit, work)
        .await
        .unwrap_or(Err(AgentProtocolError::Timeout(limit)))
}

/// Creates a pool with `connections` connections to the agent, which is given these
/// settings. Since 0.6.45 a pool without any connection is not an error; here it is, as
/// in 0.6.11.
pub async fn connect_pool(
    path: &Path,
    connections: usize,
    settings: Option<Value>,
    limit: Duration,
) -> Result<AgentPool, AgentProtocolError> {
    let pool = AgentPool::with_config(AgentPoolConfig {
        connections_per_agent: connections,
        connect_timeout: limit,
        request_timeout: limit,
        ..AgentPoolConfig::default()
    });
    let endpoint = match grpc_address(path) {
        Some(address) => format!("http://{address}"),
        None => format!("unix:{}", path.display()),
    };
    #[cfg(feature = "settings")]
    let added = pool.add_agent_with_config(AGENT, endpoint, settings);
    #[cfg(not(feature = "settings"))]
    let added = {
        no_settings(settings)?;
        pool.add_agent(AGENT, endpoint)
    };
    within(limit + SETTINGS_LIMIT, added).await?;
    match pool.agent_stats(AGENT).await {
        Some(stats) if stats.active_connections > 0 => Ok(pool),
        _ => Err(AgentProtocolError::ConnectionFailed(format!(
            "no connection to {}",
            path.display()
        ))),
    }
}

/// Fails if there are settings, because this build cannot give an agent any when it
/// connects.
#[cfg(not(feature = "settings"))]
fn no_settings(settings: Option<Value>) -> Result<(), AgentProtocolError> {
    match settings {
        None => Ok(()),
        Some(_) => Err(AgentProtocolError::InvalidMessage(
            "this build cannot give an agent settings when it connects".to_owned(),
        )),
    }
}

/// Creates a pool with an agent that registers as [`AGENT`].
pub async fn accept_agent(path: &Path, limit: Duration) -> Result<AgentPool, AgentProtocolError> {
    let pool = AgentPool::with_config(AgentPoolConfig {
        request_timeout: limit,
        ..AgentPoolConfig::default()
    });
    let config = ReverseConnectionConfig {
        request_timeout: limit,
        ..ReverseConnectionConfig::default()
    };
    let listener = ReverseConnectionListener::bind_uds(path, config).await?;
    within(limit, listener.accept_one(&pool)).await?;
    Ok(pool)
}

/// Opens a connection that prints the agent's unsolicited messages, as far as the client
/// passes them on. The agent is given these settings.
pub async fn connect_client(
    path: &Path,
    settings: Option<Value>,
    limit: Duration,
) -> Result<AgentClientV2Uds, AgentProtocolError> {
    let path = path.display().to_string();
    let mut client = AgentClientV2Uds::new(AGENT, path, limit).await?;
    client.set_metrics_callback(print_metrics());
    client.set_config_update_callback(print_config_updates());
    #[cfg(feature = "settings")]
    client.set_config(settings);
    #[cfg(not(feature = "settings"))]
    no_settings(settings)?;
    within(limit + SETTINGS_LIMIT, client.connect()).await?;
    Ok(client)
}

/// Like [`connect_client`], but over gRPC.
pub async fn connect_grpc_client(
    address: &str,
    settings: Option<Value>,
    limit: Duration,
) -> Result<AgentClientV2, AgentProtocolError> {
    let endpoint = format!("http://{address}");
    let mut client = within(limit, AgentClientV2::new(AGENT, endpoint, limit)).await?;
    client.set_metrics_callback(print_metrics());
    client.set_config_update_callback(print_config_updates());
    #[cfg(feature = "settings")]
    client.set_config(settings);
    #[cfg(not(feature = "settings"))]
    no_settings(settings)?;
    within(limit + SETTINGS_LIMIT, client.connect()).await?;
    Ok(client)
}

fn print_metrics() -> MetricsCallback {
    Arc::new(|report| {
        output::emit_or_exit(&json!({"push": "metrics_report", "value": report}));
    })
}

fn print_config_updates() -> ConfigUpdateCallback {
    Arc::new(|_, update| {
        output::emit_or_exit(&json!({"push": "config_update", "value": update}));
        ConfigUpdateResponse::success(update.request_id)
    })
}

/// Returns the encoding that the agent negotiates on a separate connection. The pool
/// does not provide it.
pub async fn probe_encoding(
    path: &Path,
    limit: Duration,
) -> Result<UdsEncoding, AgentProtocolError> {
    let client = connect_client(path, None, limit).await?;
    let encoding = client.encoding().await;
    client.close().await?;
    Ok(encoding)
}

/// A connected client.
pub enum Link {
    Pool(Box<AgentPool>),
    Client(Box<AgentClientV2Uds>),
    GrpcClient(Box<AgentClientV2>),
}

impl Link {
    /// Returns the agent's capabilities.
    pub async fn capabilities(&self) -> Option<AgentCapabilities> {
        match self {
            Self::Pool(pool) => pool.agent_capabilities(AGENT).await,
            Self::Client(client) => client.capabilities().await,
            Self::GrpcClient(client) => client.capabilities().await,
        }
    }

    /// Makes a call and returns its result.
    pub async fn make(&self, step: &Step) -> Result<Value, Failure> {
        match self {
            Self::Pool(pool) => through_pool(pool, step).await,
            Self::Client(client) => through_client(client, step).await,
            Self::GrpcClient(client) => through_grpc_client(client, step).await,
        }
    }

    /// Closes every connection, without waiting for calls that are not answered.
    pub async fn close(&self) -> Result<(), AgentProtocolError> {
        match self {
            Self::Pool(pool) => pool.remove_agent(AGENT).await,
            Self::Client(client) => client.close().await,
            Self::GrpcClient(client) => client.close().await,
        }
    }
}

async fn through_pool(pool: &AgentPool, step: &Step) -> Result<Value, Failure> {
    let id = step.id.as_str();
    let answer: Result<AgentResponse, _> = match &step.call {
        Call::RequestHeaders(event) => pool.send_request_headers(AGENT, id, event).await,
        Call::RequestBodyChunk(event) => pool.send_request_body_chunk(AGENT, id, event).await,
        Call::ResponseHeaders(event) => pool.send_response_headers(AGENT, id, event).await,
        Call::ResponseBodyChunk(event) => pool.send_response_body_chunk(AGENT, id, event).await,
        Call::GuardrailInspect(event) => pool.send_guardrail_inspect(AGENT, id, event).await,
        Call::CancelRequest(reason) => {
            pool.cancel_request(AGENT, id, *reason).await?;
            return Ok(Value::Null);
        }
        Call::RequestBodyChunkBinary(_)
        | Call::ResponseBodyChunkBinary(_)
        | Call::RequestComplete(_)
        | Call::WebSocketFrame(_)
        | Call::Configure(_)
        | Call::CancelAll(_)
        | Call::Ping => return Err(Failure::unsupported("AgentPool")),
    };
    Ok(serde_json::to_value(answer?)?)
}

async fn through_client(client: &AgentClientV2Uds, step: &Step) -> Result<Value, Failure> {
    let id = step.id.as_str();
    let answer: Result<AgentResponse, _> = match &step.call {
        Call::RequestHeaders(event) => client.send_request_headers(id, event).await,
        Call::RequestBodyChunk(event) => client.send_request_body_chunk(id, event).await,
        Call::RequestBodyChunkBinary(event) => client.send_request_body_chunk_binary(event).await,
        Call::ResponseHeaders(event) => client.send_response_headers(id, event).await,
        Call::ResponseBodyChunk(event) => client.send_response_body_chunk(id, event).await,
        Call::ResponseBodyChunkBinary(event) => client.send_response_body_chunk_binary(event).await,
        Call::RequestComplete(event) => client.send_request_complete(id, event).await,
        Call::WebSocketFrame(event) => client.send_websocket_frame(id, event).await,
        Call::GuardrailInspect(event) => client.send_guardrail_inspect(id, event).await,
        Call::Configure(config) => client.send_configure(id, config).await,
        Call::CancelRequest(reason) => {
            client.cancel_request(id, *reason).await?;
            return Ok(Value::Null);
        }
        Call::CancelAll(reason) => {
            let cancelled = client.cancel_all(*reason).await?;
            return Ok(json!({"cancelled": cancelled}));
        }
        Call::Ping => {
            client.ping().await?;
            return Ok(Value::Null);
        }
    };
    Ok(serde_json::to_value(answer?)?)
}

async fn through_grpc_client(client: &AgentClientV2, step: &Step) -> Result<Value, Failure> {
    let id = step.id.as_str();
    let answer: Result<AgentResponse, _> = match &step.call {
        Call::RequestHeaders(event) => client.send_request_headers(id, event).await,
        Call::RequestBodyChunk(event) => client.send_request_body_chunk(id, event).await,
        Call::ResponseHeaders(event) => client.send_response_headers(id, event).await,
        Call::ResponseBodyChunk(event) => client.send_response_body_chunk(id, event).await,
        Call::Configure(settings) => {
            let version = settings["config_version"].as_str().map(str::to_owned);
            let config = settings["config"].clone();
            client.send_configure(config, version).await?;
            // This call has no answer.
            return Ok(Value::Null);
        }
        Call::CancelRequest(reason) => {
            client.cancel_request(id, *reason).await?;
            return Ok(Value::Null);
        }
        Call::CancelAll(reason) => {
            let cancelled = client.cancel_all(*reason).await?;
            return Ok(json!({"cancelled": cancelled}));
        }
        Call::Ping => {
            client.ping().await?;
            return Ok(Value::Null);
        }
        Call::RequestBodyChunkBinary(_)
        | Call::ResponseBodyChunkBinary(_)
        | Call::RequestComplete(_)
        | Call::WebSocketFrame(_)
        | Call::GuardrailInspect(_) => return Err(Failure::unsupported("AgentClientV2")),
    };
    Ok(serde_json::to_value(answer?)?)
}
