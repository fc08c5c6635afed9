//! The agent as one connection of Envoy sees it.

use crate::buffered::Buffered;
use crate::config::EnvoyConfig;
use crate::counters::Counters;
use crate::side::Side;
use crate::wire::ModeOverride;
use bytes::Bytes;
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tollgate::EventType;
use tollgate::listener::OtherSession;

/// Settings and counts that all connections of a listener share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: EnvoyConfig,
    pub(crate) counters: Counters,
    /// Exchanges that are served.
    exchanges: AtomicUsize,
    /// Warnings that were given, as bits.
    warned: AtomicU64,
}

impl Shared {
    pub(crate) fn new(config: EnvoyConfig) -> Self {
        Self {
            config,
            counters: Counters::default(),
            exchanges: AtomicUsize::new(0),
            warned: AtomicU64::new(0),
        }
    }

    /// Takes a place for an exchange; `None` if there are too many.
    pub(crate) fn enter(&self) -> Option<Place<'_>> {
        let before = self.exchanges.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.exchanges);
        (before < self.config.max_exchanges).then_some(place)
    }
}

/// Something that whoever runs the agent has to know. It is logged once for each listener: it goes
/// on with every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Warning {
    LostChange,
    UnwantedPhase,
    ImpossibleChange,
    UnseenBody,
}

impl Warning {
    fn text(self) -> &'static str {
        match self {
            Self::LostChange => {
                "Envoy does not send response headers, so an agent's changes to them are lost; set \
                 response_header_mode to SEND, or allow_mode_override"
            }
            Self::UnwantedPhase => {
                "Envoy sends response headers, which the agent does not look at; set \
                 allow_mode_override, or response_header_mode to SKIP"
            }
            Self::ImpossibleChange => {
                "the agent asks for a change that is not possible, so the request fails; the log \
                 has details at level debug"
            }
            Self::UnseenBody => {
                "Envoy does not send bodies, which the agent looks at, so they pass without being \
                 judged; set request_body_mode and response_body_mode"
            }
        }
    }
}

/// Place of an exchange, which is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place<'s>(&'s AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The agent, and the settings of the listener.
pub(crate) struct Agent {
    pub(crate) session: OtherSession,
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: Subscriptions,
    /// Size of the largest body in bytes.
    pub(crate) max_body: usize,
    pub(crate) is_stopping: AtomicBool,
    pub(crate) buffered: Arc<Buffered>,
    /// Answers that change nothing but the modes.
    pub(crate) override_frames: OverrideFrames,
    ids: Ids,
}

/// Events that the agent subscribes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subscriptions {
    pub(crate) request_headers: bool,
    pub(crate) request_body: bool,
    pub(crate) response_headers: bool,
    pub(crate) response_body: bool,
    pub(crate) complete: bool,
}

impl Agent {
    pub(crate) fn new(session: OtherSession, shared: Arc<Shared>, buffered: Arc<Buffered>) -> Self {
        let capabilities = session.capabilities();
        let is_on = |event| capabilities.supports_event(event);
        let max_body = match capabilities.limits.max_body_size {
            0 => usize::MAX,
            bytes => bytes,
        };
        Self {
            events: Subscriptions {
                request_headers: is_on(EventType::RequestHeaders),
                request_body: is_on(EventType::RequestBodyChunk),
                response_headers: is_on(EventType::ResponseHeaders),
                response_body: is_on(EventType::ResponseBodyChunk),
                complete: is_on(EventType::RequestComplete),
            },
            max_body,
            session,
            shared,
            is_stopping: AtomicBool::new(false),
            buffered,
            override_frames: OverrideFrames::default(),
            ids: Ids::new(),
        }
    }

    pub(crate) fn config(&self) -> &EnvoyConfig {
        &self.shared.config
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Returns whether the server takes no new exchanges.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Logs a warning, if it was not logged before.
    pub(crate) fn warn_once(&self, warning: Warning) {
        let bit = 1 << warning as u64;
        if self.shared.warned.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            tracing::warn!("{}", warning.text());
        }
    }

    /// Returns an id for an exchange.
    pub(crate) fn next_id(&self) -> Id {
        self.ids.next()
    }
}

/// Frames that are the same for most exchanges, by what they say. They are encoded once.
#[derive(Debug, Default)]
pub(crate) struct OverrideFrames([OnceLock<(Side, ModeOverride, Bytes)>; 8]);

impl OverrideFrames {
    /// Returns the frame for these modes.
    pub(crate) fn get(&self, side: Side, modes: ModeOverride, write: impl Fn() -> Bytes) -> Bytes {
        for place in &self.0 {
            let (of_side, of_modes, frame) = place.get_or_init(|| (side, modes, write()));
            if (*of_side, *of_modes) == (side, modes) {
                return frame.clone();
            }
        }
        write()
    }
}

/// Source of correlation ids. They are not taken from requests, as clients choose those.
#[derive(Debug)]
struct Ids {
    connection: u64,
    next: AtomicU64,
}

impl Ids {
    fn new() -> Self {
        Self {
            // The seed of the standard library's hash maps, which is random.
            connection: RandomState::new().hash_one(0),
            next: AtomicU64::new(0),
        }
    }

    fn next(&self) -> Id {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut id = Id {
            text: [0; Id::LEN],
            len: 0,
        };
        // The text has room for both numbers.
        let _ = write!(id, "{:016x}-{number:x}", self.connection);
        id
    }
}

/// Correlation id, without an allocation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Id {
    text: [u8; Self::LEN],
    len: usize,
}

impl Id {
    /// Length of two numbers in hexadecimal form and what is between them.
    const LEN: usize = 16 + 1 + 16;

    pub(crate) fn as_str(&self) -> &str {
        // Only whole texts are written.
        std::str::from_utf8(&self.text[..self.len]).unwrap_or_default()
    }
}

impl Write for Id {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        let place = self.text.get_mut(self.len..end).ok_or(std::fmt::Error)?;
        place.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        let ids = Ids::new();
        let (first, second) = (ids.next(), ids.next());
        assert_ne!(first.as_str(), second.as_str());
        assert_eq!(first.as_str().len(), 18);
        ids.next.store(u64::MAX, Ordering::Relaxed);
        assert!(ids.next().as_str().ends_with("-ffffffffffffffff"));
    }
}
