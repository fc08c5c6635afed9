//! The way of a body through the agents to its receiver.

use crate::answer::{BoxError, NotAllowed};
use crate::exchange::Handle;
use crate::source::{Amount, Chunk, Source};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tollgate::proxy::{Message, Rejection};

/// Chunks that are on their way to agents at once.
const WINDOW: usize = 8;

/// A body on its way through the agents.
pub(crate) struct Pipe<B> {
    message: Message,
    pub(crate) handle: Handle,
    source: Source<B>,
    /// Time for which the sender may send nothing.
    timeout: Option<Duration>,
    /// Chunks that were pushed and have not come out.
    on_way: usize,
    /// Set once the last chunk was pushed.
    is_pushed: bool,
    /// Set once the last chunk has come out.
    is_done: bool,
}

/// Reason why a body ends early.
pub(crate) enum Broken {
    /// Agents did not let it go.
    Rejected(Rejection),
    /// Its sender broke it off.
    Sender(BoxError),
}

impl<B> Pipe<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    pub(crate) fn new(
        message: Message,
        handle: Handle,
        source: Source<B>,
        timeout: Option<Duration>,
    ) -> Self {
        Self {
            message,
            handle,
            source,
            timeout,
            on_way: 0,
            is_pushed: false,
            is_done: false,
        }
    }

    /// Returns the next bytes that agents have let go; `None` after the last ones.
    ///
    /// Reads ahead as long as there are fewer than [`WINDOW`] chunks on their way.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        while !self.is_done {
            let reads = !self.is_pushed && self.on_way < WINDOW;
            // While agents decide, small chunks are gathered, which delays them by one answer at
            // most. Otherwise each byte that a client sends could cost a message to every agent.
            let amount = if self.on_way == 0 {
                Amount::Any
            } else {
                Amount::Full
            };
            let replied = async {
                let mut transaction = self.handle.lock().await;
                transaction.chunk_replied(self.message).await
            };
            tokio::select! {
                biased;
                chunk = next_chunk(&mut self.source, amount, self.timeout), if reads => {
                    let mut transaction = self.handle.lock().await;
                    let chunk = chunk.inspect_err(|broken| {
                        if let Broken::Rejected(rejection) = broken {
                            transaction.count_rejection(rejection);
                        }
                    })?;
                    let pushed = transaction.push_chunk(self.message, chunk.data, chunk.is_last);
                    pushed.await.map_err(Broken::Rejected)?;
                    self.is_pushed = chunk.is_last;
                    self.on_way += 1;
                }
                replied = replied, if self.on_way > 0 => {
                    replied.map_err(Broken::Rejected)?;
                    let mut transaction = self.handle.lock().await;
                    let passed = transaction.next_chunk(self.message).await;
                    let passed = passed.map_err(Broken::Rejected)?;
                    self.on_way -= 1;
                    self.is_done = passed.is_last;
                    if !passed.data.is_empty() {
                        return Ok(Some(passed.data));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Returns whether the last bytes have come out.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Returns the trailers, once the last bytes have come out.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.source.take_trailers()
    }

    /// Gives up the body, and returns what its sender has not sent yet, if anything.
    pub(crate) fn into_rest(self) -> (Handle, Option<Pin<Box<B>>>) {
        let rest = (!self.source.is_ended()).then(|| self.source.into_body());
        (self.handle, rest)
    }
}

/// Reads the next chunk. Loses nothing if it is dropped, which begins the timeout anew.
async fn next_chunk<B>(
    source: &mut Source<B>,
    amount: Amount,
    timeout: Option<Duration>,
) -> Result<Chunk, Broken>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let next = source.next(amount);
    let Some(limit) = timeout else {
        return next.await.map_err(Broken::Sender);
    };
    match tokio::time::timeout(limit, next).await {
        Ok(chunk) => chunk.map_err(Broken::Sender),
        Err(_) => Err(Broken::Rejected(Rejection::RequestBodyTimeout(limit))),
    }
}

/// Frames that a task sends which runs only while they are waited for.
pub(crate) struct Frames {
    driver: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    frames: mpsc::Receiver<Result<Frame<Bytes>, BoxError>>,
}

/// Where a driver of [`Frames`] sends them.
pub(crate) struct FrameSender(mpsc::Sender<Result<Frame<Bytes>, BoxError>>);

impl Frames {
    pub(crate) fn new<D>(driver: impl FnOnce(FrameSender) -> D) -> Self
    where
        D: Future<Output = ()> + Send + 'static,
    {
        let (sender, frames) = mpsc::channel(1);
        Self {
            driver: Some(Box::pin(driver(FrameSender(sender)))),
            frames,
        }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            // Not `poll_recv`: it is pending though a frame is there once the task has used up what
            // tokio lets it do at once, and this loop would never end.
            if let Ok(frame) = self.frames.try_recv() {
                return Poll::Ready(Some(frame));
            }
            let Some(driver) = &mut self.driver else {
                return Poll::Ready(None);
            };
            if driver.as_mut().poll(cx).is_ready() {
                self.driver = None;
            } else if self.frames.is_empty() {
                return Poll::Pending;
            }
        }
    }
}

impl FrameSender {
    /// Sends bytes; they are dropped if nobody waits for them any more.
    pub(crate) async fn data(&self, data: Bytes) {
        let _ = self.0.send(Ok(Frame::data(data))).await;
    }

    /// Sends trailers, if there are any.
    pub(crate) async fn trailers(&self, trailers: Option<HeaderMap>) {
        if let Some(trailers) = trailers {
            let _ = self.0.send(Ok(Frame::trailers(trailers))).await;
        }
    }

    /// Breaks the body off.
    pub(crate) async fn fail(&self, error: BoxError) {
        let _ = self.0.send(Err(error)).await;
    }

    pub(crate) async fn not_allowed(&self) {
        self.fail(NotAllowed.into()).await;
    }
}

/// Limits of what is read of a request whose body nobody needs any more.
const MAX_DISCARDED: usize = 64 * 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the rest of a request's body, within limits. Otherwise a client that is still sending may
/// lose the response: TCP resets a connection that is closed while data is unread.
pub(crate) fn discard<B>(rest: Option<Pin<Box<B>>>)
where
    B: Body<Data = Bytes> + Send + 'static,
{
    let Some(mut rest) = rest else { return };
    tokio::spawn(tokio::time::timeout(DISCARD_TIMEOUT, async move {
        let mut discarded = 0;
        while discarded < MAX_DISCARDED {
            let frame = std::future::poll_fn(|cx| rest.as_mut().poll_frame(cx)).await;
            let Some(Ok(frame)) = frame else { return };
            discarded += frame.data_ref().map_or(0, Bytes::len);
        }
    }));
}
