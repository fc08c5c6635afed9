//! A reverse proxy on Pingora that asks agents about every request through tollgate.
//!
//! Proxy authors should start with [`proxy`]: it sends each event in the matching phase of Pingora.
//! [`agents`] holds the agents; [`server`] runs Pingora. The other modules are for trying it out.

#![warn(missing_docs)]

pub mod agents;
mod answer;
mod body_first;
pub mod client;
mod coarse_timer;
pub mod demo;
mod departure;
mod first_bytes;
mod header_swap;
mod messages;
pub mod proxy;
pub mod request;
pub mod rules;
pub mod server;
pub mod upstream;
mod websocket;
