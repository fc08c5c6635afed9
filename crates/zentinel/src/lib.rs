//! The API of the crate `zentinel-agent-protocol` over [`tollgate`].
//!
//! For proxies and agents that are written against [`zentinel-agent-protocol`] 0.6 and are to run
//! on tollgate's engine. The library has that crate's name and module paths, so a proxy or agent
//! changes a line in its `Cargo.toml` and keeps its code. New code uses [`tollgate`] itself, whose
//! handles of agents cost less than look-ups by name.
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
//! Everything that 0.6.54 of that crate has: the events, answers and reports, [`v2::AgentPool`],
//! the clients [`v2::AgentClientV2Uds`] and [`v2::AgentClientV2`], the trait
//! [`v2::AgentHandlerV2`] with [`v2::UdsAgentServerV2`] and [`v2::GrpcAgentServerV2`], agents that
//! connect to the proxy ([`v2::reverse`]), config pushes and metrics. Calls go straight to
//! tollgate's handles: there is no second pool and no second accounting.
//! [`AgentPool::tollgate`](v2::AgentPool::tollgate) is the pool below it, for everything that only
//! tollgate has.
//!
//! Dependents of dependents, such as agents on `zentinel-agent-sdk`, name the published crate. The
//! package in `crates/zentinel/patch` has its name, for `[patch.crates-io]`. See docs/migration.md.
//!
//! # Differences
//!
//! * A pool connects again by itself, and removes expired pins and sessions, whether or not
//!   [`run_maintenance`](v2::AgentPool::run_maintenance) is called. It never gives up:
//!   `max_reconnect_attempts` is ignored.
//! * Guardrail inspections fail at once unless the agent declares that it answers them.
//! * The events of different requests do not wait for each other in an agent.
//! * A new server takes over a socket file without losing a request.
//! * `grpc_v2`, the generated messages, and `GrpcAgentServerV2::into_service` are missing.
//! * [`ProtocolMetrics`](v2::ProtocolMetrics) of a pool are what the pool counts. What is written
//!   to them is lost.
//! * `mmap_buffer` keeps large bodies in a file that is read, not mapped.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `binary-uds` | MessagePack in `v2::uds::UdsEncoding`; connections speak it in any case |
//! | `mmap-buffers` | the module `mmap_buffer` |
//! | `grpc` | nothing: agents over gRPC are always built |
//!
//! [`zentinel-agent-protocol`]: https://crates.io/crates/zentinel-agent-protocol

#![warn(missing_docs)]

mod base64;
pub mod binary;
pub mod buffer_pool;
mod error;
mod events;
pub mod headers;
#[cfg(feature = "mmap-buffers")]
pub mod mmap_buffer;
mod response;
pub mod v2;

pub use error::AgentProtocolError;
pub use events::{
    BinaryRequestBodyChunkEvent, BinaryResponseBodyChunkEvent, RequestBodyChunkEvent,
    ResponseBodyChunkEvent, WebSocketFrameEvent, WebSocketOpcode,
};
pub use response::{AgentResponse, BodyMutation};
pub use tollgate::{
    Bytes, Decision, EventType, HeaderOp, RequestHeadersEvent,
    events::{
        GuardrailInspectEvent, GuardrailInspectionType, RequestCompleteEvent, RequestMetadata,
        ResponseHeadersEvent,
    },
    response::{
        AuditMetadata, DetectionSeverity, GuardrailDetection, GuardrailResponse, TextSpan,
        WebSocketDecision,
    },
};

/// Largest message in bytes that the published crate accepts over gRPC.
pub const MAX_MESSAGE_SIZE: usize = 10 * 1024 * 1024;
