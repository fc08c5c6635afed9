use super::answer::{Done, Job, Unanswerable, answer, write_cancelled};
use super::control::Mailbox;
use super::handler::AgentHandler;
use super::order::Order;
use super::place::{Place, Waiting};
use super::session_error::SessionError;
use crate::connection::link::{Batch, Link};
use crate::connection::{receive_handshake, send_message};
use crate::error::ConnectError;
use crate::protocol::{AgentCapabilities, EventType};
use crate::wire::{
    DecodeError, Dialect, Encoding, FrameBuffer, FrameError, HandshakeRequest, HandshakeResponse,
    MAX_FRAME_LEN, MessageType, OutgoingFrame, StreamId, control, event_of, write_message,
};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Answers that may wait to be sent, in bytes, before no more events are read.
const MAX_UNSENT: usize = 256 * 1024;

/// Events that may wait in handlers, in bytes, before no more are read.
const MAX_WAITING: usize = 8 * 1024 * 1024;

/// Frames before other tasks get their turn.
const MAX_FRAMES_AT_ONCE: usize = 256;

/// A proxy with which hands were shaken.
pub(super) struct Admitted {
    /// How messages are written.
    pub(super) dialect: Dialect,
    pub(super) place: OwnedSemaphorePermit,
    /// How the proxy calls itself.
    pub(super) proxy_id: String,
}

/// Shakes hands as an agent once there is a place for the connection. Returns why the proxy was refused, if it was.
pub(super) async fn shake_hands<H: AgentHandler>(
    handler: &H,
    encodings: &[Encoding],
    link: &mut Link,
    buffer: &mut FrameBuffer,
    places: &Arc<Semaphore>,
) -> Result<Admitted, ConnectError> {
    let (message, payload) = receive_handshake(&mut *link.receiver, buffer).await?;
    if message != MessageType::HandshakeRequest as u8 {
        return Err(ConnectError::InvalidHandshake(format!(
            "message type {message:#04x} where the handshake request should be"
        )));
    }
    let request = HandshakeRequest::decode_for(encodings, &payload)?;
    let Ok(place) = Arc::clone(places).acquire_owned().await else {
        // The semaphore is never closed.
        return pending().await;
    };
    let dialect = request.negotiate(encodings);
    let response = respond(&request, &handler.capabilities(), encodings);
    send_message(
        &*link.sender,
        MessageType::HandshakeResponse,
        &response.encode_for(encodings),
    )
    .await?;
    match response.error {
        None => Ok(Admitted {
            dialect,
            place,
            proxy_id: request.proxy_id,
        }),
        Some(reason) => Err(ConnectError::HandshakeRefused(reason)),
    }
}

/// What an agent answers a proxy's handshake.
pub(super) fn respond(
    request: &HandshakeRequest,
    capabilities: &AgentCapabilities,
    encodings: &[Encoding],
) -> HandshakeResponse {
    if request.supports_our_version() {
        HandshakeResponse::accept(capabilities, request.negotiate(encodings))
    } else {
        HandshakeResponse::refuse(capabilities, "only protocol version 2 is supported")
    }
}

/// What a session works on.
pub(super) struct SessionParts<H> {
    pub(super) handler: Arc<H>,
    pub(super) link: Link,
    pub(super) buffer: FrameBuffer,
    pub(super) dialect: Dialect,
    pub(super) mailbox: Arc<Mailbox>,
    /// Events that may be worked on at once; more stay unread.
    pub(super) max_concurrent: usize,
}

/// Serves one proxy's connection until either side ends it.
pub(super) async fn serve<H: AgentHandler>(parts: SessionParts<H>) -> Result<(), SessionError> {
    let mut session = Session::new(parts, answer::<H>);
    // Also where this future is dropped, or the handler panics.
    let _closing = Closing(Arc::clone(&session.parts.handler));
    let ended = poll_fn(|cx| session.poll(cx)).await;
    if let Err(error) = &ended {
        session.parts.link.sender.say_why(error.why(), error);
    }
    ended
}

/// Tells the handler when a connection is over.
struct Closing<H: AgentHandler>(Arc<H>);

