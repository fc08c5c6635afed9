use super::answer::{Done, Job, Progress, Scratch, Unanswerable, answer, write_cancelled};
use super::control::Mailbox;
use super::handler::AgentHandler;
use super::order::Order;
use crate::connection::link::{Batch, LinkReceiver, LinkSender};
use crate::connection::{receive_handshake, send_message};
use crate::error::ConnectError;
use crate::protocol::EventType;
use crate::wire::{
    Encoding, FrameBuffer, FrameError, HandshakeRequest, HandshakeResponse, MAX_FRAME_LEN,
    MessageType, control, event_of, write_frame,
};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// Answers that may wait to be sent, in bytes, before no more events are read.
const MAX_UNSENT: usize = 256 * 1024;

/// Frames before other tasks get their turn.
const MAX_FRAMES_AT_ONCE: usize = 256;

/// Shakes hands as an agent. Returns the encoding, or why the proxy was refused.
pub(super) async fn shake_hands<H: AgentHandler>(
    handler: &H,
    encodings: &[Encoding],
    sender: &dyn LinkSender,
    receiver: &mut dyn LinkReceiver,
    buffer: &mut FrameBuffer,
) -> Result<Encoding, ConnectError> {
    let (message, payload) = receive_handshake(receiver, buffer).await?;
    if message != MessageType::HandshakeRequest as u8 {
        return Err(ConnectError::InvalidHandshake(format!(
            "message type {message:#04x} where the handshake request should be"
        )));
    }
    let request = HandshakeRequest::decode(&payload)?;
    let capabilities = handler.capabilities();
    let response = if request.supports_our_version() {
        HandshakeResponse::accept(&capabilities, request.negotiate(encodings))
    } else {
        HandshakeResponse::refuse(&capabilities, "only protocol version 2 is supported")
    };
    send_message(sender, MessageType::HandshakeResponse, &response.encode()).await?;
    match response.error {
        None => Ok(response.encoding),
        Some(reason) => Err(ConnectError::HandshakeRefused(reason)),
    }
}

/// What a session works on.
pub(super) struct SessionParts<H> {
    pub(super) handler: Arc<H>,
    pub(super) sender: Box<dyn LinkSender>,
    pub(super) receiver: Box<dyn LinkReceiver>,
    pub(super) buffer: FrameBuffer,
    pub(super) encoding: Encoding,
    pub(super) mailbox: Arc<Mailbox>,
    /// Events that may be worked on at once; more stay unread.
    pub(super) max_concurrent: usize,
}

/// Serves one proxy's connection until either side ends it.
pub(super) async fn serve<H: AgentHandler>(parts: SessionParts<H>) -> Result<(), SessionError> {
    let mut session = Session::new(parts, answer::<H>);
    // Also where this future is dropped, or the handler panics.
    let _closing = Closing(Arc::clone(&session.parts.handler));
    poll_fn(|cx| session.poll(cx)).await
}

/// Tells the handler when a connection is over.
struct Closing<H: AgentHandler>(Arc<H>);

impl<H: AgentHandler> Drop for Closing<H> {
    fn drop(&mut self) {
        self.0.on_connection_closed();
    }
}

/// Why a session ended other than by either side's wish.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Link(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Unanswerable(#[from] Unanswerable),
}

/// One task serves a connection: it reads events, calls the handler and writes answers.
struct Session<H, F> {
    parts: SessionParts<H>,
    start: fn(Arc<H>, Job) -> F,
    order: Arc<Order>,
    /// Events whose handler waits.
    waiting: FuturesUnordered<Waiting<F>>,
    /// Places for events to run in, kept with their memory.
    spare: Vec<Place<F>>,
    /// Frames written since the last flush.
    out: Vec<u8>,
    unsent: Batch,
    unsent_bytes: usize,
    /// Messages that made no sense.
    ignored: u64,
}

