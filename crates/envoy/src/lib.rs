//! Serves an [`AgentHandler`](tollgate::AgentHandler) to Envoy, and to Istio, Envoy Gateway and
//! others that are built on it: over ext_proc and ext_authz, on one port.
//!
//! The handler is the one that tollgate and Zentinel ask, and so are the limits and the drain of
//! the server. `docs/envoy.md` says what each of Envoy's modes can do, and `tollgate config envoy`
//! prints a configuration for Envoy.
//!
//! ```no_run
//! use tollgate::AgentServer;
//! use tollgate_envoy::{EnvoyConfig, EnvoyListener};
//!
//! # async fn example(
//! #     handler: impl tollgate::AgentHandler,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let envoy = EnvoyListener::bind("envoy://127.0.0.1:50061", EnvoyConfig::default()).await?;
//! AgentServer::builder(handler)
//!     .listen("/run/waf.sock")
//!     .listen_on(envoy)
//!     .serve()
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Fails closed
//!
//! A stream ends with status 0 only if everything that Envoy sent on it was judged; otherwise Envoy
//! would allow the rest. A handler that panics or takes too long, a message that cannot be decoded,
//! an answer that is not possible in its phase, and a lack of memory all fail the request: with a
//! response in place of the upstream's, or with an error, which Envoy answers with status 500
//! unless it is told to allow (`failure_mode_allow`).
//!
//! # Memory
//!
//! Each exchange, the messages that are not complete, and the bodies that are held are charged to
//! the [`max_memory`](tollgate::AgentServerBuilder::max_memory) of the server.

#![warn(missing_docs)]

mod agent;
mod buffered;
#[cfg(feature = "caller")]
pub mod caller;
mod client;
mod config;
mod connection;
mod counters;
mod endpoint;
mod exchange;
mod fold;
mod grpc;
mod listener;
mod service;
mod side;
mod wire;
mod workers;

pub use config::EnvoyConfig;
pub use counters::EnvoyCounts;
pub use endpoint::{EnvoyEndpoint, InvalidEnvoyEndpoint};
pub use listener::{EnvoyBindError, EnvoyCounters, EnvoyListener};
pub use wire::BodyMode;
