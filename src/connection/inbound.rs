//! The receive task: reads what the agent sends, completes calls and expires them.

use super::calls::Command;
use super::link::LinkReceiver;
use super::receive_error::ReceiveError;
use super::slots::Completer;
use super::{CallEnd, Connection, ConnectionConfig, FrameTimer, SlotValue, Turn, give_way};
use crate::blocking;
use crate::clock;
use crate::memory::MemoryAccount;
use crate::metrics::Fault;
use crate::protocol::{
    ConfigUpdateRequest, DrainRequest, FlowControl, HealthStatus, LogMessage, MetricsReport,
};
use crate::wire::control::{self, ControlMessage};
use crate::wire::{
    Answer, DecodeError, DecodeErrorKind, Decoder, Encoding, FrameBuffer, MAX_FRAME_LEN,
    MessageType, StreamId, Undecodable,
};
use bytes::BytesMut;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::{Sleep, sleep_until};

/// Interval at which deadlines are checked while calls are pending. A call ends at most this long
/// after its deadline.
const SWEEP_INTERVAL: Duration = Duration::from_millis(5);

/// Time by which the check of deadlines may be late while there is more to receive: the answer of a
/// call may be among it.
const MAX_SWEEP_DELAY: Duration = Duration::from_millis(10);

/// Length above which a message is decoded without keeping other tasks from the thread.
const MAX_INLINE_LEN: usize = 64 * 1024;

/// Maximum length of a message of the agent that is not an answer. Pongs repeat pings and wait in
/// the send queue, and notices wait for their receivers, so longer ones would use up memory there.
const MAX_CONTROL_LEN: usize = 128 * 1024;

/// Maximum length of a report of metrics and of a config update request, which hold lists.
const MAX_LIST_LEN: usize = 1024 * 1024;

/// Reads what an agent sends. Answers go to their calls, messages about the connection to its
/// state, and the rest to the caller of [`Inbound::next`].
///
/// When this is dropped, the connection is closed and every pending call fails.
pub(crate) struct Inbound {
    pub(crate) connection: Arc<Connection>,
    receiver: Box<dyn LinkReceiver>,
    completer: Completer<SlotValue>,
    buffer: FrameBuffer,
    decoder: Decoder,
    turn: Turn,
    frame_timer: FrameTimer,
    /// Account of what the connection holds.
    memory: MemoryAccount,
    /// Time of the next check of deadlines.
    next_sweep: Instant,
    /// Wakes the task at `next_sweep`. A task that is polled anyway compares the time itself, since
    /// a runtime under load fires timers late.
    sweep_timer: Option<Pin<Box<Sleep>>>,
}

/// A message of an agent that is about the agent, rather than a call or the connection.
#[derive(Debug)]
pub(crate) enum AgentEvent {
    Health(HealthStatus),
    Metrics(MetricsReport),
    ConfigUpdate(ConfigUpdateRequest),
    Log(LogMessage),
}

/// An event with its length on the wire in bytes.
pub(crate) type Received = (AgentEvent, usize);

impl Inbound {
    pub(super) fn new(
        connection: Arc<Connection>,
        receiver: Box<dyn LinkReceiver>,
        completer: Completer<SlotValue>,
        buffer: FrameBuffer,
        config: &ConnectionConfig,
    ) -> Self {
        let account_holder = Arc::clone(&connection);
        let memory = connection.agent.memory.open_account(move || {
            account_holder.close_on_error(&"the memory limit is exceeded, and it holds most");
        });
        Self {
            decoder: Decoder::of(connection.dialect.form()),
            connection,
            receiver,
            completer,
            buffer,
            turn: Turn::new(),
            frame_timer: FrameTimer::new(config.frame_timeout),
            memory,
            next_sweep: clock::now(),
            sweep_timer: None,
        }
    }

