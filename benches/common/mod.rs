//! Code shared by the benchmarks.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each benchmark uses part of this module"
)]

mod agent;
mod events;
mod responses;
mod timing;

pub use agent::{Allowing, SocketAgent, idle_connection};
pub use events::{CORRELATION_ID, Pairs, Sample, hyper_request_headers, request_headers};
pub use responses::Answer;
pub use timing::{alone_and_beside_another, beside_writer, brief};
