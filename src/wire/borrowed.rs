//! Events that an agent gets as they are: as views of the event that a proxy holds, not of a frame.

use super::borrowed_headers::BorrowedHeaders;
use super::decode::DecodeErrorKind;
use super::events::Event;
use super::frame::{FrameError, MAX_FRAME_LEN};
use super::incoming_event::IncomingEvent;
use super::value;
use super::views::HeadersView;

impl<'v> IncomingEvent<'v> {
    /// Returns an event as an agent sees it, with `correlation_id` instead of its own.
    ///
    /// # Errors
    ///
    /// An event that agents would not accept from a connection, because it is too large or its
    /// settings are too many or nested too deeply.
    pub(crate) fn borrowed<'e: 'v, E: Event>(
        event: &'e E,
        correlation_id: &'v str,
        headers: &'v mut BorrowedHeaders<'e>,
    ) -> Result<Self, NotAccepted> {
        event.headers(headers);
        let headers = &*headers;
        let view = Self::view_of(event, correlation_id, headers);
        view.check(event, headers)?;
        Ok(view)
    }

    /// Returns an event as [`borrowed`](Self::borrowed) does, unchecked. `headers` are its own.
    #[inline]
    pub(crate) fn view_of<'e: 'v, E: Event>(
        event: &'e E,
        correlation_id: &'v str,
        headers: &'v BorrowedHeaders<'e>,
    ) -> Self {
        event.view(correlation_id, HeadersView::borrowed(headers))
    }

    /// Checks that agents would accept the view of an event from a connection.
    pub(crate) fn check<E: Event>(
        &self,
        event: &E,
        headers: &BorrowedHeaders<'_>,
    ) -> Result<(), NotAccepted> {
        let id = self.correlation_id();
        let length = id.len() + headers.text_len() + event.body_len() + self.text_len();
        if length > MAX_FRAME_LEN {
            let limit = MAX_FRAME_LEN;
            return Err(FrameError::TooLarge { length, limit }.into());
        }
        if let Self::Configure(settings) = self {
            value::check_map(&settings.settings).map_err(NotAccepted::Settings)?;
        }
        Ok(())
    }

    /// Returns the bytes of the long texts that are neither headers nor a body.
    fn text_len(&self) -> usize {
        match self {
            Self::RequestHeaders(event) => event.method.len() + event.uri.len(),
            Self::GuardrailInspect(event) => {
                let pairs = event.metadata.iter();
                let metadata: usize = pairs.map(|(key, value)| key.len() + value.len()).sum();
                let categories: usize = event.categories.iter().map(|one| one.len()).sum();
                event.content.len() + metadata + categories
            }
            _ => 0,
        }
    }
}

/// Reason why an agent is not asked about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAccepted {
    #[error(transparent)]
    TooLarge(#[from] FrameError),
    #[error("invalid configure: {0}")]
    Settings(DecodeErrorKind),
}

#[cfg(test)]
#[path = "../../tests/unit/wire/borrowed.rs"]
mod tests;
