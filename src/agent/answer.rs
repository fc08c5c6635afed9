//! Decodes the frame of an event, calls the handler and encodes the frame of its answer.

use crate::clock;
use crate::handler::{AgentHandler, ExchangeOrder, configured, error_answer, inspect, poll_until};
use crate::log::{NO_PEER, log_line};
#[cfg(feature = "grpc")]
use crate::protocol::Timestamp;

use crate::protocol::{AgentResponse, EventType};
use crate::wire::{
    AnswerTo, DecodeError, Dialect, EventScratch, Form, FrameError, IncomingEvent, JsonParser,
    OutgoingFrame, StreamId, Undecodable, encode_answer,
};
use bytes::{Bytes, BytesMut};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// Buffers that grew larger than this for one answer are freed.
const MAX_KEPT_ANSWER: usize = 4 * 1024;

/// A received event, with everything that is needed to answer it.
pub(super) struct Job {
    pub(super) event_type: EventType,
    pub(super) dialect: Dialect,
    /// Set if the dialect has streams.
    pub(super) stream: Option<StreamId>,
    pub(super) payload: BytesMut,
    pub(super) arrival: Arrival,
    pub(super) scratch: Box<Scratch>,
    pub(super) order: Arc<ExchangeOrder>,
    pub(super) progress: Arc<Progress>,
}

/// Time at which an event arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) at: Instant,
    /// Set if the event is the first of those that arrived then, so that none has delayed it.
    pub(super) is_first: bool,
}

impl Arrival {
    /// Returns that of an event that arrives now.
    pub(super) fn now() -> Self {
        Self {
            at: clock::now(),
            is_first: true,
        }
    }
}

/// Buffers that are reused from one event to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The frame of the answer.
    pub(super) frame: OutgoingFrame,
    parser: JsonParser,
    texts: EventScratch,
}

impl Scratch {
    /// Returns the frame of the answer.
    #[cfg(feature = "grpc")]
    pub(super) fn into_frame(self) -> OutgoingFrame {
        self.frame
    }

    /// Returns the bytes that the parser keeps.
    pub(super) fn kept(&self) -> usize {
        self.parser.memory()
    }

    /// Frees the buffer if an unusually large answer made it grow.
    pub(super) fn shrink(&mut self) {
        if self.frame.written.capacity() > MAX_KEPT_ANSWER {
            self.frame = OutgoingFrame::default();
        }
    }
}

/// State of an event whose handler is pending, as far as the session needs it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// [`ExchangeOrder::key`] of its exchange.
    key: AtomicU64,
    /// `true` while the event waits for an earlier one of its exchange rather than for its handler.
    queued: AtomicBool,
    /// Memory of the decoded event in bytes, apart from its payload.
    decoded_len: AtomicUsize,
}

impl Progress {
    pub(super) fn key(&self) -> u64 {
        self.key.load(Ordering::Relaxed)
    }

    pub(super) fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Relaxed)
    }

    pub(super) fn decoded_len(&self) -> usize {
        self.decoded_len.load(Ordering::Relaxed)
    }
}

/// Result of a [`Job`], with its buffers for the next one.
pub(super) struct JobResult {
    pub(super) scratch: Box<Scratch>,
    pub(super) result: Result<(), FatalEvent>,
}

/// An event that ends its session.
#[derive(Debug, thiserror::Error)]
pub(super) enum FatalEvent {
    /// The event does not decode.
    #[error("{0}; the event has no readable id that an answer could refer to")]
    Unanswerable(DecodeError),
    /// The handler rejected settings, with this reason, and the proxy reads no answer to them.
    #[error("the agent rejects its settings: {0}")]
    SettingsRejected(Box<str>),
}

