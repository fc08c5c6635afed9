//! `zentinel-agent-protocol` as a subject of `scripts/bench-peers`: its pool as a proxy uses it,
//! and a trivial agent.
//!
//! A caller reuses its event and changes only the ids, so that building events is not measured. A
//! body is put into a new event for each call: a proxy has bytes, and this API takes text.

use crate::encoding::Agreed;
use crate::link::{connect_pool, probe_encoding, AGENT};
use anyhow::{ensure, Context as _, Result};
use async_trait::async_trait;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tollgate_load_driver::traffic::{self, Traffic};
use tollgate_load_driver::{Caller, Proxy, Role, Subject, CONNECTIONS};
use zentinel_agent_protocol::v2::{
    AgentCapabilities, AgentFeatures, AgentHandlerV2, AgentPool, GrpcAgentServerV2,
    UdsAgentServerV2,
};
use zentinel_agent_protocol::{
    AgentResponse, BinaryRequestBodyChunkEvent, Decision, EventType, RequestBodyChunkEvent,
    RequestHeadersEvent, RequestMetadata,
};

/// Timeout for connecting and for each answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Executes a role of a measurement over Unix sockets.
pub async fn run(role: Role) -> Result<()> {
    tollgate_load_driver::run(role, Zentinel, &["bench"]).await
}

/// Executes a role of a measurement over gRPC.
pub async fn run_grpc(role: Role) -> Result<()> {
    tollgate_load_driver::run(role, ZentinelGrpc, &["bench-grpc"]).await
}

struct Zentinel;

impl Subject for Zentinel {
    type Proxy = ConnectedPool;
    type Address = PathBuf;

    async fn serve(&self, socket: PathBuf) -> Result<()> {
        UdsAgentServerV2::new("allow-all", &socket, Box::new(AllowAll))
            .run()
            .await
            .with_context(|| format!("cannot listen on {}", socket.display()))
    }

    async fn connect(&self, socket: &PathBuf, traffic: &Traffic) -> Result<ConnectedPool> {
        let encoding = probe_encoding(socket, TIMEOUT).await?;
        ConnectedPool::open(socket, Agreed::Of(encoding).name(), traffic).await
    }
}

struct ZentinelGrpc;

impl Subject for ZentinelGrpc {
    type Proxy = ConnectedPool;
    type Address = SocketAddr;

    async fn serve(&self, address: SocketAddr) -> Result<()> {
        GrpcAgentServerV2::new("allow-all", Box::new(AllowAll))
            .run(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))
    }

    async fn connect(&self, address: &SocketAddr, traffic: &Traffic) -> Result<ConnectedPool> {
        let endpoint = format!("grpc://{address}");
        ConnectedPool::open(Path::new(&endpoint), Agreed::Protobuf.name(), traffic).await
    }
}

/// Uses the handler's defaults, which allow every event.
struct AllowAll;

#[async_trait]
impl AgentHandlerV2 for AllowAll {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new(
            "allow-all",
            env!("CARGO_PKG_NAME"),
            env!("CARGO_PKG_VERSION"),
        )
        .with_event(EventType::RequestHeaders)
        .with_event(EventType::RequestBodyChunk)
        .with_features(AgentFeatures::full())
    }
}

struct ConnectedPool {
    pool: Arc<AgentPool>,
    encoding: &'static str,
    traffic: Traffic,
}

impl ConnectedPool {
    async fn open(path: &Path, encoding: &'static str, traffic: &Traffic) -> Result<Self> {
        Ok(Self {
            pool: Arc::new(connect_pool(path, CONNECTIONS, None, TIMEOUT).await?),
            encoding,
            traffic: traffic.clone(),
        })
    }
}

impl Proxy for ConnectedPool {
    type Caller = PoolCaller;

    fn encoding(&self) -> &'static str {
        self.encoding
    }

    fn caller(&self, _number: usize) -> PoolCaller {
        PoolCaller {
            pool: Arc::clone(&self.pool),
            head: head(),
            traffic: self.traffic.clone(),
        }
    }
}

struct PoolCaller {
    pool: Arc<AgentPool>,
    head: RequestHeadersEvent,
    traffic: Traffic,
}

impl Caller for PoolCaller {
    async fn call(&mut self, id: &str) -> Result<()> {
        let outcome = self.exchange(id).await;
        // As a proxy does at the end of a request. The pool would keep the entry otherwise.
        self.pool.clear_correlation_affinity(id);
        outcome
    }
}

impl PoolCaller {
    async fn exchange(&mut self, id: &str) -> Result<()> {
        for name in [
            &mut self.head.metadata.correlation_id,
            &mut self.head.metadata.request_id,
        ] {
            name.clear();
            name.push_str(id);
        }
        let pool = &self.pool;
        allowed(pool.send_request_headers(AGENT, id, &self.head).await?)?;
        if let Some(chunk) = self.chunk(id) {
            allowed(pool.send_request_body_chunk(AGENT, id, &chunk).await?)?;
        }
        Ok(())
    }

    fn chunk(&self, id: &str) -> Option<RequestBodyChunkEvent> {
        let data = self.traffic.body.clone()?;
        let size = data.len();
        let chunk = BinaryRequestBodyChunkEvent {
            correlation_id: id.to_owned(),
            data,
            is_last: true,
            total_size: Some(size),
            chunk_index: 0,
            bytes_received: size,
        };
        Some(chunk.into())
    }
}

fn allowed(answer: AgentResponse) -> Result<()> {
    ensure!(
        matches!(answer.decision, Decision::Allow),
        "the answer is not an allow"
    );
    Ok(())
}

fn head() -> RequestHeadersEvent {
    RequestHeadersEvent {
        metadata: RequestMetadata {
            correlation_id: String::new(),
            request_id: String::new(),
            client_ip: traffic::CLIENT_IP.to_owned(),
            client_port: traffic::CLIENT_PORT,
            server_name: Some(traffic::SERVER_NAME.to_owned()),
            protocol: traffic::PROTOCOL.to_owned(),
            tls_version: Some(traffic::TLS_VERSION.to_owned()),
            tls_cipher: Some(traffic::TLS_CIPHER.to_owned()),
            route_id: Some(traffic::ROUTE_ID.to_owned()),
            upstream_id: None,
            timestamp: traffic::TIMESTAMP.to_owned(),
            traceparent: None,
        },
        method: traffic::METHOD.to_owned(),
        uri: traffic::URI.to_owned(),
        headers: traffic::header_map(),
    }
}
