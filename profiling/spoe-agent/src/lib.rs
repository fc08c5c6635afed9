//! The agent's side of SPOP 2.0, the protocol of HAProxy's SPOE: as little as a fair comparison
//! with tollgate needs.
//!
//! The agent decodes each message and allows every request whose method, path, headers and source
//! it got. It is for measurements alone: it has no limits beyond the size of a frame.

pub mod session;
mod wire;
