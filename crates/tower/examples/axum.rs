//! An axum service behind a WAF agent.
//!
//! `cargo run --release -- agent --listen /tmp/waf.sock --block-path /admin` runs an agent, and
//! `cargo run -p tollgate-tower --example axum` the service, at <http://127.0.0.1:8080>.

use axum::extract::ConnectInfo;
use axum::{Router, routing::get};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tollgate::proxy::{AgentChain, BodyMode, ChainAgent};
use tollgate::{AgentConfig, AgentPool};
use tollgate_tower::{AgentLayer, Peer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = AgentPool::new();
    let waf = pool.add(AgentConfig::new("waf", "/tmp/waf.sock")).await?;
    let waf = ChainAgent::new(waf).request_body(BodyMode::InspectFirst);
    let chain = AgentChain::new(&pool).agent(waf);
    let layer = AgentLayer::new(chain).peer_from(|extensions| {
        let info = extensions.get::<ConnectInfo<SocketAddr>>()?;
        Some(Peer::new(info.0))
    });

    let service = Router::new()
        .route("/", get(async || "hello\n").post(async |body: String| body))
        .route("/admin", get(async || "nobody gets here\n"))
        .layer(layer);
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    let service = service.into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(listener, service).await?)
}
