//! One session: an agent's side of a connection after the handshake.

use super::answer::{Arrival, FatalEvent, Job, JobResult, answer, write_cancelled};
use super::reusable_future::{PendingEvents, ReusableFuture, Spare};
use super::session_error::SessionError;
use super::session_handle::{CONNECTION_SIZE, SessionHandle};
use crate::blocking;
use crate::connection::link::{Batch, Link};
use crate::connection::{FrameTimer, Turn, give_way};
use crate::handler::{AgentHandler, ExchangeOrder};
use crate::log::log_line;
use crate::memory::MemoryAccount;
use crate::protocol::{ConfigUpdateResponse, DrainRequest, EventType, ShutdownRequest};
use crate::wire::{
    DecodeError, Dialect, Encoding, Form, FrameBuffer, FrameError, MAX_FRAME_LEN, MessageType,
    OutgoingFrame, StreamId, control, event_of, write_message,
};
use bytes::{Bytes, BytesMut};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep_until};

/// Bytes of answers that may wait to be sent before no more events are read.
const MAX_UNSENT_BYTES: usize = 256 * 1024;

/// Bytes of events whose handlers may be pending before no more events are read.
const MAX_PENDING_BYTES: usize = 8 * 1024 * 1024;

/// Memory that an event takes beside its bytes: the future of its handler, a parser and buffers,
/// some 10 KiB, with what an allocator adds.
const EVENT_SIZE: usize = 12 * 1024;

/// Memory for each byte of a long event while it is decoded: the event and two copies of a JSON
/// parser.
const DECODING: usize = 3;

/// Length above which an event is decoded without keeping other tasks from the thread.
const MAX_INLINE_LEN: usize = 256 * 1024;

/// Interval at which a session that does not read checks whether its proxy is gone.
const HANG_UP_INTERVAL: Duration = Duration::from_secs(1);

/// Everything that a session is made of.
pub(super) struct SessionParts<H> {
    pub(super) handler: Arc<H>,
    pub(super) link: Link,
    pub(super) buffer: FrameBuffer,
    pub(super) dialect: Dialect,
    pub(super) handle: Arc<SessionHandle>,
    /// Events whose handlers may be pending at once; further events stay unread.
    pub(super) max_concurrent: usize,
    /// Time in which an incomplete frame has to make progress.
    pub(super) frame_timeout: Duration,
    /// Account of what the session holds.
    pub(super) memory: MemoryAccount,
}

/// Serves one proxy's connection until either side ends it.
pub(super) async fn serve<H: AgentHandler>(parts: SessionParts<H>) -> Result<(), SessionError> {
    let mut session = Session::new(parts, answer::<H>);
    // A guard, so that the handler is also told if this future is dropped or a handler panics.
    let _close_guard = CloseGuard(Arc::clone(&session.parts.handler));
    let ended = poll_fn(|cx| session.poll(cx)).await;
    if let Err(error) = &ended {
        // The answers before it. The link may have failed, too.
        let _ = poll_fn(|cx| Poll::Ready(session.flush(cx))).await;
        session
            .parts
            .link
            .sender
            .send_close_reason(error.close_reason(), error);
    }
    ended
}

/// Tells the handler when it is dropped that the connection has ended.
struct CloseGuard<H: AgentHandler>(Arc<H>);

impl<H: AgentHandler> Drop for CloseGuard<H> {
    fn drop(&mut self) {
        self.0.on_connection_closed();
    }
}

/// State of a session. One task reads events, calls the handler and writes answers.
struct Session<H, F> {
    parts: SessionParts<H>,
    start: fn(Arc<H>, Job) -> F,
    order: Arc<ExchangeOrder>,
    pending: PendingEvents<F>,
    /// Number of pending events at which no more are read: [`SessionParts::max_concurrent`], or 0
    /// while the handler decides about settings that a pong would accept.
    max_pending: usize,
    spare: Spare<F>,
    /// Frames encoded since the last flush.
    out: Vec<u8>,
    unsent: Batch,
    unsent_bytes: usize,
    /// Set once the proxy has closed its sending direction.
    peer_half_closed: bool,
    /// Number of messages that were ignored because they are invalid.
    ignored: u64,
    frame_timer: FrameTimer,
    /// Arrival of the next event that is received.
    arrival: Arrival,
    /// Wakes the task while it does not read, so that it finds out if the proxy is gone.
    hang_up_timer: Option<Pin<Box<Sleep>>>,
}

