//! The receive task: reads what the agent sends, completes calls and expires them.

use super::link::LinkReceiver;
use super::receive_error::ReceiveError;
use super::slots::Completer;
use super::{
    CallEnd, Command, Connection, ConnectionConfig, FrameTimer, NANOSECONDS_PER_TICK, SlotValue,
    Turn,
};
use crate::blocking;
use crate::clock;
use crate::memory::MemoryAccount;
use crate::metrics::Fault;
use crate::protocol::{ConfigUpdateRequest, FlowControl, HealthStatus, LogMessage, MetricsReport};
use crate::wire::{
    Answer, DecodeError, DecodeErrorKind, Decoder, Encoding, FrameBuffer, MAX_FRAME_LEN,
    MessageType, StreamId, Undecodable, control,
};
use bytes::{Bytes, BytesMut};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
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
    connection: Arc<Connection>,
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
            decoder: Decoder::new(connection.dialect.encoding),
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

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Serves the connection until the agent reports something. Returns `None` once the connection
    /// has ended.
    pub(crate) async fn next(&mut self) -> Option<Received> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        self.connection.inbound_waker.register(cx.waker());
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
                    self.connection.record_fault(Fault::InvalidFrame, error);
                }
                if self.connection.dialect.confirms_settings_by_pong() {
                    // Before the connection is closed, so that calls with settings find it.
                    let _ = self.connection.end_of_receiving.set(cause.to_string());
                }
                self.connection.close_on_error(&cause);
            }
        }
        self.sweep(has_received_all, cx);
        while let Some(command) = self.connection.commands.pop() {
            self.execute(command);
        }
        if !self.connection.is_open() {
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
                cx.waker().wake_by_ref();
                return Ok(Poll::Pending);
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
                    let now = self.connection.nanoseconds(clock::now());
                    self.completer.note_received(now);
                    self.connection
                        .last_received
                        .store(now / NANOSECONDS_PER_TICK, Ordering::Relaxed);
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
            self.connection
                .record_fault(Fault::UnexpectedMessage, &detail);
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
            Some(MessageType::FlowControl) => self.on_flow_control(&payload.freeze()),
            Some(MessageType::HealthStatus) => return self.on_health(&payload.freeze()),
            Some(MessageType::MetricsReport) => {
                let report = control::decode(&payload.freeze(), self.encoding());
                return self.accept(report).map(AgentEvent::Metrics);
            }
            Some(MessageType::ConfigUpdateRequest) => {
                let request = control::decode(&payload.freeze(), self.encoding());
                return self.accept(request).map(AgentEvent::ConfigUpdate);
            }
            Some(MessageType::Log) if self.connection.dialect.has_streams() => {
                let message = control::decode(&payload.freeze(), self.encoding());
                return self.accept(message).map(AgentEvent::Log);
            }
            Some(MessageType::Ping) => self.on_ping(&payload),
            Some(MessageType::Pong) => self.on_pong(&payload.freeze()),
            _ => self.connection.record_fault(
                Fault::UnexpectedMessage,
                &format_args!("message type {number:#04x}"),
            ),
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
            self.connection
                .record_fault(Fault::UndecodableAnswer, &error);
            CallEnd::Undecodable(error)
        });
        if self.completer.complete_stream(stream, value).is_err() {
            let fault = if self.completer.has_seen(stream) {
                self.connection.recover();
                Fault::LateAnswer
            } else {
                Fault::UnmatchedAnswer
            };
            self.connection
                .record_fault(fault, &format_args!("stream {stream}"));
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
            Ok(None) => self
                .note_unmatchable_answer(DecodeErrorKind::Missing("audit.custom.correlation_id")),
            Err(undecodable) => self.fail_undecodable(undecodable),
        }
    }

    /// Records an answer that names no call. The call that it was meant for ends at its deadline.
    fn note_unmatchable_answer(&self, kind: DecodeErrorKind) {
        let error = DecodeError::in_message("agent response")(kind);
        self.connection
            .record_fault(Fault::UndecodableAnswer, &error);
    }

    /// Fails the call of an answer that could not be decoded. If the answer's correlation id could
    /// not be read either, the call ends at its deadline.
    fn fail_undecodable(&mut self, undecodable: Undecodable) {
        let Undecodable {
            error,
            correlation_id,
        } = undecodable;
        self.connection
            .record_fault(Fault::UndecodableAnswer, &error);
        let Some(id) = correlation_id else {
            return;
        };
        let key = self.connection.agent.keys.key(&id);
        let failure = Err(CallEnd::Undecodable(error));
        if self.completer.complete(&id, key, failure).is_err() {
            self.connection.expected_late_answers.remove(key);
        }
    }

    fn on_flow_control(&self, payload: &Bytes) {
        if let Some(message) = self.accept(control::decode::<FlowControl>(payload, self.encoding()))
        {
            let connection = &self.connection;
            let count = if connection.flow.apply(&message, &connection.agent.keys) {
                &connection.agent.pauses
            } else {
                &connection.agent.resumes
            };
            count.fetch_add(1, Ordering::Relaxed);
            // Calls that wait for a slot as well: the free slots of a paused connection were not
            // theirs.
            connection.queues.wake();
            connection.agent.queues.wake();
        }
    }

    fn on_health(&self, payload: &Bytes) -> Option<AgentEvent> {
        let status = self.accept(control::decode::<HealthStatus>(payload, self.encoding()))?;
        let connection = &self.connection;
        connection
            .health
            .report(&status.state, status.valid_until_ms);
        // The agent may take calls again, or waiting calls may have to use other connections.
        connection.agent.queues.wake();
        Some(AgentEvent::Health(status))
    }

    /// Answers a ping. The pong is dropped if the send queue is full, which bounds memory if an
    /// agent sends pings faster than it reads.
    fn on_ping(&self, payload: &[u8]) {
        self.connection.try_send_control(MessageType::Pong, payload);
    }

    /// Completes the ping that a pong answers.
    fn on_pong(&self, payload: &Bytes) {
        let Some(pong) = self.accept(control::decode_pong(payload, self.encoding())) else {
            return;
        };
        if let Some(waiting) = self.connection.pings().remove(&pong.sequence) {
            // The caller may have dropped its future meanwhile.
            let _ = waiting.send(());
        }
    }

    fn encoding(&self) -> Encoding {
        self.connection.dialect.encoding
    }

    /// Returns a decoded message, or records a fault if it could not be decoded.
    fn accept<T>(&self, decoded: Result<T, DecodeError>) -> Option<T> {
        decoded
            .map_err(|error| {
                self.connection
                    .record_fault(Fault::UndecodableMessage, &error);
            })
            .ok()
    }

    fn execute(&mut self, command: Command) {
        let connection = &self.connection;
        match command {
            Command::Cancel { correlation_id } => {
                let key = connection.agent.keys.key(&correlation_id);
                // Recorded before the calls end, so that a caller that opens another call of this
                // exchange as soon as the slot is free finds the record. If no call was pending,
                // the record is removed again, unless it stems from an earlier call.
                let was_expected = connection.expected_late_answers.contains(key);
                connection.expect_late_answer(key);
                let cancelled = || Err(CallEnd::Cancelled);
                let completed = self
                    .completer
                    .complete_each(&correlation_id, key, cancelled);
                if completed == 0 && !was_expected {
                    connection.expected_late_answers.remove(key);
                }
            }
            Command::CancelAll { cancelled } => {
                let mut ids = Vec::new();
                self.completer.complete_all(|id| {
                    connection.expect_late_answer(connection.agent.keys.key(id));
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
        if !self.connection.is_sweeping.load(Ordering::Acquire) {
            return;
        }
        let now = clock::now();
        if now >= self.next_sweep && (has_received_all || now >= self.next_sweep + MAX_SWEEP_DELAY)
        {
            self.expire(now);
            self.next_sweep = now + SWEEP_INTERVAL;
            if !keeps_sweeping(&self.connection) {
                return;
            }
        }
        let next = clock::timer(self.next_sweep);
        let timer = self
            .sweep_timer
            .get_or_insert_with(|| Box::pin(sleep_until(next)));
        if timer.deadline() != next {
            timer.as_mut().reset(next);
        }
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn expire(&mut self, now: Instant) {
        let connection = &self.connection;
        self.completer.expire(connection.ticks(now), |id| {
            connection.expect_late_answer(connection.agent.keys.key(id));
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

/// Returns whether to go on checking deadlines. Stops it while no call is pending; the next call
/// starts it again.
fn keeps_sweeping(connection: &Connection) -> bool {
    if connection.slots.pending() > 0 {
        return true;
    }
    connection.is_sweeping.store(false, Ordering::Release);
    // Pairs with the fence in `SlotTable::open`. A caller opens its slot first and reads
    // `is_sweeping` afterwards. If it still reads `true` here, and so does not wake this task, its
    // slot is seen by the count below.
    fence(Ordering::SeqCst);
    connection.slots.pending() > 0 && !connection.is_sweeping.swap(true, Ordering::AcqRel)
}

/// Records an answer by correlation id that no pending call waits for.
fn note_unmatched_answer(connection: &Connection, key: u64, correlation_id: &str) {
    let fault = if connection.expected_late_answers.remove(key) {
        connection.recover();
        Fault::LateAnswer
    } else {
        Fault::UnmatchedAnswer
    };
    connection.record_fault(fault, &format_args!("correlation id {correlation_id:?}"));
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.connection.close();
        self.connection.sender.close();
        self.completer
            .complete_all(|_| Err(CallEnd::ConnectionClosed));
        self.connection.send_queue.discard();
        self.connection.pings().clear();
        self.connection.drop_commands();
    }
}
