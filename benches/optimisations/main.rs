//! Compares each optimisation of the performance roadmap of `zentinel-agent-protocol` with its
//! alternative.
//!
//! The optimised variant is the code of tollgate. The alternative is a model of what
//! `zentinel-agent-protocol` does or did before, written with the same crates.

mod affinity;
mod agents;
#[path = "../common/mod.rs"]
mod common;
mod encodings;
mod headers;
mod health;
mod zentinel;

use criterion::{criterion_group, criterion_main};

criterion_group! {
    name = benches;
    config = common::brief();
    targets =
        agents::agent_lookup,
        agents::connection_choice,
        affinity::affinity,
        encodings::encodings,
        headers::headers,
        health::health
}
criterion_main!(benches);
