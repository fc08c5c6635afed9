//! Tests against the Envoy that `scripts/setup` installs.

#![allow(clippy::unwrap_used, reason = "tests")]

mod agent;
mod bodies;
mod checks;
mod client;
mod descriptors;
mod examples;
mod failures;
mod heads;
mod hostile;
mod limits;
mod memory;
mod proxy;
mod transports;
mod tunnels;
mod upstream;
