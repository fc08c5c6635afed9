//! Hooks for the simulator in `tests/simulator`. Not part of the public API: it changes without
//! notice.

pub use crate::agent::Simulated;
pub use crate::clock::simulated as clock;
pub use crate::connection::simulated::{ConnectionView, connections, reset, take_overtaken};
pub use crate::pool::simulated::{AgentView, agents, pins};
pub use crate::transport::simulated::{Connecting, Listener, Stream, Writer, set_connector};