    /// Serves the connection until the agent reports something. Returns `None` once the connection
    /// has ended.
    pub(crate) async fn next(&mut self) -> Option<Received> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        self.connection.calls.inbound_waker.register(cx.waker());
        // Messages received before the end of the link are still handled, and answers that have
        // arrived complete their calls before those expire.
        let mut has_received_all = false;
        match self.receive(cx) {
            Ok(Poll::Ready(event)) => return Poll::Ready(Some(event)),
            Ok(Poll::Pending) => {
                has_received_all = !self.turn.is_over();
                self.turn = Turn::new();
            }
            Err(cause) => {
                if let ReceiveError::Frame(error) = &cause {
                    self.record_fault(Fault::InvalidFrame, error);
                }
                if self.connection.dialect.confirms_settings_by_pong() {
                    // Before the connection is closed, so that calls with settings find it.
                    let _ = self.connection.end_of_receiving.set(cause.to_string());
                }
                self.connection.close_on_error(&cause);
            }
        }
        self.sweep(has_received_all, cx);
        while let Some(command) = self.connection.calls.commands.pop() {
            self.execute(command);
        }
        if !self.connection.lifecycle.is_open() {
            return Poll::Ready(None);
        }
        Poll::Pending
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Result<Poll<Received>, ReceiveError> {
        loop {
            while !self.turn.is_over()
                && let Some((message, payload)) = self.buffer.next_frame(MAX_FRAME_LEN)?
            {
                let len = payload.len();
                self.frame_timer.note_frame();
                self.turn.begin_frame(len);
                if let Some(event) = self.dispatch(message, payload) {
                    return Ok(Poll::Ready((event, len)));
                }
            }
            if self.turn.is_over() || self.memory.has_to_wait() {
                self.turn.end();
                give_way(cx);
                return Ok(Poll::Pending);
            }
            if self.connection.outbound.is_cheap {
                let is_expecting = self.connection.calls.slots.pending() > 0;
                self.receiver.set_expecting(is_expecting);
            }
            match self.receiver.poll_receive(cx, self.buffer.spare()) {
                Poll::Pending => return self.poll_incomplete(cx),
                Poll::Ready(Ok(0)) => {
                    return Err(ReceiveError::Ended {
                        in_frame: !self.buffer.is_empty(),
                    });
                }
                Poll::Ready(received) => {
                    let received = received?;
                    self.frame_timer.note_received(received);
                    self.turn.note_received(received);
                    self.memory.set(self.buffer.memory());
                    if self.memory.is_slowed() {
                        self.turn.end();
                    }
                    let now = self.connection.timeline.note_received();
                    self.completer.note_received(now);
                }
            }
        }
    }

    /// Polls for an incomplete frame that makes no progress, when everything was received.
    fn poll_incomplete<T>(&mut self, cx: &mut Context<'_>) -> Result<Poll<T>, ReceiveError> {
        // Before this read, the buffer may have been replaced that held a large frame.
        self.memory.set(self.buffer.memory());
        if !self.buffer.is_empty() && self.frame_timer.poll_stalled(cx).is_ready() {
            return Err(ReceiveError::Stalled);
        }
        Ok(Poll::Pending)
    }

    /// Handles a message. Returns what the pool has to know of it.
    fn dispatch(&mut self, number: u8, payload: BytesMut) -> Option<AgentEvent> {
        let message = MessageType::from_number(number);
        let max_len = max_len(message);
        if payload.len() > max_len {
            let len = payload.len();
            let detail = format_args!("message type {number:#04x} of {len} bytes, over {max_len}");
            self.record_fault(Fault::UnexpectedMessage, &detail);
            return None;
        }
        if payload.len() > MAX_INLINE_LEN {
            return blocking::in_place(|| self.handle(message, number, payload));
        }
        self.handle(message, number, payload)
    }

    fn handle(
        &mut self,
        message: Option<MessageType>,
        number: u8,
        payload: BytesMut,
    ) -> Option<AgentEvent> {
        match message {
            Some(MessageType::AgentResponse) => self.on_answer(payload),
            Some(MessageType::FlowControl) => self.on_flow_control(self.decode(payload)?),
            Some(MessageType::HealthStatus) => return self.on_health(self.decode(payload)?),
            Some(MessageType::MetricsReport) => {
                return self.decode(payload).map(AgentEvent::Metrics);
            }
            Some(MessageType::ConfigUpdateRequest) => {
                return self.decode(payload).map(AgentEvent::ConfigUpdate);
            }
            Some(MessageType::Log) if self.connection.dialect.has_streams() => {
                return self.decode(payload).map(AgentEvent::Log);
            }
            Some(MessageType::Drain) if self.connection.dialect.has_streams() => {
                let _: DrainRequest = self.decode(payload)?;
                self.connection.lifecycle.ask_to_move();
                self.connection.agent.request_maintenance();
            }
            // The pong is dropped if the send queue is full, which bounds memory if an agent sends
            // pings faster than it reads.
            Some(MessageType::Ping) => {
                let outbound = &self.connection.outbound;
                outbound.try_push(MessageType::Pong, &payload);
            }
            Some(MessageType::Pong) => {
                let pong = self.accept(control::decode_pong(&payload.freeze(), self.encoding()))?;
                self.connection.pings.complete(pong.sequence);
            }
            _ => {
                let detail = format_args!("message type {number:#04x}");
                self.record_fault(Fault::UnexpectedMessage, &detail);
            }
        }
        None
    }