impl<H: AgentHandler> Drop for Closing<H> {
    fn drop(&mut self) {
        self.0.on_connection_closed();
    }
}

/// One task serves a connection: it reads events, calls the handler and writes answers.
struct Session<H, F> {
    parts: SessionParts<H>,
    start: fn(Arc<H>, Job) -> F,
    order: Arc<Order>,
    /// Events whose handler waits.
    waiting: FuturesUnordered<Waiting<F>>,
    waiting_bytes: usize,
    /// Places for events to run in, kept with their memory.
    spare: Vec<Place<F>>,
    /// Frames written since the last flush.
    out: Vec<u8>,
    unsent: Batch,
    unsent_bytes: usize,
    /// Whether the proxy has said all that it will say.
    is_heard_out: bool,
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
            waiting_bytes: 0,
            spare: Vec::new(),
            out: Vec::new(),
            unsent: Batch::default(),
            unsent_bytes: 0,
            is_heard_out: false,
            ignored: 0,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SessionError>> {
        self.parts.mailbox.waker.register(cx.waker());
        self.send_notices();
        let is_draining = self.parts.mailbox.is_draining();
        loop {
            let is_finishing = is_draining || self.is_heard_out;
            self.finish_waiting(cx)?;
            let received = if is_finishing {
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
            if is_finishing && is_idle {
                return Poll::Ready(Ok(()));
            }
            if received == Received::End {
                if !self.parts.link.sender.outlasts_the_other_side() {
                    return Poll::Ready(Ok(()));
                }
                self.is_heard_out = true;
                continue;
            }
            if self.is_heard_out
                && let Poll::Ready(room) = self.parts.link.sender.poll_room(cx)
            {
                // Nothing else shows that nobody waits for the answers any more.
                room?;
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
                .link
                .receiver
                .poll_receive(cx, self.parts.buffer.spare())
            {
                Poll::Pending => return Ok(Received::Nothing),
                Poll::Ready(Ok(0)) => return Ok(Received::End),
                Poll::Ready(received) => {
                    received?;
                    self.parts.mailbox.hear();
                }
            }
        }
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < self.parts.max_concurrent
            && self.waiting_bytes < MAX_WAITING
            && self.has_unsent_room()
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
            Some(MessageType::Ping) => self.pong(&payload)?,
            Some(MessageType::Pong) => self.parts.mailbox.hear_pong(),
            Some(MessageType::Cancel) => self.cancel(&payload.freeze()),
            Some(message) if self.parts.dialect.has_streams() => {
                self.hear(message, &payload.freeze());
            }
            _ => self.ignore(&format_args!("a message of type {number:#04x}")),
        }
        Ok(())
    }

    fn pong(&mut self, ping: &[u8]) -> Result<(), SessionError> {
        match control::pong(ping, self.parts.dialect.encoding) {
            Ok(pong) => self.write_message(MessageType::Pong, &pong)?,
            Err(error) => self.ignore(&error),
        }
        Ok(())
    }

    /// Calls the handler. Most are done at once; the others wait among `waiting`.
    fn begin(
        &mut self,
        event_type: EventType,
        mut payload: BytesMut,
        cx: &mut Context<'_>,
    ) -> Result<(), SessionError> {
        let stream = if self.parts.dialect.has_streams() {
            Some(take_stream(
                event_type,
                &mut payload,
                self.parts.dialect.encoding,
            )?)
        } else {
            None
        };
        let mut place = self.spare.pop().unwrap_or_default();
        place.stream = stream;
        place.payload_len = payload.len();
        let job = Job {
            event_type,
            dialect: self.parts.dialect,
            stream,
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
                self.waiting_bytes += place.payload_len;
                self.waiting.push(Waiting(Some(place)));
                Ok(())
            }
        }
    }

    fn finish_waiting(&mut self, cx: &mut Context<'_>) -> Result<(), SessionError> {
        while let Poll::Ready(Some((place, result))) = self.waiting.poll_next_unpin(cx) {
            self.order.release(place.progress.key());
            self.waiting_bytes -= place.payload_len;
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
            self.out.append(&mut scratch.frame.written);
            let body = std::mem::take(&mut scratch.frame.body);
            scratch.shrink();
            if !body.is_empty() {
                self.queue(body);
            }
        }
        self.spare.push(place);
        Ok(result?)
    }

