//! Runs the peers, helper programs based on `zentinel-agent-protocol`, so that tests can connect
//! tollgate to them over real sockets.
//!
//! The peers are in `crates/interop/peers`, one package with its own lock file for each version of
//! that crate. `scripts/interop-peers` builds them. `scripts/interop` builds all of them and runs
//! the tests against every version.
//!
//! * [`pairings`] lists the encodings and versions with which tollgate and a peer can connect.
//! * [`PoolWithPeer`] is tollgate's pool with a peer's agent, which reports each event it receives.
//! * [`RecordingServer`] is tollgate's agent server. [`run_client`] lets a peer's client make every
//!   kind of call to it.
//! * `matrix` (feature `grpc`) runs every message between all pairs of tollgate and the versions of
//!   `zentinel-agent-protocol`, and writes and compares the tables in docs/interop.md.
//! * [`script`] is the list of calls of the peers' client, which tollgate's pool can make as well.
//! * [`events`] creates the events of the peers' client with tollgate's types.

#![warn(missing_docs)]

mod answers;
pub mod events;
#[cfg(feature = "grpc")]
pub mod matrix;
mod pairing;
mod peer;
mod peer_agent;
mod peer_client;
mod pool_with_peer;
mod recorder;
mod script;

pub use answers::{BLOCKED_TEXT, blocked_by_body, rejected_settings, to_chunk, to_frame, to_uri};
pub use pairing::{Pairing, pairings, selected_versions};
pub use peer::{Peer, Version};
pub use peer_agent::{Logged, PeerAgent};
pub use peer_client::{ClientRun, Via, run_client, run_client_at_once, run_client_with_settings};
pub use pool_with_peer::{AGENT, PoolWithPeer, pool_config};
pub use recorder::{OnFirstEvent, RecordingDialer, RecordingServer};
pub use script::{CANCEL_REASONS, Call, Step, URIS, script};

use std::time::Duration;

/// Limit of each step of a test. No step that works takes as long.
pub const TIMEOUT: Duration = Duration::from_secs(15);
