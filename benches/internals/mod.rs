//! Internals for benchmarks and for the tests of the codecs. Not part of the public API: it changes
//! without notice.
//!
//! Each part of the library includes one of these files as its module `bench`, so that no item has
//! to be visible to other modules for their sake.

pub use crate::connection::bench::{BoundExchange, IdleConnection, PendingCalls, Ring};
pub use crate::pool::bench::{AffinityMap, Chosen, InMemory, Registry, agent_name, choose};
pub use crate::pool::fixture::{Fixture, OpenCall, Pins};
#[cfg(feature = "codings")]
pub use crate::proxy::bench::{CODINGS, decode_body};
#[cfg(feature = "grpc")]
pub use crate::transport::grpc::bench::GrpcMessages;
pub use crate::wire::bench::{
    Control, FrameReceiver, Setup, SetupKind, decode_cancel, decode_pong, encode_answer_frame,
    encode_answer_frame_to, encode_cancel, encode_event_frame, encode_event_within, encode_ping,
    json_value, pong, time_left,
};

use crate::metrics::CallTally;

/// Call counters of one agent.
#[derive(Debug, Default)]
pub struct CallMetrics(CallTally);

impl CallMetrics {
    /// Counts a call and its answer.
    pub fn record(&self) {
        self.0.made();
        self.0.answered();
    }

    /// Returns the number of calls counted so far.
    pub fn made(&self) -> u64 {
        self.0.counts().made
    }
}
