//! Reverse connections: the listener for agents that dial the proxy, the rules for their
//! registration, and how their connections join the pool.

mod bind;
mod config;
mod connection_quota;
mod listener;
mod owner;
mod pattern;
mod peer;
mod rate_limit;
mod registration;
mod registration_policy;
mod socket;
mod tokens;

pub use config::ReverseConnectionConfig;
pub use listener::ReverseConnectionListener;
pub(super) use owner::Registration;
pub(super) use registration::GracePeriod;
