//! The body of a request as the service gets it.

use crate::answer::BoxError;
use crate::exchange::{Handle, Shared};
use crate::pipe::{Broken, Frames, Pipe, discard};
use crate::source::settle_trailers;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tollgate::CancelReason;

pin_project! {
    /// Body of a request, as far as agents have let it go.
    pub struct RequestBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B> {
        /// No agent sees the body.
        Plain { #[pin] body: B, counter: Option<Counter> },
        /// The whole body was judged.
        Whole { data: Option<Bytes>, trailers: Option<HeaderMap> },
        /// The body is being judged. `first` comes before `rest`.
        Judged { first: Option<Bytes>, rest: Frames },
    }
}

/// Number of bytes that a body had.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter(Arc<AtomicUsize>);

impl Counter {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl<B> RequestBody<B> {
    pub(crate) fn plain(body: B, counter: Option<Counter>) -> Self {
        Self {
            kind: Kind::Plain { body, counter },
        }
    }

    pub(crate) fn whole(data: Option<Bytes>, trailers: Option<HeaderMap>) -> Self {
        Self {
            kind: Kind::Whole { data, trailers },
        }
    }
}

impl<B> RequestBody<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    /// Creates a body whose rest is still judged.
    pub(crate) fn judged(first: Option<Bytes>, mut pipe: Pipe<B>, shared: Shared) -> Self {
        let rest = Frames::new(|sender| async move {
            loop {
                match pipe.next().await {
                    Ok(Some(data)) => sender.data(data).await,
                    Ok(None) => break sender.trailers(pipe.take_trailers()).await,
                    Err(Broken::Rejected(rejection)) => {
                        shared.reject(rejection);
                        let (_, rest) = pipe.into_rest();
                        discard(rest);
                        break sender.not_allowed().await;
                    }
                    Err(Broken::Sender(error)) => {
                        let (handle, _) = pipe.into_rest();
                        cancel(handle);
                        // The service fails, but not by its own fault.
                        shared.break_off();
                        break sender.fail(error).await;
                    }
                }
            }
        });
        Self {
            kind: Kind::Judged { first, rest },
        }
    }
}

/// Tells the agents that the client has broken off the request.
pub(crate) fn cancel(handle: Handle) {
    handle.end(|transaction| transaction.cancel(CancelReason::ClientDisconnect));
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().kind.project() {
            KindProjection::Plain { body, counter } => {
                let mut frame = body.poll_frame(cx);
                if let Poll::Ready(Some(Ok(frame))) = &mut frame {
                    settle_trailers(frame);
                    let len = frame.data_ref().map_or(0, Bytes::len);
                    if let Some(counter) = counter {
                        counter.0.fetch_add(len, Ordering::Relaxed);
                    }
                }
                frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            KindProjection::Whole { data, trailers } => {
                let data = data.take().map(Frame::data);
                let frame = data.or_else(|| trailers.take().map(Frame::trailers));
                Poll::Ready(frame.map(Ok))
            }
            KindProjection::Judged { first, rest } => match first.take() {
                Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
                None => rest.poll_frame(cx),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Plain { body, .. } => body.is_end_stream(),
            Kind::Whole { data, trailers } => data.is_none() && trailers.is_none(),
            Kind::Judged { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Plain { body, .. } => body.size_hint(),
            // HTTP/1.1 has no trailers behind a body with a length.
            Kind::Whole {
                trailers: Some(_), ..
            } => SizeHint::default(),
            Kind::Whole { data, .. } => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64))
            }
            Kind::Judged { .. } => SizeHint::default(),
        }
    }
}

impl<B> fmt::Debug for RequestBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").finish_non_exhaustive()
    }
}
