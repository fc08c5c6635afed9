use super::link::LinkReceiver;
use super::lost::Lost;
use super::slots::Completer;
use super::{CallFailure, Command, Connection, NANOSECONDS_PER_TICK, Reply};
use crate::metrics::Fault;
use crate::protocol::AgentNotice;
use crate::wire::{
    Answer, DecodeError, DecodeErrorKind, Encoding, FrameBuffer, JsonTape, MAX_FRAME_LEN,
    MessageType, Payload, StreamId, Undecodable, control, decode_answer,
};
use bytes::{Bytes, BytesMut};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::{Sleep, sleep_until};

/// How often passed deadlines are looked for while calls are pending. A call ends at most this long
/// after its deadline.
const SWEEP_INTERVAL: Duration = Duration::from_millis(5);

/// Frames before other tasks, and the deadlines of this connection, get their turn.
const MAX_FRAMES_AT_ONCE: usize = 256;

/// A ping is a number and a time; much longer ones are not answered, as pongs wait in the outbox.
const MAX_PING_LEN: usize = 128 * 1024;

/// Reads what an agent sends: answers go to their calls, everything else to the connection's state.
///
/// When it ends or is dropped, the connection is over and every pending call fails.
pub(crate) struct Inbound {
    connection: Arc<Connection>,
    receiver: Box<dyn LinkReceiver>,
    completer: Completer<Reply>,
    buffer: FrameBuffer,
    tape: JsonTape,
    /// When passed deadlines are looked for next.
    next_sweep: Instant,
    /// Wakes the task then. A busy task looks by itself, since a runtime under load fires timers late.
    sweep_timer: Option<Pin<Box<Sleep>>>,
}

impl Inbound {
    pub(super) fn new(
        connection: Arc<Connection>,
        receiver: Box<dyn LinkReceiver>,
        completer: Completer<Reply>,
        buffer: FrameBuffer,
    ) -> Self {
        Self {
            connection,
            receiver,
            completer,
            buffer,
            tape: JsonTape::default(),
            next_sweep: Instant::now(),
            sweep_timer: None,
        }
    }

