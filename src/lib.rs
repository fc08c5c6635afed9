//! An engine for asking external agents about every request of an HTTP proxy.
//!
//! A *proxy* links the pool to ask *agents* (web application firewall, authentication, rate limits,
//! custom logic) about each request. An *agent* links the server to answer. Both sides speak agent
//! protocol v2, so either may be replaced by another implementation of the protocol, such as
//! `zentinel-agent-protocol`.
//!
//! ```text
//!   client ──▶ proxy ─────────────────▶ upstream
//!                │ AgentPool
//!                │   events ▼ ▲ decisions        Unix socket, TCP, TLS or gRPC
//!                │ AgentServer
//!              agent (AgentHandler)
//! ```
//!
//! # A proxy
//!
//! An [`AgentPool`] holds connections to agents, and an [`Agent`] is a handle of one. An
//! [`Exchange`] is all calls to one agent about one HTTP request:
//!
//! ```no_run
#![doc = include_str!("../examples/proxy.rs")]
//! ```
//!
//! Once the connection is warm, with tollgate on both sides and in MessagePack, this code waits for
//! no lock and makes no heap allocation if the agent allows the request. Dropping the exchange
//! leaves nothing behind.
//!
//! The module `proxy` (feature `http`) does what every HTTP proxy does with the answers: it asks
//! several agents at once, merges their changes to headers and bodies, and makes HTTP responses
//! of denials and failures.
//!
//! # An agent
//!
//! An agent implements [`AgentHandler`] and serves it. Methods that it does not implement allow.
//!
//! ```no_run
#![doc = include_str!("../examples/agent.rs")]
//! ```
//!
//! The handler's events are views of the frame they arrived in. Header values are not copied, nor
//! are bodies, except where the encoding carries them in base64. A handler that waits delays only
//! later events of its own exchange.
//!
//! [`RequestHeaders::path`] is one path for all spellings of a resource, such as `//admin`,
//! `/x/../admin`, `/%61dmin` and `http://example.com/admin`. `uri` is what the client sent.
//!
//! # Exchanges
//!
//! * [`Agent::exchange`] chooses the connection that every event of the exchange takes.
//! * [`Exchange::send`] sends one event and waits for the answer.
//! * [`Exchange::push`] sends an event without waiting; [`Exchange::next_answer`] takes the answers
//!   in order. Body chunks sent this way do not wait for each other.
//! * Dropping an exchange with an unfinished body or a pending call tells the agent to forget it.
//!
//! Events have an owned form (`RequestHeadersEvent`) and a borrowed one ([`RequestHeaders`]). The
//! borrowed form takes header fields from slices, maps, an `http::HeaderMap` or any other
//! [`HeaderSource`]. Bodies are [`Bytes`] and are shared, not copied.
//!
//! For proxies whose phases share only an id, [`Agent::send`] finds the connection by correlation
//! id. It pins the id to a connection, which costs about one allocation per exchange
//! and an entry that is kept until the request is complete or the entry expires.
//!
//! # Failing closed and open
//!
//! A call ends with the agent's decision or with a [`CallError`], which names the agent
//! and says whether a retry may help.
//!
//! By default an agent *fails closed*: the proxy gets the error and decides what the client gets,
//! usually 503. With [`FailureMode::Open`] an unavailable agent counts as `allow`: one that is not
//! connected, out of slots, lost during the call, silent until the deadline, or kept off by the
//! circuit breaker. The pool counts each such call. An answer that does not decode is an error in
//! both modes; if not even the call that it answers can be read from it, that call ends at its
//! deadline.
//!
//! # Transports and endpoints
//!
//! | endpoint | transport | feature |
//! |---|---|---|
//! | `/run/waf.sock`, `unix:/run/waf.sock` | Unix socket | |
//! | `tcp://host:port` | TCP without encryption | |
//! | `grpc://host:port`, `http://host:port`, `host:port` | gRPC without TLS | `grpc` |
//! | `grpcs://host:port`, `https://host:port` | gRPC with TLS | `grpc` |
//! | `grpc+unix:///run/waf.sock` | gRPC over a Unix socket | `grpc` |
//!
//! An agent's server listens at the same endpoints and at some more, see
//! [`AgentServerBuilder::listen`]. Agents may also connect to the proxy, over Unix sockets, TCP or
//! (feature `tls`) TLS: see [`AgentServerBuilder::dial`] on the agent's side and
//! [`ReverseConnectionListener`] on the proxy's.
//!
//! # Features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `http` | yes | header fields from an `http::HeaderMap`, and the module `proxy` |
//! | `tls` | | TLS and mutual TLS, for agents that listen at `tls://` or connect to the proxy |
//! | `grpc` | | agents over gRPC, without or with TLS (includes `tls`) |
//! | `metrics` | | reports the pool's counters to the recorder of the `metrics` facade |
//!
//! # Limits
//!
//! Everything that a peer can cause is bounded. The most important defaults:
//!
//! | limit | default | setting |
//! |---|---|---|
//! | connections per agent | 4 | [`AgentPoolConfig::connections_per_agent`] |
//! | pending calls per connection | 100 | [`AgentPoolConfig::max_concurrent_per_connection`] |
//! | waiting calls, per agent and per connection | 1,024 | [`AgentPoolConfig::max_queued_calls`] |
//! | time per call | 30 s | [`AgentPoolConfig::request_timeout`] |
//! | pinned correlation ids | 100,000 | [`AgentPoolConfig::max_correlation_affinities`] |
//! | idle time of a pin | 5 min | [`AgentPoolConfig::correlation_affinity_ttl`] |
//! | frame | 16 MiB | |
//!
//! # Runtime
//!
//! The library needs a tokio runtime. Connections are served by the runtime that opened them, and
//! callers may be on any other. Several single-threaded runtimes, as in Pingora, may have
//! connections of their own: see [`Placement::PerRuntime`].
//!
//! # Compatibility
//!
//! * **Peers.** Works with agents and proxies built on `zentinel-agent-protocol` 0.6 over Unix
//!   sockets (MessagePack and JSON) and gRPC. Two peers that both use tollgate agree on an
//!   extension of the protocol during the handshake, which lets calls be matched by number and body
//!   chunks overlap.
//! * **Rust.** The minimum supported version is 1.89. It may be raised in a minor release.
//! * **Platforms.** Unix. Linux is what the tests run on.
//! * **Versions.** 0.1 is not yet published. Until 1.0 the API may change in every minor release.
//! * **Growth.** Configurations, errors, statistics and what the codec reads are
//!   `#[non_exhaustive]`: fields and variants are added in patch releases. Events, answers and
//!   control messages are what agent protocol v2 says, which does not change; they can be written
//!   as literals.
//!
//! # Types of other crates in the API
//!
//! A new major version of one of these crates is a breaking change of this one. `scripts/check-api`
//! compares the list with the API.
//!
//! | crate | types | where |
//! |---|---|---|
//! | `bytes` | `Bytes`, `BytesMut` | bodies, [`codec`] |
//! | `futures_core` | `BoxFuture` | [`DynAgentHandler`], [`listener::Listener`] |
//! | `http` | `HeaderMap`, `HeaderName`, `HeaderValue`, `Response`, `StatusCode` | feature `http` |
//! | `serde_core` | `Serialize`, `Deserialize` and their serializers | events, answers |
//! | `serde_json` | `Value`, `Map` | settings, custom fields |
//! | `tokio` | `TcpListener`, `TcpStream`, `ToSocketAddrs` | listeners |
//! | `tokio` | `UnixListener`, `UnixStream` | listeners |
//!
//! # Where to read on
//!
//! The repository has more documents: `docs/architecture.md` (how it works, with a glossary),
//! `docs/protocol.md` (the wire), `docs/operations.md` (failures, settings and counters) and
//! `PERFORMANCE.md` (figures, and the commands that produce them).

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(missing_docs)]

