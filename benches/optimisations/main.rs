//! Each optimisation that the published crate's performance roadmap claims: the old way beside the new.
//!
//! The new way is this library's own code. The old one is what the published crate does, or did before,
//! written anew with the same building blocks.

mod affinity;
mod agents;
#[path = "../common/mod.rs"]
mod common;
mod encodings;
mod headers;
mod health;
mod published;

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
