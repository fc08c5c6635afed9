//! The API of the crate `zentinel-agent-protocol` over [`tollgate`].
//!
//! For proxies that are written against [`zentinel-agent-protocol`] 0.6 and are to run on
//! tollgate's engine. The library has that crate's name and module paths, so a proxy changes a
//! line in its `Cargo.toml` and keeps its calls. New code uses [`tollgate`] itself, whose handles
//! of agents cost less than look-ups by name.
//!
//! ```toml
//! zentinel-agent-protocol = { package = "tollgate-zentinel", path = "crates/zentinel" }
//! ```
//!
//! ```no_run
//! # async fn example(
//! #     event: zentinel_agent_protocol::RequestHeadersEvent,
//! # ) -> Result<(), zentinel_agent_protocol::AgentProtocolError> {
//! use zentinel_agent_protocol::Decision;
//! use zentinel_agent_protocol::v2::AgentPool;
//!
//! let pool = AgentPool::new();
//! pool.add_agent("waf", "unix:/run/waf.sock").await?;
//! let response = pool.send_request_headers("waf", "correlation-123", &event).await?;
//! if let Decision::Block { status, .. } = response.decision {
//!     println!("blocked with {status}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What is here
//!
//! * [`v2::AgentPool`]: agents by name, a `send_*` method for each kind of event, sticky sessions,
//!   config pushes and metrics. [`AgentPool::tollgate`](v2::AgentPool::tollgate) is the pool below
//!   it, for everything that only tollgate has.
//! * [`v2::AgentClientV2Uds`]: a client of one agent on a Unix socket.
//! * The events, answers, capabilities and reports that the two carry. These are tollgate's own
//!   types.
//! * [`headers`]: header maps with fewer allocations, and views of header maps.
//!
//! # Differences
//!
//! * [`AgentProtocolError`] has other variants; those of calls are tollgate's and name the agent.
//! * The bodies of events and of [`BodyMutation`] are [`Bytes`], not base64 text.
//! * A pool connects again by itself, and removes expired pins and sessions, whether or not
//!   [`run_maintenance`](v2::AgentPool::run_maintenance) is called.
//! * [`ProtocolMetrics`](v2::ProtocolMetrics) counts what the pool does. It cannot be written to.
//!
//! # What is not here yet
//!
//! * The agent's side: `v2::server::AgentHandlerV2` and the servers. Agents use
//!   [`tollgate::AgentHandler`].
//! * `v2::AgentClientV2`, `v2::pool::V2Transport`, and reverse connections under `v2::reverse`.
//! * `v2::AgentPool::{add_reverse_connection, cleanup_expired_affinities}` and
//!   `v2::AgentPoolConfig::max_reconnect_attempts`.
//! * The modules `binary`, `buffer_pool`, `mmap_buffer` and `grpc_v2`, and the messages in
//!   `v2::uds`.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `grpc` | agents over gRPC |
//! | `binary-uds` | nothing: MessagePack is always built |
//! | `mmap-buffers` | nothing: there is no module `mmap_buffer` |
//!
//! [`zentinel-agent-protocol`]: https://crates.io/crates/zentinel-agent-protocol

#![warn(missing_docs)]

mod error;
pub mod headers;
pub mod v2;

pub use error::AgentProtocolError;
pub use tollgate::{
    AgentResponse, Bytes, Decision, EventType, HeaderOp, RequestHeadersEvent,
    events::{
        BinaryRequestBodyChunkEvent, BinaryResponseBodyChunkEvent, GuardrailInspectEvent,
        GuardrailInspectionType, RequestBodyChunkEvent, RequestCompleteEvent, RequestMetadata,
        ResponseBodyChunkEvent, ResponseHeadersEvent, WebSocketFrameEvent, WebSocketOpcode,
    },
    response::{
        AuditMetadata, BodyMutation, DetectionSeverity, GuardrailDetection, GuardrailResponse,
        TextSpan, WebSocketDecision,
    },
};
