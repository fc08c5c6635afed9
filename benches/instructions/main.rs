//! Counts the instructions of everything that a call runs. `scripts/bench-instructions` compares the figures with
//! their limits.
//!
//! Every benchmark does its operation [`OPERATIONS`] times, which the script divides by: seeds that
//! differ from run to run then make no difference that matters.

#![allow(unused_qualifications, reason = "in what the macros make")]

mod codecs;
#[path = "../common/mod.rs"]
mod common;
mod connections;
mod grpc;
mod pools;
mod texts;

use codecs::events::events;
use codecs::responses::responses;
use connections::connection_parts;
use grpc::over_grpc;
use iai_callgrind::main;
use pools::pool_parts;
use texts::request_texts;

/// What the figure of a benchmark is divided by.
pub(crate) const OPERATIONS: usize = 100;

main!(
    library_benchmark_groups = events,
    responses,
    connection_parts,
    pool_parts,
    over_grpc,
    request_texts
);
