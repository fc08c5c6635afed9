//! Reads a body in chunks of the size that agents prefer.

use crate::answer::BoxError;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use tollgate::proxy::remove_forbidden_trailers;

/// Chunks below this size are not split, however small the chunks are that agents prefer.
const MIN_CHUNK: usize = 1024;

/// Largest chunk. A message to an agent has to fit into a frame.
const MAX_CHUNK: usize = 1024 * 1024;

/// A body, in chunks that are gathered or split to about one size.
pub(crate) struct Source<B> {
    body: Pin<Box<B>>,
    size: usize,
    /// Bytes that were read and not returned. At most one of both is not empty.
    whole: Bytes,
    gathered: BytesMut,
    trailers: Option<HeaderMap>,
    is_ended: bool,
}

/// Removes forbidden trailers from a frame of a body that agents may see or not.
pub(crate) fn settle_trailers(frame: &mut Frame<Bytes>) {
    if let Some(trailers) = frame.trailers_mut() {
        remove_forbidden_trailers(trailers);
    }
}

/// Number of bytes that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Amount {
    /// The bytes that are there.
    Any,
    /// A chunk of the preferred size, or the rest of the body.
    Full,
}

/// A chunk of a body.
pub(crate) struct Chunk {
    pub(crate) data: Bytes,
    pub(crate) is_last: bool,
}

impl<B> Source<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    pub(crate) fn new(body: B, preferred: usize) -> Self {
        Self {
            is_ended: body.is_end_stream(),
            body: Box::pin(body),
            size: preferred.clamp(MIN_CHUNK, MAX_CHUNK),
            whole: Bytes::new(),
            gathered: BytesMut::new(),
            trailers: None,
        }
    }

    /// Returns the trailers, once the last chunk was returned.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// Returns the next chunk; must not be called after the last one. Small pieces are gathered.
    /// Loses nothing if it is dropped.
    pub(crate) async fn next(&mut self, amount: Amount) -> Result<Chunk, BoxError> {
        poll_fn(|cx| self.poll_next(amount, cx)).await
    }

    fn poll_next(&mut self, amount: Amount, cx: &mut Context<'_>) -> Poll<Result<Chunk, BoxError>> {
        while !self.is_ended && self.len() < self.size {
            let frame = match self.body.as_mut().poll_frame(cx) {
                Poll::Pending if self.len() > 0 && amount == Amount::Any => break,
                Poll::Pending => return Poll::Pending,
                Poll::Ready(frame) => frame.transpose().map_err(Into::into)?,
            };
            match frame.map(|frame| frame.into_data()) {
                None => self.is_ended = true,
                Some(Ok(data)) => {
                    self.gather(data);
                    self.is_ended = self.body.is_end_stream();
                }
                Some(Err(mut other)) => {
                    settle_trailers(&mut other);
                    self.trailers = other.into_trailers().ok();
                    self.is_ended = true;
                }
            }
        }
        Poll::Ready(Ok(self.take()))
    }

    fn len(&self) -> usize {
        self.whole.len() + self.gathered.len()
    }

    fn gather(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.whole = data;
            return;
        }
        if !self.whole.is_empty() {
            self.gathered.extend_from_slice(&self.whole);
            self.whole = Bytes::new();
        }
        self.gathered.extend_from_slice(&data);
    }

    fn take(&mut self) -> Chunk {
        if !self.gathered.is_empty() {
            self.whole = self.gathered.split().freeze();
        }
        let end = self.whole.len().min(self.size);
        let data = self.whole.split_to(end);
        Chunk {
            data,
            is_last: self.is_ended && self.whole.is_empty(),
        }
    }

    /// Returns what is left of the body.
    pub(crate) fn into_body(self) -> Pin<Box<B>> {
        self.body
    }

    /// Returns whether the body was read to its end.
    pub(crate) fn is_ended(&self) -> bool {
        self.is_ended
    }
}
