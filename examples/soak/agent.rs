//! An agent that answers every event with its checksum, over any link.

use crate::account::{CHECKSUM, checksum};
use crate::common::addresses::Address;
use crate::descriptors::TakenDescriptors;
use crate::links::{Direction, Link, Transport};
use crate::{Failure, certificates};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::sleep;
use tollgate::{
    AgentCapabilities, AgentControl, AgentHandler, AgentResponse, AgentServer, BodyChunk,
    EventType, HeaderOp, RequestComplete, RequestHeadersView, ResponseHeadersView,
    control::{FlowControlAction, HealthStatus},
};

/// Number of connections between a pool and an agent.
pub(crate) const CONNECTIONS: usize = 4;

/// Token of agents that dial over TCP.
pub(crate) const TOKEN: &str = "soak";

/// Time that a silent peer has to answer a ping. Longer than the processes of a busy machine may
/// wait for a processor: no steady agent may lose a connection.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(12);

const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of events that this process has handled.
static HANDLED: AtomicU64 = AtomicU64::new(0);

/// Serves until standard input is closed, and executes the commands read from it. Prints at the end
/// how many events were handled.
pub(crate) async fn serve(
    directory: &Path,
    link: Link,
    id: &str,
    address: &Address,
) -> Result<(), Failure> {
    serve_over(directory, link, id, address).await?;
    println!("{}", HANDLED.load(Ordering::Relaxed));
    Ok(())
}

async fn serve_over(
    directory: &Path,
    link: Link,
    id: &str,
    address: &Address,
) -> Result<(), Failure> {
    let endpoint = link.endpoint(address);
    let server = AgentServer::builder(Echo).drain_timeout(DRAIN_TIMEOUT);
    if link.direction == Direction::Reverse {
        let mut dialer = server
            .agent_id(id)
            .dial(endpoint)
            .token(TOKEN)
            .dial_connections(CONNECTIONS)
            .reconnect_interval(Duration::from_millis(100))
            .keepalive(Duration::from_secs(1), PING_TIMEOUT);
        if link.transport == Transport::Tls {
            dialer = dialer.dial_tls(certificates::client(directory)?);
        }
        let control = dialer.control();
        tokio::spawn(announce_connection(control.clone()));
        return Ok(dialer.serve_until(execute_commands(control)).await?);
    }
    let mut server = server.listen(endpoint);
    if link.transport == Transport::Grpcs {
        server = server.tls(certificates::server(directory)?);
    }
    let bound = server.bind().await?;
    println!("ready");
    let control = bound.control();
    Ok(bound.serve_until(execute_commands(control)).await?)
}

/// Tells the parent process once the dialer has all of its connections.
async fn announce_connection(control: AgentControl) {
    while control.connections() < CONNECTIONS {
        sleep(Duration::from_millis(5)).await;
    }
    println!("ready");
}

async fn execute_commands(control: AgentControl) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut taken = None;
    while let Ok(Some(line)) = lines.next_line().await {
        match line.as_str() {
            "pause" => control.flow_control(FlowControlAction::Pause),
            "resume" => control.flow_control(FlowControlAction::Resume),
            "degraded" => control.report_health(HealthStatus::degraded("echo", Vec::new(), 2.0)),
            "healthy" => control.report_health(HealthStatus::healthy("echo")),
            "take-descriptors" => taken = Some(TakenDescriptors::take()),
            "release-descriptors" => {
                let released = taken
                    .take()
                    .map(|taken| taken.and_then(TakenDescriptors::release));
                if !matches!(released, Some(Ok(()))) {
                    panic!("descriptors were not taken and released: {released:?}");
                }
            }
            other => panic!("unknown command {other:?}"),
        }
    }
}

struct Echo;

fn count() {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

fn echo(correlation_id: &str, data: &[u8]) -> AgentResponse {
    AgentResponse::default_allow().add_request_header(HeaderOp::Set {
        name: CHECKSUM.to_owned(),
        value: format!("{:x}", checksum(correlation_id, data)),
    })
}

impl AgentHandler for Echo {
    fn capabilities(&self) -> AgentCapabilities {
        let capabilities = AgentCapabilities::new("echo", "Echoes checksums", "1.0.0");
        EventType::ALL
            .into_iter()
            .fold(capabilities, AgentCapabilities::with_event)
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        count();
        if let Some(delay) = event.uri.strip_prefix("/wait/") {
            tracing::info!(uri = event.uri, "waiting");
            let milliseconds = delay.parse().unwrap_or(0);
            sleep(Duration::from_millis(milliseconds)).await;
        }
        echo(event.metadata.correlation_id, event.uri.as_bytes())
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        count();
        echo(event.correlation_id, &event.data)
    }

    async fn on_response_headers(&self, event: ResponseHeadersView<'_>) -> AgentResponse {
        count();
        echo(event.correlation_id, &event.status.to_be_bytes())
    }

    async fn on_request_complete(&self, event: RequestComplete<'_>) -> AgentResponse {
        count();
        echo(event.correlation_id, &event.status.to_be_bytes())
    }
}
