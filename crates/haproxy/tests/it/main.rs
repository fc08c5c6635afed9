//! Tests of the agent's side of SPOP, through the public API.

#![allow(clippy::unwrap_used, reason = "a test fails with the panic")]

mod allocations;
mod answers;
mod bad_input;
mod ends;
mod fairness;
mod foreign;
mod peer;
mod properties;
mod wire;
