//! Counts of what happened on the streams of Envoy.

use std::sync::atomic::{AtomicU64, Ordering};

/// Defines the counters and their snapshot.
macro_rules! counters {
    ($($(#[doc = $doc:expr])+ $name:ident,)+) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
        }

        /// Counts since the listener was made. Each only grows.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct EnvoyCounts {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            pub(crate) fn snapshot(&self) -> EnvoyCounts {
                EnvoyCounts {
                    $($name: self.$name.0.load(Ordering::Relaxed),)+
                }
            }
        }

        impl EnvoyCounts {
            /// Iterates over the names, meanings and values of all counts.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($doc),+).trim_ascii(), self.$name),)+]
                    .into_iter()
            }
        }
    };
}

counters! {
    /// Streams of ext_proc, each of which is an exchange.
    exchanges,
    /// Calls of ext_authz.
    checks,
    /// Requests and responses that the agent decided against.
    denials,
    /// Denials after the head of the response had gone on: the response broke off.
    late_denials,
    /// Denials that had no effect, since Envoy only observes (`observability_mode`).
    observed_denials,
    /// Messages that could not be decoded, or came in a phase where they mean nothing.
    undecodable,
    /// Messages and bodies above a limit.
    too_large,
    /// Streams that were refused, as there were too many or no memory was left.
    refused,
    /// Events that the handler panicked on.
    panics,
    /// Events that the handler did not answer in time, and bodies that it held for too long.
    timeouts,
    /// Changes that an agent asked for and that are not possible, so that the request failed.
    refused_changes,
    /// Bodies that ended before the agent had decided.
    undecided,
    /// Changes to response headers that had no effect, since Envoy does not send response headers.
    lost_response_changes,
    /// Exchanges that Envoy ended while the handler was working on them.
    cancelled,
    /// Messages about phases that the agent does not look at.
    unwanted_phases,
    /// Bodies of requests and responses that the agent looks at and Envoy does not send: they
    /// passed without being judged.
    unseen_bodies,
}

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
