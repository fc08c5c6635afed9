//! An agent that connects to the proxy. zentinel-agent-protocol has the messages for
//! this, but no agent that sends them, so this module does.

use crate::agent::Recorder;
use crate::output;
use anyhow::{ensure, Context as _, Result};
use serde::de::DeserializeOwned;
use serde_json::{json, Value};
use std::path::PathBuf;
use tokio::net::UnixStream;
use zentinel_agent_protocol::v2::uds::{read_message, write_message};
use zentinel_agent_protocol::v2::{
    AgentHandlerV2, MessageType, RegistrationRequest, RegistrationResponse, PROTOCOL_VERSION_2,
};
use zentinel_agent_protocol::{
    AgentResponse, RequestBodyChunkEvent, RequestCompleteEvent, RequestHeadersEvent,
    ResponseBodyChunkEvent, ResponseHeadersEvent, WebSocketFrameEvent,
};

/// The command line of `dial`.
#[derive(clap::Args)]
pub struct Args {
    /// The socket that the proxy listens on.
    #[arg(long, value_name = "PATH")]
    connect: PathBuf,
    /// The token to register with.
    #[arg(long)]
    token: Option<String>,
    /// Block bodies that contain this.
    #[arg(long, value_name = "TEXT")]
    block_body: Option<String>,
}

/// Registers and answers until the proxy ends the connection.
pub async fn run(args: Args) -> Result<()> {
    let handler = Recorder::new(args.block_body);
    let stream = UnixStream::connect(&args.connect)
        .await
        .with_context(|| format!("cannot connect to {}", args.connect.display()))?;
    let (mut reader, mut writer) = stream.into_split();
    let request = RegistrationRequest {
        protocol_version: PROTOCOL_VERSION_2,
        agent_id: handler.capabilities().agent_id,
        capabilities: handler.capabilities().into(),
        auth_token: args.token,
        metadata: Some(json!({"zone": "test"})),
    };
    let payload = serde_json::to_vec(&request)?;
    write_message(&mut writer, MessageType::HandshakeRequest, &payload).await?;
    let (message, payload) = read_message(&mut reader).await?;
    ensure!(message == MessageType::HandshakeResponse, "{message:?}");
    let response: RegistrationResponse = serde_json::from_slice(&payload)?;
    ensure!(
        response.success,
        "the proxy rejected the registration: {:?}",
        response.error
    );
    output::emit(&json!({
        "ready": true,
        "path": args.connect,
        "version": env!("CARGO_PKG_VERSION"),
        "connection_id": response.connection_id,
    }))?;
    while let Ok((message, payload)) = read_message(&mut reader).await {
        if message == MessageType::Ping {
            write_message(&mut writer, MessageType::Pong, &payload).await?;
        } else if let Some((id, mut answer)) = answer(&handler, message, &payload).await? {
            answer
                .audit
                .custom
                .insert("correlation_id".to_owned(), Value::String(id));
            let payload = serde_json::to_vec(&answer)?;
            write_message(&mut writer, MessageType::AgentResponse, &payload).await?;
        }
    }
    Ok(())
}

/// Returns the correlation id of an event and its answer, or `None` if the message is
/// not an event.
async fn answer(
    handler: &Recorder,
    message: MessageType,
    payload: &[u8],
) -> Result<Option<(String, AgentResponse)>> {
    let answered = match message {
        MessageType::RequestHeaders => {
            let event: RequestHeadersEvent = read(payload)?;
            let id = event.metadata.correlation_id.clone();
            (id, handler.on_request_headers(event).await)
        }
        MessageType::RequestBodyChunk => {
            let event: RequestBodyChunkEvent = read(payload)?;
            let id = event.correlation_id.clone();
            (id, handler.on_request_body_chunk(event).await)
        }
        MessageType::ResponseHeaders => {
            let event: ResponseHeadersEvent = read(payload)?;
            let id = event.correlation_id.clone();
            (id, handler.on_response_headers(event).await)
        }
        MessageType::ResponseBodyChunk => {
            let event: ResponseBodyChunkEvent = read(payload)?;
            let id = event.correlation_id.clone();
            (id, handler.on_response_body_chunk(event).await)
        }
        MessageType::RequestComplete => {
            let event: RequestCompleteEvent = read(payload)?;
            let id = event.correlation_id.clone();
            (id, handler.on_request_complete(event).await)
        }
        MessageType::WebSocketFrame => {
            let event: WebSocketFrameEvent = read(payload)?;
            let id = event.correlation_id.clone();
            (id, handler.on_websocket_frame(event).await)
        }
        _ => return Ok(None),
    };
    Ok(Some(answered))
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> Result<T> {
    serde_json::from_slice(payload).context("an event does not decode")
}