impl<H: AgentHandler, F: Future<Output = Done>> Session<H, F> {
    fn new(parts: SessionParts<H>, start: fn(Arc<H>, Job) -> F) -> Self {
        Self {
            parts,
            start,
            order: Arc::default(),
            waiting: FuturesUnordered::new(),
            spare: Vec::new(),
            out: Vec::new(),
            unsent: Batch::default(),
            unsent_bytes: 0,
            ignored: 0,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SessionError>> {
        self.parts.mailbox.waker.register(cx.waker());
        self.send_notices();
        let is_draining = self.parts.mailbox.is_draining();
        loop {
            self.finish_waiting(cx)?;
            let received = if is_draining {
                Ok(Received::Nothing)
            } else {
                self.receive(cx)
            };
            // Handlers that began to wait just now have to be polled once to be woken later.
            self.finish_waiting(cx)?;
            self.flush(cx)?;
            // What came before the damage is answered all the same.
            let received = received?;
            let is_idle = self.waiting.is_empty() && self.unsent.is_empty();
            if received == Received::End || (is_draining && is_idle) {
                return Poll::Ready(Ok(()));
            }
            // What was left unread for want of room is read once there is some.
            if received == Received::Nothing || !self.has_room() {
                return Poll::Pending;
            }
        }
    }

    /// Reads and answers events as long as there are any.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<Received, SessionError> {
        let mut left = MAX_FRAMES_AT_ONCE;
        loop {
            while self.has_room() {
                let Some((number, payload)) = self.parts.buffer.next_frame(MAX_FRAME_LEN)? else {
                    break;
                };
                self.dispatch(number, payload, cx)?;
                left -= 1;
                if left == 0 {
                    cx.waker().wake_by_ref();
                    return Ok(Received::Nothing);
                }
            }
            if !self.has_room() {
                return Ok(Received::TooMuch);
            }
            match self
                .parts
                .receiver
                .poll_receive(cx, self.parts.buffer.spare())
            {
                Poll::Pending => return Ok(Received::Nothing),
                Poll::Ready(Ok(0)) => return Ok(Received::End),
                Poll::Ready(received) => drop(received?),
            }
        }
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < self.parts.max_concurrent && self.has_unsent_room()
    }

    fn has_unsent_room(&self) -> bool {
        self.unsent_bytes + self.out.len() < MAX_UNSENT
    }

    fn dispatch(
        &mut self,
        number: u8,
        payload: BytesMut,
        cx: &mut Context<'_>,
    ) -> Result<(), SessionError> {
        let message = MessageType::from_number(number);
        if let Some(event_type) = message.and_then(event_of) {
            return self.begin(event_type, payload, cx);
        }
        match message {
            Some(MessageType::Ping) => self.write_message(MessageType::Pong, &payload)?,
            Some(MessageType::Pong) => {}
            Some(MessageType::Cancel) => self.cancel(&payload.freeze()),
            _ => self.ignore(&format_args!("a message of type {number:#04x}")),
        }
        Ok(())
    }

    /// Calls the handler. Most are done at once; the others wait among `waiting`.
    fn begin(
        &mut self,
        event_type: EventType,
        payload: BytesMut,
        cx: &mut Context<'_>,
    ) -> Result<(), SessionError> {
        let mut place = self.spare.pop().unwrap_or_default();
        let job = Job {
            event_type,
            encoding: self.parts.encoding,
            payload,
            scratch: place.scratch.take().unwrap_or_default(),
            order: Arc::clone(&self.order),
            progress: Arc::clone(&place.progress),
        };
        let future = (self.start)(Arc::clone(&self.parts.handler), job);
        place.future.set(Some(future));
        match place.poll(cx) {
            Poll::Ready(result) => self.finish(place, result),
            Poll::Pending => {
                if !place.progress.is_in_line() {
                    self.order.hold(place.progress.key());
                }
                self.waiting.push(Waiting(Some(place)));
                Ok(())
            }
        }
    }

    fn finish_waiting(&mut self, cx: &mut Context<'_>) -> Result<(), SessionError> {
        while let Poll::Ready(Some((place, result))) = self.waiting.poll_next_unpin(cx) {
            self.order.release(place.progress.key());
            self.finish(place, result)?;
        }
        Ok(())
    }

    fn finish(
        &mut self,
        mut place: Place<F>,
        result: Result<(), Unanswerable>,
    ) -> Result<(), SessionError> {
        if let Some(scratch) = &mut place.scratch {
            self.out.append(&mut scratch.out);
            scratch.shrink();
        }
        self.spare.push(place);
        Ok(result?)
    }

    /// Drops the events of an exchange that nobody waits for any more.
    ///
    /// They are answered all the same: a proxy cannot use the id again before it knows that no answer is
    /// on its way.
    fn cancel(&mut self, payload: &Bytes) {
        let cancel = match control::decode_cancel(payload) {
            Ok(cancel) => cancel,
            Err(error) => return self.ignore(&error),
        };
        let key = self.order.key(&cancel.correlation_id);
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.key() == Some(key) {
                drop(waiting);
                self.order.release(key);
                let out = &mut self.out;
                write_cancelled(&cancel.correlation_id, self.parts.encoding, out);
            } else {
                self.waiting.push(waiting);
            }
        }
        self.parts
            .handler
            .on_cancel(&cancel.correlation_id, cancel.reason);
    }