mod about_agents;
mod agent;
mod backoff;
#[cfg(feature = "__bench")]
#[doc(hidden)]
#[path = "../benches/internals/mod.rs"]
pub mod bench;
mod blocking;
mod clock;
pub mod config_push;
mod configuration;
mod connection;
mod count_guard;
mod debug_fields;
mod entropy;
pub mod error;
mod handler;
mod lock;
mod log;
mod memory;
pub mod metrics;
mod pool;
mod protocol;
#[cfg(feature = "http")]
pub mod proxy;
#[cfg(feature = "__sim")]
#[doc(hidden)]
#[path = "../tests/simulator/hooks/mod.rs"]
pub mod sim;
mod token_bucket;
mod transport;
mod wire;

pub use agent::{AgentControl, AgentServer, AgentServerBuilder};
pub use bytes::Bytes;
pub use connection::SharedMemory;
pub use error::{AddError, CallError, ConnectError};
pub use handler::{AgentHandler, DynAgentHandler, Handshake, handler_fn, time_left};
pub use pool::{
    Agent, AgentConfig, AgentPool, AgentPoolConfig, Call, EventTimeouts, Exchange, FailureMode,
    FlowControlMode, LoadBalanceStrategy, Placement, ReverseConnectionConfig,
    ReverseConnectionListener, TimedCall,
};
pub use protocol::events::{
    BodyChunk, Metadata, RequestBodyChunk, RequestComplete, RequestHeaders, RequestHeadersEvent,
    ResponseBodyChunk, ResponseHeaders,
};
pub use protocol::headers::{self, HeaderSource};
pub use protocol::{AgentCapabilities, AgentResponse, CancelReason, Decision, EventType, HeaderOp};
#[cfg(feature = "tls")]
pub use transport::tls::{TlsConfig, TlsServerConfig};
pub use wire::{Encoding, Event, HeadersView, RequestHeadersView, ResponseHeadersView};

