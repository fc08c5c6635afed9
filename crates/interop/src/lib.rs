//! Runs the peers, helper programs built on the published crate `zentinel-agent-protocol`, so that tests
//! can have tollgate talk to them over real sockets.
//!
//! The peers live in `crates/interop/peers`, one package with its own lock file for each version of that
//! crate. `scripts/interop-peers` builds them; `scripts/interop` builds them all and runs the tests
//! against every version.
//!
//! * [`pairings`] lists the ways in which tollgate and the selected peers can meet.
//! * [`Meeting`] is tollgate's pool with a peer's agent, which reports every event it is given.
//! * [`RecordingServer`] is tollgate's agent server; [`run_client`] has a peer's client ask it one of
//!   everything.
//! * `matrix` (feature `grpc`) runs every message between every two of tollgate and the published versions,
//!   and writes and compares the tables in docs/protocol.md.
//! * [`script`] is what the peers' client does, call by call; tollgate's pool can do the same.
//! * [`events`] makes what the peers' client sends, as tollgate's own types.

mod answers;
pub mod events;
#[cfg(feature = "grpc")]
pub mod matrix;
mod meeting;
mod pairing;
mod peer;
mod peer_agent;
mod peer_client;
mod recorder;
mod script;

pub use answers::{BLOCKED_TEXT, blocked_by_body, refused_settings, to_chunk, to_frame, to_uri};
pub use meeting::{AGENT, Meeting, pool_config};
pub use pairing::{Pairing, pairings, selected_versions};
pub use peer::{Peer, Version};
pub use peer_agent::{Logged, PeerAgent};
pub use peer_client::{ClientRun, Via, run_client, run_client_at_once};
pub use recorder::{FirstWords, RecordingDialer, RecordingServer};
pub use script::{CANCEL_REASONS, Call, Step, URIS, script};

use std::time::Duration;

/// Longer than anything that works takes, shorter than anybody would wait.
pub const PATIENCE: Duration = Duration::from_secs(15);
