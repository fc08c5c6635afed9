//! The server under attack, and the good agent of the pool under attack.

use crate::places::Places;
use crate::{Failure, child};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::time::sleep;
use tollgate::{AgentCapabilities, AgentHandler, AgentResponse, AgentServer, RequestHeadersView};

/// Id and token of the good agent where it dials.
pub(crate) const DIALED: &str = "dialed";
pub(crate) const TOKEN: &str = "attack";

/// Path of requests that are answered late.
pub(crate) const WAITING: &str = "/wait";

const WAIT: Duration = Duration::from_secs(2);

/// Memory that peers make a process hold at the end, and connections that were closed for it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) held: u64,
    pub(crate) closed: u64,
}

/// Serves with the default limits until the parent process asks to stop.
pub(crate) async fn serve_attacked(places: &Places) -> Result<(), Failure> {
    let mut server = AgentServer::builder(Handler);
    for endpoint in places.endpoints() {
        server = server.listen(endpoint);
    }
    let bound = server.bind().await?;
    let control = bound.control();
    println!("ready");
    let stop = async {
        child::stdin_closed().await;
        let memory = Memory {
            held: control.memory_used() as u64,
            closed: control.ended_for_memory(),
        };
        println!("{}", serde_json::json!(memory));
    };
    Ok(bound.serve_until(stop).await?)
}

/// Listens, and dials the pool under attack once that listens.
pub(crate) async fn serve_good(places: &Places) -> Result<(), Failure> {
    let server = AgentServer::builder(Handler)
        .listen(format!("unix:{}", places.good_agent))
        .agent_id(DIALED)
        .dial(format!("tcp://{}", places.pool))
        .token(TOKEN)
        .reconnect_interval(Duration::from_millis(100));
    let bound = server.bind().await?;
    println!("ready");
    Ok(bound.serve_until(child::stdin_closed()).await?)
}

struct Handler;

impl AgentHandler for Handler {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("attacked", "Allows everything", "1.0.0")
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        if event.uri == WAITING {
            sleep(WAIT).await;
        }
        AgentResponse::default_allow()
    }
}