/// Events that proxies send to agents, and the texts and times in them.
///
/// Most events have an owned form (`…Event`) and a borrowed one. [`Event`] lists all that can be
/// sent.
///
/// [`Event`]: crate::Event
pub mod events {
    pub use crate::protocol::events::{
        BinaryRequestBodyChunkEvent, BinaryResponseBodyChunkEvent, BodyChunk, Configure,
        GuardrailInspect, GuardrailInspectEvent, Metadata, RequestBodyChunk, RequestBodyChunkEvent,
        RequestComplete, RequestCompleteEvent, RequestHeaders, RequestHeadersEvent,
        RequestMetadata, ResponseBodyChunk, ResponseBodyChunkEvent, ResponseHeaders,
        ResponseHeadersEvent, WebSocketFrame, WebSocketFrameEvent, WebSocketOpcode, normal_path,
    };
    pub use crate::protocol::{GuardrailInspectionType, IpText, Timestamp, now_ms};
    pub use crate::wire::MAX_DEPTH;
}

/// Listeners of an [`AgentServer`], and sessions of other protocols.
///
/// A crate that serves an [`AgentHandler`] over another protocol implements
/// [`Listener`](listener::Listener) and asks the handler through
/// [`OtherSession`](listener::OtherSession), with the same events that a proxy sends.
pub mod listener {
    #[cfg(feature = "tls")]
    pub use crate::agent::TlsHandshake;
    pub use crate::agent::{
        Incoming, Listener, NotAsked, OtherSession, SessionMemory, StreamSocket,
    };
    pub use crate::memory::MemoryCharge;
    pub use crate::transport::{DataCounter, Stream};
}

/// Parts of an agent's answer beside its decision.
pub mod response {
    pub use crate::protocol::{
        AgentResponse, AuditMetadata, BodyMutation, Decision, DetectionSeverity,
        GuardrailDetection, GuardrailResponse, HeaderOp, TextSpan, WebSocketDecision,
    };
}

/// Messages about connections rather than requests: capabilities, health, flow control, settings,
/// metrics, logs, draining and shutdown.
pub mod control {
    pub use crate::pool::{NoticeError, Notices};
    pub use crate::protocol::{
        AgentCapabilities, AgentFeatures, AgentLimits, AgentNotice, CancelReason, CancelRequest,
        ConfigUpdateRequest, ConfigUpdateResponse, ConfigUpdateType, CounterMetric, DrainReason,
        DrainRequest, FlowControl, FlowControlAction, GaugeMetric, HealthConfig, HealthState,
        HealthStatus, HistogramBucket, HistogramMetric, LoadMetrics, LogLevel, LogMessage,
        MetricsReport, PROTOCOL_VERSION, Ping, ResourceMetrics, RuleDefinition, ShutdownReason,
        ShutdownRequest, standard,
    };
}

/// States and counters of a pool and its agents. [`metrics`] has the types of the counters in them.
pub mod stats {
    pub use crate::connection::{CircuitBreakerState, SharedMemoryRefusal};
    pub use crate::pool::{AgentPoolStats, ProtocolMetrics, SharedMemoryStats};
}

/// Encoding and decoding of single events and answers, for programs that carry them over a
/// protocol of their own.
///
/// ```
/// use tollgate::codec::{CallId, Codec, Decoder, IncomingEvent};
/// use tollgate::{AgentResponse, Bytes, Encoding, EventType};
/// use tollgate::{BodyChunk, RequestBodyChunk};
///
/// # fn example() -> Result<(), tollgate::codec::Undecodable> {
/// let codec = Codec::zentinel(Encoding::Json);
/// let call = CallId { correlation_id: "request-1", stream_id: 0 };
///
/// let chunk = BodyChunk::new("request-1", Bytes::from_static(b"abc"), 0, true);
/// let mut message = Vec::new();
/// let body = codec.encode_event(&RequestBodyChunk(chunk), call, &mut message);
/// message.extend_from_slice(&body);
///
/// let mut decoder = Decoder::new(Encoding::Json);
/// let message = message.as_slice().into();
/// let data = decoder.decode_event(EventType::RequestBodyChunk, message, |event| match event {
///     IncomingEvent::RequestBodyChunk(chunk) => chunk.data.clone(),
///     _ => unreachable!("the kind of event is given"),
/// })?;
/// assert_eq!(data, "abc");
///
/// let mut message = Vec::new();
/// codec.encode_answer(&AgentResponse::default_allow(), call, &mut message);
/// let message = message.as_slice().into();
/// let allows = decoder.decode_answer(message, |answer| {
///     assert_eq!(answer.correlation_id, Some("request-1"));
///     answer.response == AgentResponse::default_allow()
/// })?;
/// assert!(allows);
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
pub mod codec {
    pub use crate::wire::codec::{CallId, Codec, Decoder};
    pub use crate::wire::{Answer, IncomingEvent, Undecodable};
}

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