impl<H: AgentHandler, F: Future<Output = JobResult>> Session<H, F> {
    fn new(parts: SessionParts<H>, start: fn(Arc<H>, Job) -> F) -> Self {
        Self {
            max_pending: parts.max_concurrent,
            frame_timer: FrameTimer::new(parts.frame_timeout),
            arrival: Arrival::now(),
            hang_up_timer: None,
            order: Arc::new(ExchangeOrder::new(Arc::clone(parts.handle.peer()))),
            parts,
            start,
            pending: PendingEvents::new(),
            spare: Spare::default(),
            out: Vec::new(),
            unsent: Batch::default(),
            unsent_bytes: 0,
            peer_half_closed: false,
            ignored: 0,
        }
    }

    /// Makes all progress that is possible without waiting. Ready once the session has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SessionError>> {
        self.parts.handle.waker.register(cx.waker());
        if self.parts.memory.is_ended() {
            return Poll::Ready(Err(SessionError::OverMemory));
        }
        self.send_notices();
        let is_draining = self.parts.handle.is_draining();
        loop {
            let is_finishing = is_draining || self.peer_half_closed;
            self.poll_pending(cx)?;
            let received = if is_finishing {
                Ok(Received::AtCapacity)
            } else {
                self.receive(cx)
            };
            // The futures of events that were just received have to be polled once to register
            // their wakers.
            self.poll_pending(cx)?;
            self.flush(cx)?;
            // Answers to the events before a read error are sent before the error is returned.
            let received = received?;
            let is_idle = self.pending.is_empty() && self.unsent.is_empty();
            if is_finishing && is_idle {
                return Poll::Ready(Ok(()));
            }
            if received == Received::End {
                if !self.parts.link.sender.supports_half_close() {
                    return Poll::Ready(Ok(()));
                }
                self.peer_half_closed = true;
                continue;
            }
            // Events that stayed unread at the limit are read now that there is capacity.
            if received == Received::AtCapacity && !is_finishing && self.has_capacity() {
                continue;
            }
            self.charge_memory();
            return self.poll_unfinished(received, cx).map(Err);
        }
    }

    /// Polls for the reasons to end a session that has nothing else to do: an incomplete frame
    /// makes no progress, or the proxy is gone although the session does not read.
    fn poll_unfinished(&mut self, received: Received, cx: &mut Context<'_>) -> Poll<SessionError> {
        match received {
            Received::AtCapacity => {
                // Beside bytes, the peer may signal that there is room for answers.
                let signalled = self.parts.link.receiver.poll_signals(cx);
                if let Poll::Ready(Err(error)) = signalled {
                    return Poll::Ready(error.into());
                }
                self.poll_hang_up(cx)
            }
            Received::Pending if !self.parts.buffer.is_empty() => {
                let stalled = self.frame_timer.poll_stalled(cx);
                stalled.map(|()| SessionError::StalledFrame)
            }
            _ => Poll::Pending,
        }
    }

    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<SessionError> {
        if self.peer_half_closed
            && let Poll::Ready(Err(error)) = self.parts.link.sender.poll_room(cx)
        {
            // With the read half closed, only the write half shows that the proxy is gone.
            return Poll::Ready(error.into());
        }
        loop {
            if self.parts.link.sender.is_peer_gone() {
                return Poll::Ready(SessionError::PeerGone);
            }
            let next = || tokio::time::Instant::now() + HANG_UP_INTERVAL;
            let timer = self
                .hang_up_timer
                .get_or_insert_with(|| Box::pin(sleep_until(next())));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            timer.as_mut().reset(next());
        }
    }

    /// Reads and answers events until no more is received, or a limit is reached.
    fn receive(&mut self, cx: &mut Context<'_>) -> Result<Received, SessionError> {
        let mut turn = Turn::new();
        loop {
            while !turn.is_over() && self.has_capacity() {
                let Some((message_number, payload)) =
                    self.parts.buffer.next_frame(MAX_FRAME_LEN)?
                else {
                    break;
                };
                self.frame_timer.note_frame();
                turn.begin_frame(payload.len());
                self.dispatch(message_number, payload, cx)?;
            }
            if !self.has_capacity() {
                return Ok(Received::AtCapacity);
            }
            if turn.is_over() || self.parts.memory.has_to_wait() {
                give_way(cx);
                return Ok(Received::Interrupted);
            }
            match self
                .parts
                .link
                .receiver
                .poll_receive(cx, self.parts.buffer.spare())
            {
                Poll::Pending => return Ok(Received::Pending),
                Poll::Ready(Ok(0)) => return Ok(Received::End),
                Poll::Ready(received) => {
                    let received = received?;
                    self.frame_timer.note_received(received);
                    self.note_arrival();
                    turn.note_received(received);
                    self.parts.handle.mark_received();
                    self.charge_memory();
                    if self.parts.memory.is_slowed() {
                        turn.end();
                    }
                }
            }
        }
    }

    /// Notes the time at which events arrived, if they say how much time is left for them.
    fn note_arrival(&mut self) {
        if self.parts.dialect.form() == Form::Compact {
            self.arrival = Arrival::now();
        }
    }

    /// Charges the account for what the session holds.
    fn charge_memory(&mut self) {
        let held = self.held();
        self.parts.memory.set(held);
    }

    /// Returns the bytes that the session holds.
    fn held(&self) -> usize {
        let events = (self.pending.len() + self.spare.len()) * EVENT_SIZE;
        let received = self.parts.buffer.memory() + self.pending.held() + self.spare.held();
        CONNECTION_SIZE + events + received + self.unsent_bytes + self.out.capacity()
    }

    fn has_capacity(&self) -> bool {
        self.pending.len() < self.max_pending
            && self.pending.held() < MAX_PENDING_BYTES
            && self.has_send_capacity()
            && !self.is_slowed()
    }

    /// Returns whether memory is scarce and this session holds more than its share. Then no more
    /// events are read before those that wait are answered.
    fn is_slowed(&self) -> bool {
        self.parts.memory.is_slowed() && !(self.pending.is_empty() && self.unsent.is_empty())
    }

    fn has_send_capacity(&self) -> bool {
        self.unsent_bytes + self.out.len() < MAX_UNSENT_BYTES
    }

    fn dispatch(
        &mut self,
        message_number: u8,
        payload: BytesMut,
        cx: &mut Context<'_>,
    ) -> Result<(), SessionError> {
        let message = MessageType::from_number(message_number);
        if let Some(event_type) = message.and_then(event_of) {
            return self.start_event(event_type, payload, cx);
        }
        match message {
            Some(MessageType::Ping) => self.on_ping(&payload)?,
            Some(MessageType::Pong) => self.parts.handle.mark_pong(),
            Some(MessageType::Cancel) => self.cancel(&payload.freeze()),
            Some(message) if self.parts.dialect.has_streams() => {
                self.handle_control(message, &payload.freeze());
            }
            _ => self.ignore(&format_args!("a message of type {message_number:#04x}")),
        }
        Ok(())
    }

    fn on_ping(&mut self, ping: &[u8]) -> Result<(), SessionError> {
        match control::pong(ping, self.parts.dialect.encoding) {
            Ok(pong) => self.write_message(MessageType::Pong, &pong)?,
            Err(error) => self.ignore(&error),
        }
        Ok(())
    }

    /// Starts handling an event. If the handler does not complete at once, the event is added to
    /// `pending`.
    fn start_event(
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
        self.parts.handle.mark_active();
        let mut reusable = self.spare.take();
        reusable.stream = stream;
        reusable.payload_len = payload.len();
        let job = Job {
            event_type,
            dialect: self.parts.dialect,
            stream,
            payload,
            arrival: self.arrival,
            scratch: reusable.scratch.take().unwrap_or_default(),
            order: Arc::clone(&self.order),
            progress: Arc::clone(&reusable.progress),
        };
        self.arrival.is_first = false;
        let future = (self.start)(Arc::clone(&self.parts.handler), job);
        reusable.future.set(Some(future));
        let first_poll = if reusable.payload_len > MAX_INLINE_LEN {
            let held = self.held() + DECODING * reusable.payload_len;
            self.parts.memory.set(held);
            blocking::in_place(|| reusable.poll(cx))
        } else {
            reusable.poll(cx)
        };
        match first_poll {
            Poll::Ready(result) => self.finish(reusable, result),
            Poll::Pending => {
                if !reusable.progress.is_queued() {
                    self.order.hold(reusable.progress.key());
                }
                if event_type == EventType::Configure
                    && self.parts.dialect.confirms_settings_by_pong()
                {
                    reusable.holds_reading = true;
                    self.max_pending = 0;
                }
                self.pending.push(reusable);
                Ok(())
            }
        }
    }

    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Result<(), SessionError> {
        while let Poll::Ready(Some((mut reusable, result))) = self.pending.poll_next(cx) {
            if std::mem::take(&mut reusable.holds_reading) {
                self.max_pending = self.parts.max_concurrent;
            }
            self.order.release(reusable.progress.key());
            self.finish(reusable, result)?;
        }
        Ok(())
    }

    fn finish(
        &mut self,
        mut reusable: ReusableFuture<F>,
        result: Result<(), FatalEvent>,
    ) -> Result<(), SessionError> {
        if let Some(scratch) = &mut reusable.scratch {
            self.out.append(&mut scratch.frame.written);
            let body = std::mem::take(&mut scratch.frame.body);
            scratch.shrink();
            if !body.is_empty() {
                self.queue(body);
            }
        }
        self.spare.keep(reusable);
        Ok(result?)
    }

    /// Drops the unfinished events of an exchange that the proxy cancelled.
    ///
    /// They are answered nevertheless: a proxy cannot use the id again until it knows that no
    /// answer is under way.
    fn cancel(&mut self, payload: &Bytes) {
        let cancel = match control::decode_cancel(payload, self.parts.dialect.encoding) {
            Ok(cancel) => cancel,
            Err(error) => return self.ignore(&error),
        };
        let key = self.order.key(&cancel.correlation_id);
        if self.order.is_held(key) {
            self.cancel_pending(key, &cancel.correlation_id);
        }
        self.parts
            .handler
            .on_cancel(&cancel.correlation_id, cancel.reason);
    }

    fn cancel_pending(&mut self, key: u64, correlation_id: &str) {
        let (dialect, out, order) = (self.parts.dialect, &mut self.out, &self.order);
        self.pending.cancel(key, |event| {
            write_cancelled(correlation_id, event.stream, dialect, out);
            drop(event);
            order.release(key);
        });
    }

    /// Handles messages other than events from a proxy with tollgate's extension.
    fn handle_control(&mut self, message: MessageType, payload: &Bytes) {
        let SessionParts {
            handler, handle, ..
        } = &self.parts;
        let encoding = self.parts.dialect.encoding;
        let decoded = match message {
            MessageType::ConfigUpdateResponse => {
                control::decode::<ConfigUpdateResponse>(payload, encoding).map(|response| {
                    handle.publish_response(&response);
                    handler.on_config_update_response(response);
                })
            }
            MessageType::Drain => control::decode::<DrainRequest>(payload, encoding)
                .map(|drain| handler.on_drain(drain.duration_ms, drain.reason)),
            MessageType::Shutdown => control::decode::<ShutdownRequest>(payload, encoding)
                .map(|shutdown| handler.on_shutdown(shutdown.reason, shutdown.grace_period_ms)),
            _ => return self.ignore(&format_args!("a message of type {:#04x}", message as u8)),
        };
        if let Err(error) = decoded {
            self.ignore(&error);
        }
    }

    /// Counts and logs an invalid message.
    fn ignore(&mut self, what: &dyn std::fmt::Display) {
        self.ignored += 1;
        let (peer, count) = (self.parts.handle.peer(), self.ignored);
        log_line!(
            warn,
            peer,
            { peer }(count),
            "ignored an invalid message: {what}"
        );
    }

    fn send_notices(&mut self) {
        // If the proxy does not read, the notices stay in the queue, which is bounded.
        while self.has_send_capacity()
            && let Some(notice) = self.parts.handle.next_notice()
        {
            for (message, payload) in notice.messages(self.parts.dialect) {
                if let Err(error) = self.write_message(message, &payload) {
                    let peer = self.parts.handle.peer();
                    log_line!(error, peer, { peer, error }, "dropped a notice that is too large for a frame");
                }
            }
        }
    }

    fn write_message(&mut self, message: MessageType, payload: &[u8]) -> Result<(), FrameError> {
        let limit = self.parts.dialect.max_frame;
        write_message(&mut self.out, message, limit, payload)
    }

    /// Sends the encoded frames, as many as the link takes.
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
            self.parts.link.sender.ring();
            if self.unsent.is_empty() {
                self.unsent_bytes = 0;
                self.keep_buffer(recycled.take());
                return Ok(());
            }
            match self.parts.link.sender.poll_room(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(room) => room?,
            }
        }
    }

    /// Queues the encoded frames for sending, and a body that follows them.
    fn queue(&mut self, body: Bytes) {
        let frames = OutgoingFrame {
            written: std::mem::take(&mut self.out),
            body,
        };
        self.unsent_bytes += frames.len();
        self.unsent.push(frames);
    }

    fn keep_buffer(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > self.out.capacity() && buffer.capacity() <= MAX_UNSENT_BYTES {
            buffer.clear();
            self.out = buffer;
        }
    }
}

fn take_stream(
    event_type: EventType,
    payload: &mut BytesMut,
    encoding: Encoding,
) -> Result<StreamId, FatalEvent> {
    StreamId::take_from(payload, encoding)
        .map_err(DecodeError::in_message(event_type.as_str()))
        .map_err(FatalEvent::Unanswerable)
}

/// Result of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Received {
    /// All available frames were read.
    Pending,
    /// One poll has handled as much as it may. The task is woken for the rest.
    Interrupted,
    /// The proxy has closed its sending direction.
    End,
    /// There may be more, but a limit is reached, or the session is finishing.
    AtCapacity,
}