    fn on_answer(&mut self, mut payload: BytesMut) {
        if !self.connection.dialect.has_streams() {
            return self.answer_by_id(payload);
        }
        match StreamId::take_from(&mut payload, self.connection.dialect.encoding) {
            Ok(stream) => self.answer_on_stream(stream, payload),
            Err(kind) => self.note_unmatchable_answer(kind),
        }
    }

    fn answer_on_stream(&mut self, stream: StreamId, payload: BytesMut) {
        let decoded = self
            .decoder
            .decode_answer(payload, |answer| answer.response);
        let value = decoded.map_err(|Undecodable { error, .. }| {
            self.record_fault(Fault::UndecodableAnswer, &error);
            CallEnd::Undecodable(error)
        });
        if self.completer.complete_stream(stream, value).is_err() {
            let fault = if self.completer.has_seen(stream) {
                self.connection.recover();
                Fault::LateAnswer
            } else {
                Fault::UnmatchedAnswer
            };
            self.record_fault(fault, &format_args!("stream {stream}"));
        }
    }

    fn answer_by_id(&mut self, payload: BytesMut) {
        let (connection, completer) = (&self.connection, &mut self.completer);
        let deliver = |answer: Answer<'_>| {
            let id = answer.correlation_id?;
            let key = connection.agent.keys.key(id);
            if completer.complete(id, key, Ok(answer.response)).is_err() {
                note_unmatched_answer(connection, key, id);
            }
            Some(())
        };
        match self.decoder.decode_answer(payload, deliver) {
            Ok(Some(())) => {}
            Ok(None) => {
                let missing = DecodeErrorKind::Missing("audit.custom.correlation_id");
                self.note_unmatchable_answer(missing);
            }
            Err(undecodable) => self.fail_undecodable(undecodable),
        }
    }

    /// Records an answer that names no call. The call that it was meant for ends at its deadline.
    fn note_unmatchable_answer(&self, kind: DecodeErrorKind) {
        let error = DecodeError::in_message("agent response")(kind);
        self.record_fault(Fault::UndecodableAnswer, &error);
    }

    /// Fails the call of an answer that could not be decoded. If the answer's correlation id could
    /// not be read either, the call ends at its deadline.
    fn fail_undecodable(&mut self, undecodable: Undecodable) {
        let Undecodable {
            error,
            correlation_id,
        } = undecodable;
        self.record_fault(Fault::UndecodableAnswer, &error);
        let Some(id) = correlation_id else { return };
        let key = self.connection.agent.keys.key(&id);
        let failure = Err(CallEnd::Undecodable(error));
        if self.completer.complete(&id, key, failure).is_err() {
            self.connection.calls.expected_late_answers.remove(key);
        }
    }

    fn on_flow_control(&self, message: FlowControl) {
        let Connection { agent, flow, .. } = &*self.connection;
        let count = if flow.apply(&message, &agent.keys) {
            &agent.pauses
        } else {
            &agent.resumes
        };
        count.fetch_add(1, Ordering::Relaxed);
        // Calls that wait for a slot as well: the free slots of a paused connection were not
        // theirs.
        self.connection.calls.queues.wake();
        agent.queues.wake();
    }

    fn on_health(&self, status: HealthStatus) -> Option<AgentEvent> {
        let Connection { agent, health, .. } = &*self.connection;
        health.report(&status.state, status.valid_until_ms);
        // The agent may take calls again, or waiting calls may have to use other connections.
        agent.queues.wake();
        Some(AgentEvent::Health(status))
    }

    /// Decodes a message, or records a fault if that fails.
    fn decode<M: ControlMessage>(&self, payload: BytesMut) -> Option<M> {
        self.accept(control::decode(&payload.freeze(), self.encoding()))
    }

    fn record_fault(&self, fault: Fault, detail: &dyn std::fmt::Display) {
        self.connection.agent.record_fault(fault, detail);
    }

    fn encoding(&self) -> Encoding {
        self.connection.dialect.encoding
    }

    /// Returns a decoded message, or records a fault if it could not be decoded.
    fn accept<T>(&self, decoded: Result<T, DecodeError>) -> Option<T> {
        let record = |error: &_| self.record_fault(Fault::UndecodableMessage, error);
        decoded.inspect_err(|error| record(error)).ok()
    }

    fn execute(&mut self, command: Command) {
        let Connection { agent, calls, .. } = &*self.connection;
        match command {
            Command::Cancel(correlation_id) => {
                let key = agent.keys.key(&correlation_id);
                // Recorded before the calls end, so that a caller that opens another call of this
                // exchange as soon as the slot is free finds the record. If no call was pending,
                // the record is removed again, unless it stems from an earlier call.
                let was_expected = calls.expected_late_answers.contains(key);
                calls.expect_late_answer(key);
                let completer = &mut self.completer;
                let cancelled = || Err(CallEnd::Cancelled);
                let completed = completer.complete_each(&correlation_id, key, cancelled);
                if completed == 0 && !was_expected {
                    calls.expected_late_answers.remove(key);
                }
            }
            Command::CancelAll(cancelled) => {
                let mut ids = Vec::new();
                self.completer.complete_all(|id| {
                    calls.expect_late_answer(agent.keys.key(id));
                    ids.push(id.to_owned());
                    Err(CallEnd::Cancelled)
                });
                // The caller may have dropped its future meanwhile.
                let _ = cancelled.send(ids);
            }
        }
    }

    /// Fails calls whose deadline has passed, and sets the timer for the next check while any call
    /// is pending.
    ///
    /// A check that is due is put off while there is more to receive, for [`MAX_SWEEP_DELAY`] at
    /// most.
    fn sweep(&mut self, has_received_all: bool, cx: &mut Context<'_>) {
        if !self.connection.calls.is_sweeping() {
            return;
        }
        // By the first call, not by the first that is found pending: warm calls allocate nothing.
        if self.sweep_timer.is_none() {
            self.sweep_timer = Some(Box::pin(sleep_until(clock::timer(self.next_sweep))));
        }
        let now = clock::now();
        if now >= self.next_sweep && (has_received_all || now >= self.next_sweep + MAX_SWEEP_DELAY)
        {
            self.expire(now);
            self.next_sweep = now + SWEEP_INTERVAL;
            if !self.connection.calls.keeps_sweeping() {
                return;
            }
        }
        let next = clock::timer(self.next_sweep);
        let Some(timer) = &mut self.sweep_timer else {
            return;
        };
        if timer.deadline() != next {
            timer.as_mut().reset(next);
        }
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn expire(&mut self, now: Instant) {
        let Connection {
            agent,
            calls,
            timeline,
            ..
        } = &*self.connection;
        self.completer.expire(timeline.ticks(now), |id| {
            calls.expect_late_answer(agent.keys.key(id));
            Err(CallEnd::TimedOut)
        });
    }
}

/// Returns the maximum length of a message. Answers have that of a frame.
fn max_len(message: Option<MessageType>) -> usize {
    match message {
        Some(MessageType::AgentResponse) => MAX_FRAME_LEN,
        Some(MessageType::MetricsReport | MessageType::ConfigUpdateRequest) => MAX_LIST_LEN,
        _ => MAX_CONTROL_LEN,
    }
}

/// Records an answer by correlation id that no pending call waits for.
fn note_unmatched_answer(connection: &Connection, key: u64, correlation_id: &str) {
    let fault = if connection.calls.expected_late_answers.remove(key) {
        connection.recover();
        Fault::LateAnswer
    } else {
        Fault::UnmatchedAnswer
    };
    let detail = format_args!("correlation id {correlation_id:?}");
    connection.agent.record_fault(fault, &detail);
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.connection.close();
        self.connection.outbound.close_link();
        self.completer
            .complete_all(|_| Err(CallEnd::ConnectionClosed));
        self.connection.outbound.queue.discard();
        self.connection.pings.clear();
        self.connection.calls.drop_commands();
    }
}
