//! The settings file of the example proxies, and the chain of agents that it describes.
//!
//! [`Settings::load`] reads a file, and [`Settings::connect`] creates the
//! [`AgentChain`](tollgate::proxy::AgentChain) that a proxy asks about each request.
//! `examples/pingora-proxy/proxy.toml` explains every key.

#![warn(missing_docs)]

mod agents;
mod error;
mod settings;

pub use error::SettingsError;
pub use settings::{
    AgentSettings, BodyMode, Codings, Connections, FailureMode, Role, Settings, SharedMemory,
    WebSockets,
};
