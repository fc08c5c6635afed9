//! An agent that allows every request after a delay.
//!
//! ```sh
//! cargo run -p tollgate-zentinel --example delayed_agent -- /tmp/agent.sock 20
//! ```
//!
//! It also builds with the published crate: `scripts/bench-zentinel` measures both.

use async_trait::async_trait;
use std::time::Duration;
use zentinel_agent_protocol::v2::{AgentCapabilities, AgentHandlerV2, UdsAgentServerV2};
use zentinel_agent_protocol::{AgentResponse, EventType, RequestHeadersEvent};

struct DelayedAgent {
    delay: Duration,
}

#[async_trait]
impl AgentHandlerV2 for DelayedAgent {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("delayed", "Delayed agent", "1.0.0")
            .with_event(EventType::RequestHeaders)
    }

    async fn on_request_headers(&self, _event: RequestHeadersEvent) -> AgentResponse {
        if !self.delay.is_zero() {
            tokio::time::sleep(self.delay).await;
        }
        AgentResponse::default_allow()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: delayed_agent SOCKET [MILLISECONDS]";
    let socket = arguments.next().ok_or(usage)?;
    let milliseconds = arguments.next().map_or(Ok(0), |word| word.parse())?;
    let delay = Duration::from_millis(milliseconds);
    let server = UdsAgentServerV2::new("delayed", socket, Box::new(DelayedAgent { delay }));
    Ok(server.run().await?)
}
