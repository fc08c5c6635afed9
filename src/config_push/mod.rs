//! Settings on their way: from the proxy to agents, and requests of agents for changes.
//!
//! Nothing here knows how a message travels; the pool sends what is to be sent and says what came of it.

mod handler;
mod pusher;

pub use handler::ConfigUpdateHandler;
pub use pusher::{AgentConnection, ConfigPusher, ConfigPusherConfig, PushResult, PushStatus};
pub(crate) use pusher::{Delivery, Next};