    /// Serves the connection until it ends.
    pub(crate) async fn run(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.connection.inbound.register(cx.waker());
        // First, so that no flood of messages keeps a deadline from passing.
        self.sweep(cx);
        // What came before the end still counts.
        if let Err(cause) = self.receive(cx) {
            if let Lost::Frame(error) = &cause {
                self.connection.fault(Fault::InvalidFrame, error);
            }
            self.connection.lose(&cause);
        }
        while let Some(command) = self.connection.commands.pop() {
            self.obey(command);
        }
        if !self.connection.is_open() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        let mut left = MAX_FRAMES_AT_ONCE;
        loop {
            while let Some((message, payload)) = self.buffer.next_frame(MAX_FRAME_LEN)? {
                self.dispatch(message, payload);
                left -= 1;
                if left == 0 {
                    cx.waker().wake_by_ref();
                    return Ok(());
                }
            }
            match self.receiver.poll_receive(cx, self.buffer.spare()) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => {
                    return Err(Lost::Ended {
                        in_frame: !self.buffer.is_empty(),
                    });
                }
                Poll::Ready(received) => {
                    received?;
                    let now = self.connection.nanoseconds(Instant::now());
                    self.completer.note_received(now);
                    self.connection
                        .last_received
                        .store(now / NANOSECONDS_PER_TICK, Ordering::Relaxed);
                }
            }
        }
    }

    fn dispatch(&mut self, number: u8, payload: BytesMut) {
        match MessageType::from_number(number) {
            Some(MessageType::AgentResponse) => self.answer(payload),
            Some(MessageType::FlowControl) => self.flow_control(&payload.freeze()),
            Some(MessageType::HealthStatus) => self.health(&payload.freeze()),
            Some(MessageType::MetricsReport) => {
                self.metrics_report(&payload.freeze());
            }
            Some(MessageType::ConfigUpdateRequest) => {
                self.config_update(&payload.freeze());
            }
            Some(MessageType::Log) if self.connection.dialect.has_streams() => {
                self.log(&payload.freeze());
            }
            Some(MessageType::Ping) => self.pong(&payload),
            Some(MessageType::Pong) => self.pinged(&payload.freeze()),
            _ => self.connection.fault(
                Fault::UnexpectedMessage,
                &format_args!("message type {number:#04x}"),
            ),
        }
    }

    fn answer(&mut self, mut payload: BytesMut) {
        if !self.connection.dialect.has_streams() {
            return self.answer_by_id(payload);
        }
        match StreamId::take_from(&mut payload, self.connection.dialect.encoding) {
            Ok(stream) => self.answer_on_stream(stream, payload),
            Err(kind) => self.unmatchable(kind),
        }
    }

    fn answer_on_stream(&mut self, stream: StreamId, payload: BytesMut) {
        let encoding = self.connection.dialect.encoding;
        let reply = decode(encoding, payload, &mut self.tape, |answer| answer.response).map_err(
            |Undecodable { error, .. }| {
                self.connection.fault(Fault::UndecodableAnswer, &error);
                CallFailure::Undecodable(error)
            },
        );
        if self.completer.complete_stream(stream, reply).is_err() {
            let fault = if self.completer.has_seen(stream) {
                self.connection.condition.succeeded();
                Fault::LateAnswer
            } else {
                Fault::UnmatchedAnswer
            };
            self.connection
                .fault(fault, &format_args!("stream {stream}"));
        }
    }

    fn answer_by_id(&mut self, payload: BytesMut) {
        let (connection, completer) = (&self.connection, &mut self.completer);
        let deliver = |answer: Answer<'_>| {
            let id = answer.correlation_id?;
            let key = connection.agent.keys.key(id);
            if completer.complete(id, key, Ok(answer.response)).is_err() {
                unwanted(connection, key, id);
            }
            Some(())
        };
        match decode(
            connection.dialect.encoding,
            payload,
            &mut self.tape,
            deliver,
        ) {
            Ok(Some(())) => {}
            Ok(None) => self.unmatchable(DecodeErrorKind::Missing("audit.custom.correlation_id")),
            Err(undecodable) => self.undecodable(undecodable),
        }
    }

    /// The deadline ends a call whose answer does not say what it answers.
    fn unmatchable(&self, kind: DecodeErrorKind) {
        let error = DecodeError::in_message("agent response")(kind);
        self.connection.fault(Fault::UndecodableAnswer, &error);
    }

    /// The call that a broken answer belongs to fails; if the answer does not even say which that is,
    /// the deadline ends it.
    fn undecodable(&mut self, undecodable: Undecodable) {
        let Undecodable {
            error,
            correlation_id,
        } = undecodable;
        self.connection.fault(Fault::UndecodableAnswer, &error);
        let Some(id) = correlation_id else {
            return;
        };
        let key = self.connection.agent.keys.key(&id);
        let failure = Err(CallFailure::Undecodable(error));
        if self.completer.complete(&id, key, failure).is_err() {
            self.connection.unanswered.remove(key);
        }
    }

    fn flow_control(&self, payload: &Bytes) {
        if let Some(message) = self.check(control::decode_flow_control(payload, self.encoding())) {
            let connection = &self.connection;
            let incidents = &connection.agent.incidents;
            let count = if connection.flow.apply(&message, &connection.agent.keys) {
                &incidents.pauses
            } else {
                &incidents.resumes
            };
            count.fetch_add(1, Ordering::Relaxed);
            connection.lines.resume();
            connection.agent.lines.resume();
        }
    }

    fn health(&self, payload: &Bytes) {
        if let Some(status) = self.check(control::decode_health(payload, self.encoding())) {
            let connection = &self.connection;
            connection
                .condition
                .report(&status.state, status.valid_until_ms);
            // It may take calls again, or leave those that wait to others.
            connection.agent.lines.wake();
            self.notify(|agent_id| AgentNotice::Health { agent_id, status });
        }
    }

    fn metrics_report(&self, payload: &Bytes) {
        if let Some(report) = self.check(control::decode_metrics_report(payload, self.encoding())) {
            self.connection.agent.reported(report);
        }
    }

    fn config_update(&self, payload: &Bytes) {
        if let Some(request) = self.check(control::decode_config_update(payload, self.encoding())) {
            self.notify(|agent_id| AgentNotice::ConfigUpdate {
                agent_id,
                request: request.clone(),
            });
            self.connection.take_update(request);
        }
    }

    fn log(&self, payload: &Bytes) {
        if let Some(message) = self.check(control::decode_log(payload, self.encoding())) {
            self.connection.agent.logged(message);
        }
    }

    fn notify(&self, notice: impl FnOnce(Arc<str>) -> AgentNotice) {
        self.connection.agent.notify(notice);
    }

    /// A peer that pings faster than it reads gets fewer pongs, rather than our memory.
    fn pong(&self, payload: &[u8]) {
        if payload.len() > MAX_PING_LEN {
            let detail = format_args!("a ping of {} bytes", payload.len());
            return self.connection.fault(Fault::UnexpectedMessage, &detail);
        }
        self.connection.try_push(MessageType::Pong, payload);
    }

    fn pinged(&self, payload: &Bytes) {
        let Some(pong) = self.check(control::decode_pong(payload, self.encoding())) else {
            return;
        };
        if let Some(waiting) = self.connection.pings().remove(&pong.sequence) {
            // Whoever asked may have given up meanwhile.
            let _ = waiting.send(());
        }
    }

    fn encoding(&self) -> Encoding {
        self.connection.dialect.encoding
    }

    fn check<T>(&self, decoded: Result<T, DecodeError>) -> Option<T> {
        decoded
            .map_err(|error| self.connection.fault(Fault::UndecodableMessage, &error))
            .ok()
    }

    fn obey(&mut self, command: Command) {
        let connection = &self.connection;
        match command {
            Command::Cancel { correlation_id } => {
                let key = connection.agent.keys.key(&correlation_id);
                // An answer to an earlier call may be missing already; that stays noted.
                let was_unanswered = connection.unanswered.contains(key);
                connection.note_unanswered(key);
                let cancelled = || Err(CallFailure::Cancelled);
                let completed = self
                    .completer
                    .complete_each(&correlation_id, key, cancelled);
                if completed == 0 && !was_unanswered {
                    connection.unanswered.remove(key);
                }
            }
            Command::CancelAll { cancelled } => {
                let mut ids = Vec::new();
                self.completer.complete_all(|id| {
                    connection.note_unanswered(connection.agent.keys.key(id));
                    ids.push(id.to_owned());
                    Err(CallFailure::Cancelled)
                });
                // Whoever asked may have given up meanwhile.
                let _ = cancelled.send(ids);
            }
        }
    }

    /// Fails calls whose deadline has passed, and looks again later as long as there are any.
    fn sweep(&mut self, cx: &mut Context<'_>) {
        if !self.connection.sweeping.load(Ordering::Acquire) {
            return;
        }
        let now = Instant::now();
        if now >= self.next_sweep {
            self.expire(now);
            self.next_sweep = now + SWEEP_INTERVAL;
            if !keeps_sweeping(&self.connection) {
                return;
            }
        }
        let next = self.next_sweep.into();
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
            connection.note_unanswered(connection.agent.keys.key(id));
            Err(CallFailure::TimedOut)
        });
    }
}