/// Decodes an event, calls the handler and encodes the answer.
pub(super) async fn answer<H: AgentHandler>(handler: Arc<H>, job: Job) -> JobResult {
    let Job {
        event_type,
        dialect,
        stream,
        mut payload,
        arrival,
        mut scratch,
        order,
        progress,
    } = job;
    let Scratch {
        frame,
        parser,
        texts,
    } = &mut *scratch;
    let mut context = AnswerContext {
        handler: &*handler,
        order: &order,
        progress: &progress,
        dialect,
        stream,
        arrival,
        deadline: None,
    };
    let result = match dialect.form() {
        Form::MessagePack => {
            let payload = payload.freeze();
            match IncomingEvent::from_msgpack(event_type, &payload) {
                Ok(event) => context.call_handler(event, frame).await,
                Err(undecodable) => context.block(undecodable, frame).await,
            }
        }
        Form::Compact => {
            let payload = payload.freeze();
            let mut time_left = None;
            let result =
                match IncomingEvent::from_compact(event_type, &payload, texts, &mut time_left) {
                    Ok(event) => {
                        context.deadline = time_left.and_then(|left| arrival.at.checked_add(left));
                        context.call_handler(event, frame).await
                    }
                    Err(undecodable) => context.block(undecodable, frame).await,
                };
            texts.release();
            result
        }
        #[cfg(feature = "grpc")]
        Form::Protobuf => {
            let payload = payload.freeze();
            let mut timestamp = Timestamp::default();
            match IncomingEvent::from_protobuf(event_type, &payload, &mut timestamp) {
                Ok(event) => context.call_handler(event, frame).await,
                Err(undecodable) => context.block(undecodable, frame).await,
            }
        }
        Form::Json => match parser.parse(&mut payload) {
            Ok(document) => {
                progress
                    .decoded_len
                    .store(document.memory(), Ordering::Relaxed);
                let result = match IncomingEvent::from_json(event_type, &document) {
                    Ok(event) => context.call_handler(event, frame).await,
                    Err(undecodable) => context.block(undecodable, frame).await,
                };
                parser.reclaim(document);
                result
            }
            Err(kind) => {
                let error = DecodeError::in_message(event_type.as_str())(kind);
                context
                    .block(parser.undecodable(error, &payload), frame)
                    .await
            }
        },
    };
    JobResult { scratch, result }
}

/// Everything but the event and the buffers that is needed to answer an event.
struct AnswerContext<'a, H> {
    handler: &'a H,
    order: &'a ExchangeOrder,
    progress: &'a Progress,
    dialect: Dialect,
    stream: Option<StreamId>,
    arrival: Arrival,
    /// Time after which nobody waits for the answer, if the proxy says so.
    deadline: Option<Instant>,
}