    /// Logs the 1st, 2nd, 4th, 8th … message that makes no sense, so that a broken proxy cannot flood
    /// the log.
    fn ignore(&mut self, what: &dyn std::fmt::Display) {
        self.ignored += 1;
        if self.ignored.is_power_of_two() {
            tracing::warn!(count = self.ignored, "ignored {what}");
        }
    }

    fn send_notices(&mut self) {
        // To a proxy that does not read they stay in the mailbox, which holds few.
        while self.has_unsent_room()
            && let Some(notice) = self.parts.mailbox.notices.pop()
        {
            for (message, payload) in notice.messages(self.parts.encoding) {
                if let Err(error) = self.write_message(message, &payload) {
                    tracing::error!(%error, "a notice fits no frame");
                }
            }
        }
    }

    fn write_message(&mut self, message: MessageType, payload: &[u8]) -> Result<(), FrameError> {
        write_frame(&mut self.out, message, |out| out.extend_from_slice(payload))
    }

    /// Hands what was written to the link, all frames at once.
    fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), SessionError> {
        if !self.out.is_empty() {
            self.unsent_bytes += self.out.len();
            self.unsent.push(std::mem::take(&mut self.out));
        }
        let recycled = std::cell::Cell::new(Vec::new());
        loop {
            let recycle = |buffer| recycled.set(buffer);
            self.parts.sender.try_send(&mut self.unsent, &recycle)?;
            if self.unsent.is_empty() {
                self.unsent_bytes = 0;
                self.reuse(recycled.take());
                return Ok(());
            }
            match self.parts.sender.poll_room(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(room) => room?,
            }
        }
    }

    fn reuse(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > self.out.capacity() && buffer.capacity() <= MAX_UNSENT {
            buffer.clear();
            self.out = buffer;
        }
    }
}

/// What reading came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    /// Everything that was there is read, or enough for now; the task is woken when there is more.
    Nothing,
    /// The proxy has ended the connection.
    End,
    /// There is more, but no room to work on it.
    TooMuch,
}

/// A place for an event to run in; it is used for one after another.
struct Place<F> {
    future: Pin<Box<Option<F>>>,
    progress: Arc<Progress>,
    /// `None` while an event runs.
    scratch: Option<Box<Scratch>>,
}

impl<F> Default for Place<F> {
    fn default() -> Self {
        Self {
            future: Box::pin(None),
            progress: Arc::default(),
            scratch: Some(Box::default()),
        }
    }
}

impl<F: Future<Output = Done>> Place<F> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unanswerable>> {
        let Some(future) = self.future.as_mut().as_pin_mut() else {
            return Poll::Ready(Ok(()));
        };
        let done = ready!(future.poll(cx));
        self.future.set(None);
        self.scratch = Some(done.scratch);
        Poll::Ready(done.result)
    }
}

/// An event whose handler waits. Gives its place back when it is done.
struct Waiting<F>(Option<Place<F>>);

impl<F> Waiting<F> {
    fn key(&self) -> Option<u64> {
        self.0.as_ref().map(|place| place.progress.key())
    }
}

impl<F: Future<Output = Done>> Future for Waiting<F> {
    type Output = (Place<F>, Result<(), Unanswerable>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(place) = &mut self.0 else {
            return Poll::Pending;
        };
        let result = ready!(place.poll(cx));
        self.0
            .take()
            .map_or(Poll::Pending, |place| Poll::Ready((place, result)))
    }
}