    /// Drops the events of an exchange that nobody waits for any more.
    ///
    /// They are answered all the same: a proxy cannot use the id again before it knows that no answer is
    /// on its way.
    fn cancel(&mut self, payload: &Bytes) {
        let cancel = match control::decode_cancel(payload, self.parts.dialect.encoding) {
            Ok(cancel) => cancel,
            Err(error) => return self.ignore(&error),
        };
        let key = self.order.key(&cancel.correlation_id);
        for waiting in std::mem::take(&mut self.waiting) {
            match &waiting.0 {
                Some(place) if place.progress.key() == key => {
                    let (dialect, out) = (self.parts.dialect, &mut self.out);
                    write_cancelled(&cancel.correlation_id, place.stream, dialect, out);
                    self.waiting_bytes -= place.payload_len;
                    drop(waiting);
                    self.order.release(key);
                }
                _ => self.waiting.push(waiting),
            }
        }
        self.parts
            .handler
            .on_cancel(&cancel.correlation_id, cancel.reason);
    }

    /// Takes notice of what a proxy with our extension says beside events.
    fn hear(&mut self, message: MessageType, payload: &Bytes) {
        let SessionParts {
            handler, mailbox, ..
        } = &self.parts;
        let encoding = self.parts.dialect.encoding;
        let heard = match message {
            MessageType::ConfigUpdateResponse => control::decode_config_response(payload, encoding)
                .map(|response| {
                    mailbox.answered(&response);
                    handler.on_config_update_response(response);
                }),
            MessageType::Drain => control::decode_drain(payload, encoding)
                .map(|drain| handler.on_drain(drain.duration_ms, drain.reason)),
            MessageType::Shutdown => control::decode_shutdown(payload, encoding)
                .map(|shutdown| handler.on_shutdown(shutdown.reason, shutdown.grace_period_ms)),
            _ => return self.ignore(&format_args!("a message of type {:#04x}", message as u8)),
        };
        if let Err(error) = heard {
            self.ignore(&error);
        }
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
            for (message, payload) in notice.messages(self.parts.dialect) {
                if let Err(error) = self.write_message(message, &payload) {
                    tracing::error!(%error, "a notice fits no frame");
                }
            }
        }
    }

    fn write_message(&mut self, message: MessageType, payload: &[u8]) -> Result<(), FrameError> {
        let limit = self.parts.dialect.max_frame;
        write_message(&mut self.out, message, limit, payload)
    }

    /// Hands what was written to the link, all frames at once.
    fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), SessionError> {
        if !self.out.is_empty() {
            self.queue(Bytes::new());
        }
        let recycled = std::cell::Cell::new(Vec::new());
        loop {
            let recycle = |buffer| recycled.set(buffer);
            self.parts
                .link
                .sender
                .try_send(&mut self.unsent, &recycle)?;
            if self.unsent.is_empty() {
                self.unsent_bytes = 0;
                self.reuse(recycled.take());
                return Ok(());
            }
            match self.parts.link.sender.poll_room(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(room) => room?,
            }
        }
    }

    /// Lines up what was written, and a body that follows it, to be sent.
    fn queue(&mut self, body: Bytes) {
        let frames = OutgoingFrame {
            written: std::mem::take(&mut self.out),
            body,
        };
        self.unsent_bytes += frames.len();
        self.unsent.push(frames);
    }

    fn reuse(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > self.out.capacity() && buffer.capacity() <= MAX_UNSENT {
            buffer.clear();
            self.out = buffer;
        }
    }
}

fn take_stream(
    event_type: EventType,
    payload: &mut BytesMut,
    encoding: Encoding,
) -> Result<StreamId, Unanswerable> {
    StreamId::take_from(payload, encoding)
        .map_err(DecodeError::in_message(event_type.as_str()))
        .map_err(Unanswerable)
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