/// Stops sweeping while no call is pending; the next call starts it again.
fn keeps_sweeping(connection: &Connection) -> bool {
    if connection.slots.pending() > 0 {
        return true;
    }
    connection.sweeping.store(false, Ordering::Release);
    // Pairs with the fence in `SlotTable::open`: a call that still sees `sweeping` set is in the table.
    fence(Ordering::SeqCst);
    connection.slots.pending() > 0 && !connection.sweeping.swap(true, Ordering::AcqRel)
}

fn decode<T>(
    encoding: Encoding,
    mut payload: BytesMut,
    tape: &mut JsonTape,
    accept: impl FnOnce(Answer<'_>) -> T,
) -> Result<T, Undecodable> {
    match encoding {
        Encoding::Json => decode_answer(Payload::Json(&mut payload, tape), accept),
        Encoding::MessagePack => decode_answer(Payload::MessagePack(&payload.freeze()), accept),
        #[cfg(feature = "grpc")]
        Encoding::Protobuf => decode_answer(Payload::Protobuf(&payload.freeze()), accept),
    }
}

fn unwanted(connection: &Connection, key: u64, correlation_id: &str) {
    let fault = if connection.unanswered.remove(key) {
        connection.condition.succeeded();
        Fault::LateAnswer
    } else {
        Fault::UnmatchedAnswer
    };
    connection.fault(fault, &format_args!("correlation id {correlation_id:?}"));
}

impl Drop for Inbound {
    fn drop(&mut self) {
        self.connection.close();
        self.connection.sender.close();
        self.completer.complete_all(|_| Err(CallFailure::Closed));
        self.connection.outbox.discard();
        self.connection.pings().clear();
        self.connection.drop_commands();
    }
}
