//! Agents that connect to the proxy: the listener, who may come in, and how their connections join the pool.

mod config;
mod gatekeeper;
mod joining;
mod listener;
mod log;
mod pace;
mod pattern;
mod peer;
mod places;
mod socket;
mod tokens;

pub use config::ReverseConnectionConfig;
pub(super) use joining::{Farewell, Standing};
pub use listener::ReverseConnectionListener;
