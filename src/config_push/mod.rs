//! Config updates: pushes from the proxy to agents, and config update requests from agents.
//!
//! This module does no I/O: it decides what is sent and when. The pool sends it and reports the
//! result.

mod handler;
mod pusher;

pub use handler::ConfigUpdateHandler;
pub use pusher::{AgentConnection, ConfigPusher, ConfigPusherConfig, PushResult, PushStatus};
pub(crate) use pusher::{Delivery, Next};