impl<H: AgentHandler> AnswerContext<'_, H> {
    #[expect(
        clippy::manual_async_fn,
        reason = "the future of an `async fn` holds its arguments twice"
    )]
    fn call_handler(
        &self,
        event: IncomingEvent<'_>,
        frame: &mut OutgoingFrame,
    ) -> impl Future<Output = Result<(), FatalEvent>> {
        async move {
            let id = event.correlation_id();
            let has_waited = self.wait_for_turn(id).await;
            if (has_waited || !self.arrival.is_first) && self.is_expired() {
                write(
                    &error_answer("expired"),
                    self.answer_to(id),
                    self.dialect,
                    frame,
                );
                return Ok(());
            }
            let handler = self.handler;
            macro_rules! respond {
                ($($event:ident by $method:ident),*; $($other:tt)*) => {
                    match event {
                        $(IncomingEvent::$event(event) => {
                            let response = pin!(handler.$method(event));
                            self.respond(response, id, frame).await
                        })*
                        $($other)*
                    }
                };
            }
            respond! {
                RequestHeaders by on_request_headers,
                RequestBodyChunk by on_request_body_chunk,
                ResponseHeaders by on_response_headers,
                ResponseBodyChunk by on_response_body_chunk,
                RequestComplete by on_request_complete,
                WebSocketFrame by on_websocket_frame;
                IncomingEvent::GuardrailInspect(event) => {
                    self.respond(pin!(inspect(handler, event)), id, frame).await
                }
                IncomingEvent::Configure(event) => {
                    let mut outcome = pin!(handler.on_configure(event));
                    let outcome =
                        poll_fn(|cx| poll_until(self.deadline, outcome.as_mut(), cx)).await;
                    self.answer_settings(outcome, id, frame)
                }
            }
        }
    }

    /// Waits for the handler's response and encodes it.
    async fn respond(
        &self,
        mut response: Pin<&mut impl Future<Output = AgentResponse>>,
        correlation_id: &str,
        frame: &mut OutgoingFrame,
    ) -> Result<(), FatalEvent> {
        let to = self.answer_to(correlation_id);
        poll_fn(|cx| {
            // The response is written where it is returned: it is large, and every move copies it.
            poll_until(self.deadline, response.as_mut(), cx)
                .map(|response| write(&response, to, self.dialect, frame))
        })
        .await;
        Ok(())
    }

    /// Encodes the answer to settings. If the proxy may not read it, a rejection also ends the
    /// session.
    fn answer_settings(
        &self,
        outcome: Result<(), String>,
        correlation_id: &str,
        frame: &mut OutgoingFrame,
    ) -> Result<(), FatalEvent> {
        let rejection = match &outcome {
            Err(reason) if self.dialect.confirms_settings_by_pong() => Some(reason.as_str().into()),
            _ => None,
        };
        let to = self.answer_to(correlation_id);
        write(&configured(outcome), to, self.dialect, frame);
        rejection.map_or(Ok(()), |reason| Err(FatalEvent::SettingsRejected(reason)))
    }

    fn is_expired(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| deadline <= clock::now())
    }

    /// Waits until the earlier events of the exchange are answered. Returns whether there were any.
    async fn wait_for_turn(&self, correlation_id: &str) -> bool {
        let key = self.order.key(correlation_id);
        self.progress.key.store(key, Ordering::Relaxed);
        let turn = self.order.enter(key);
        self.progress
            .queued
            .store(turn.is_some(), Ordering::Relaxed);
        let Some(turn) = turn else {
            return false;
        };
        // The sender is dropped only together with the session.
        let _ = turn.await;
        true
    }

    /// Answers an event that does not decode with a block. Allowing it would let an agent be
    /// bypassed by malformed events.
    async fn block(
        &self,
        undecodable: Undecodable,
        frame: &mut OutgoingFrame,
    ) -> Result<(), FatalEvent> {
        let Undecodable {
            error,
            correlation_id,
        } = undecodable;
        if correlation_id.is_none() && self.stream.is_none() {
            return Err(FatalEvent::Unanswerable(error));
        }
        let correlation_id = correlation_id.unwrap_or_default();
        self.wait_for_turn(&correlation_id).await;
        let peer = self.order.peer();
        log_line!(
            warn, peer, { peer, correlation_id, error },
            "blocked an event that does not decode"
        );
        let (response, to) = (
            error_answer(error.kind().code()),
            self.answer_to(&correlation_id),
        );
        write(&response, to, self.dialect, frame);
        Ok(())
    }

    fn answer_to<'i>(&self, correlation_id: &'i str) -> AnswerTo<'i> {
        answer_to(self.stream, correlation_id)
    }
}

fn answer_to(stream: Option<StreamId>, correlation_id: &str) -> AnswerTo<'_> {
    stream.map_or(AnswerTo::CorrelationId(correlation_id), AnswerTo::Stream)
}

fn write(response: &AgentResponse, to: AnswerTo<'_>, dialect: Dialect, frame: &mut OutgoingFrame) {
    let encoded = encode_answer(response, to, dialect, &mut frame.written);
    frame.body = encoded.unwrap_or_else(|error| write_too_large(error, to, dialect, frame));
}

fn write_too_large(
    error: FrameError,
    to: AnswerTo<'_>,
    dialect: Dialect,
    frame: &mut OutgoingFrame,
) -> Bytes {
    let to_event = format_args!("{to:?}");
    log_line!(
        error, NO_PEER, { to = to_event, error },
        "the answer is too large for a frame; blocked the event instead"
    );
    let response = error_answer("response_too_large");
    // Can fail only if the correlation id alone fills a frame. Then nothing is sent, and the call
    // ends at its deadline.
    encode_answer(&response, to, dialect, &mut frame.written).unwrap_or_default()
}

/// Encodes the answer to an event whose handler was dropped because the proxy cancelled it.
pub(super) fn write_cancelled(
    correlation_id: &str,
    stream: Option<StreamId>,
    dialect: Dialect,
    out: &mut Vec<u8>,
) {
    let to = answer_to(stream, correlation_id);
    // Can fail only if the correlation id alone fills a frame, and then the cancel message could
    // not have arrived.
    let _ = encode_answer(&error_answer("cancelled"), to, dialect, out);
}
