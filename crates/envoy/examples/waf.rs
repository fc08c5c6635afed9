//! An agent that looks at heads and bodies, behind Envoy:
//!
//! ```sh
//! cargo run -p tollgate-envoy --example waf
//! envoy -c crates/envoy/examples/waf.yaml
//! ```
//!
//! `waf.yaml` is what `tollgate config envoy --agent envoy://127.0.0.1:50061 --body duplex` prints,
//! so a body is held as long as the agent asks for more of it. `kubernetes` has manifests for Envoy
//! Gateway and Istio.

use tollgate::response::AuditMetadata;
use tollgate::{
    AgentCapabilities, AgentHandler, AgentResponse, AgentServer, BodyChunk, EventType,
    RequestHeadersView,
};
use tollgate_envoy::{EnvoyConfig, EnvoyListener};

struct Waf;

impl AgentHandler for Waf {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("waf", "Blocks attacks", "1.0.0")
            .with_event(EventType::RequestBodyChunk)
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        match event.path().starts_with("/admin") {
            true => block("admin"),
            false => AgentResponse::default_allow(),
        }
    }

    async fn on_request_body_chunk(&self, chunk: BodyChunk<'_>) -> AgentResponse {
        // A real one would also find a text that is split over two chunks.
        match chunk.data.windows(11).any(|text| text == b"' OR '1'='1") {
            true => block("sql-injection"),
            // Nothing reaches the upstream before the whole body was searched.
            false => AgentResponse::default_allow().set_needs_more(!chunk.is_last),
        }
    }
}

fn block(rule: &str) -> AgentResponse {
    AgentResponse::block(403, Some("blocked\n".to_owned())).with_audit(AuditMetadata {
        rule_ids: vec![rule.to_owned()],
        ..AuditMetadata::default()
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let envoy = EnvoyListener::bind("envoy://127.0.0.1:50061", EnvoyConfig::default()).await?;
    let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    AgentServer::builder(Waf)
        .listen_on(envoy)
        .serve_until(stop)
        .await?;
    Ok(())
}
