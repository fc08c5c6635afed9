//! A reverse proxy on Pingora that asks agents about every request through tollgate.
//!
//! [`proxy`] is what a proxy author wants to see: what is asked in which of Pingora's phases. [`agents`] keeps the
//! pool; [`server`] runs Pingora. The rest is there to try it out.

pub mod agents;
pub mod client;
pub mod config;
pub mod demo;
mod lent_head;
mod messages;
mod patience;
pub mod proxy;
pub mod request;
pub mod rules;
pub mod server;
pub mod upstream;
