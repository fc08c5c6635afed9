//! Sends events to an agent in this process and writes all allocations as dhat's JSON:
//! `heap_profile EVENTS FILE`.

use std::error::Error;
use tollgate::{
    Agent, AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentResponse, AgentServer,
    BodyChunk, Bytes, HeaderOp, Metadata, RequestBodyChunk, RequestHeaders, RequestHeadersView,
};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Events sent before counting starts.
const WARM_UP: u64 = 1_000;

/// Blocks some, changes the headers of others, and allows the rest.
struct Rules;

impl AgentHandler for Rules {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("rules", "Rules", "1")
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        match event.uri {
            "/block" => AgentResponse::block(403, Some("no".to_owned())),
            "/headers" => AgentResponse::default_allow().add_request_header(HeaderOp::Set {
                name: "x-user".to_owned(),
                value: "42".to_owned(),
            }),
            _ => AgentResponse::default_allow(),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [events, file] = arguments.as_slice() else {
        return Err("usage: heap_profile EVENTS FILE".into());
    };
    let events: u64 = events.parse()?;
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("agent.sock");
    let agent = AgentServer::builder(Rules)
        .listen(socket.display().to_string())
        .bind()
        .await?;
    tokio::spawn(agent.serve_until(std::future::pending()));
    let pool = AgentPool::new();
    let agent = AgentConfig::new("agent", socket.display().to_string()).require_connection();
    let agent = pool.add(agent).await?;

    send_events(&agent, WARM_UP).await?;
    let profiler = dhat::Profiler::builder()
        .file_name(file)
        .trim_backtraces(Some(16))
        .build();
    send_events(&agent, events).await?;
    drop(profiler);
    Ok(())
}

/// Sends events. Of each ten, two are body chunks, one is blocked, and one gets a header.
async fn send_events(agent: &Agent, events: u64) -> Result<(), tollgate::CallError> {
    let headers = [("host", "example.com"), ("accept", "text/html")];
    let body = Bytes::from_static(&[b'x'; 4096]);
    let chunk = RequestBodyChunk(BodyChunk::new("exchange", body, 0, true));
    for n in 0..events {
        let mut exchange = agent.exchange("exchange")?;
        let uri = match n % 10 {
            0 | 1 => {
                exchange.send(&chunk).await?;
                continue;
            }
            2 => "/block",
            3 => "/headers",
            _ => "/",
        };
        let head = RequestHeaders {
            metadata: Metadata::default(),
            method: "GET",
            uri,
            headers: &headers[..],
        };
        exchange.send(&head).await?;
    }
    Ok(())
}
