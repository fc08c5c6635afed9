//! Tests of the agent's side of SPOP, through the public API.

mod wire;
