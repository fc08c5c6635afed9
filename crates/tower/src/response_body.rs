//! The body of a response as the client gets it.

use crate::answer::BoxError;
use crate::exchange::Handle;
use crate::pipe::{Broken, Frames, Pipe};
use crate::request_body::{Counter, cancel};
use crate::source::settle_trailers;
use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Either;
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use tollgate::proxy::Message;

/// Body of the service's response. One that came through the layer's own connection, for a
/// WebSocket that was not opened, is a body of hyper's.
pub(crate) type Inner<R> = Either<R, Incoming>;

pin_project! {
    /// Body of a response, as far as agents have let it go.
    ///
    /// Agents are told that the request is over when it ends, and that nobody waits for it if it is
    /// dropped before.
    pub struct ResponseBody<R> {
        #[pin]
        kind: Kind<R>,
    }

    impl<R> PinnedDrop for ResponseBody<R> {
        fn drop(this: Pin<&mut Self>) {
            if let KindProjection::Plain { end, .. } = this.project().kind.project()
                && let Some(end) = end.take()
            {
                end.dropped();
            }
        }
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<R> {
        /// No agent sees the body.
        Plain { #[pin] body: Inner<R>, end: Option<End> },
        /// A whole body.
        Whole { data: Option<Bytes> },
        /// The body is being judged. `first` comes before `rest`.
        Judged { first: Option<Bytes>, rest: Frames },
    }
}

/// The end of a request.
pub(crate) struct End {
    pub(crate) handle: Handle,
    pub(crate) status: StatusCode,
    /// Bytes of a request's body that no agent sees.
    pub(crate) received: Option<Counter>,
    /// Bytes of the response's body so far.
    pub(crate) sent: usize,
    /// Length of the response's body, if the client is told it.
    pub(crate) length: Option<u64>,
}

impl End {
    /// Tells the agents that the request is over. `error` says why the response is incomplete.
    pub(crate) fn complete(self, error: Option<String>) {
        let (status, sent) = (self.status.as_u16(), self.sent);
        let received = self.received.map_or(0, |counter| counter.get());
        self.handle.end(move |transaction| {
            transaction.count_bytes(Message::Request, received);
            transaction.count_bytes(Message::Response, sent);
            transaction.complete(status, error);
        });
    }

    /// Tells the agents that the body is not needed any more: the client has it, or has gone.
    fn dropped(self) {
        if self.length == Some(self.sent as u64) {
            self.complete(None);
        } else {
            cancel(self.handle);
        }
    }
}

impl<R> ResponseBody<R> {
    pub(crate) fn whole(data: Bytes) -> Self {
        let data = Some(data).filter(|data| !data.is_empty());
        Self {
            kind: Kind::Whole { data },
        }
    }

    /// Makes the body of an agent's answer empty. Others stay as they are.
    pub(crate) fn leave_out_answer(&mut self) {
        if let Kind::Whole { data } = &mut self.kind {
            *data = None;
        }
    }
}

impl<R> ResponseBody<R>
where
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    pub(crate) fn plain(body: Inner<R>, end: End) -> Self {
        if body.is_end_stream() {
            end.complete(None);
            return Self::whole(Bytes::new());
        }
        Self {
            kind: Kind::Plain {
                body,
                end: Some(end),
            },
        }
    }

    /// Creates a body whose rest is still judged.
    pub(crate) fn judged(first: Option<Bytes>, mut pipe: Pipe<Inner<R>>, end: PendingEnd) -> Self {
        let rest = Frames::new(|sender| async move {
            loop {
                match pipe.next().await {
                    Ok(Some(data)) if !pipe.is_done() => sender.data(data).await,
                    Ok(data) => {
                        // Whoever knows the length may not wait for what follows the last bytes.
                        let trailers = pipe.take_trailers();
                        end.with(pipe.into_rest().0).complete(None);
                        if let Some(data) = data {
                            sender.data(data).await;
                        }
                        break sender.trailers(trailers).await;
                    }
                    Err(Broken::Rejected(rejection)) => {
                        let reason = rejection.to_string();
                        // Logs the reason; the client has a response already.
                        drop(rejection.into_response());
                        end.with(pipe.into_rest().0).complete(Some(reason));
                        break sender.not_allowed().await;
                    }
                    Err(Broken::Sender(error)) => {
                        end.with(pipe.into_rest().0)
                            .complete(Some(error.to_string()));
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

/// The end of a request whose transaction is in use.
pub(crate) struct PendingEnd {
    pub(crate) status: StatusCode,
    pub(crate) received: Option<Counter>,
}

impl PendingEnd {
    /// Returns the end, with the transaction. Agents have seen the response's body, so its bytes
    /// are counted.
    pub(crate) fn with(self, handle: Handle) -> End {
        End {
            handle,
            status: self.status,
            received: self.received,
            sent: 0,
            length: None,
        }
    }
}

impl<R> Body for ResponseBody<R>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().kind.project() {
            KindProjection::Plain { mut body, end } => {
                let mut frame = std::task::ready!(body.as_mut().poll_frame(cx));
                let error = match &mut frame {
                    Some(Ok(frame)) => {
                        settle_trailers(frame);
                        if let Some(end) = end {
                            end.sent += frame.data_ref().map_or(0, Bytes::len);
                        }
                        None
                    }
                    None => None,
                    Some(Err(error)) => Some(error.to_string()),
                };
                let is_over = !matches!(frame, Some(Ok(_))) || body.is_end_stream();
                if is_over && let Some(end) = end.take() {
                    end.complete(error);
                }
                Poll::Ready(frame)
            }
            KindProjection::Whole { data } => {
                Poll::Ready(data.take().map(|data| Ok(Frame::data(data))))
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
            Kind::Whole { data } => data.is_none(),
            Kind::Judged { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Plain { body, .. } => body.size_hint(),
            Kind::Whole { data } => {
                SizeHint::with_exact(data.as_ref().map_or(0, |data| data.len() as u64))
            }
            Kind::Judged { .. } => SizeHint::default(),
        }
    }
}

impl<R> fmt::Debug for ResponseBody<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
