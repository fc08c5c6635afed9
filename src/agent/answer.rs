//! From the frame of an event to the frame of its answer.

use super::handler::AgentHandler;
use super::order::Order;
#[cfg(feature = "grpc")]
use crate::protocol::Timestamp;
use crate::protocol::{AgentResponse, AuditMetadata, EventType};
use crate::wire::{
    AnswerTo, DecodeError, Dialect, Encoding, FrameError, IncomingEvent, JsonTape, OutgoingFrame,
    StreamId, Undecodable, encode_response,
};
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// An event to be answered.
pub(super) struct Job {
    pub(super) event_type: EventType,
    pub(super) dialect: Dialect,
    /// Where the dialect has streams.
    pub(super) stream: Option<StreamId>,
    pub(super) payload: BytesMut,
    pub(super) scratch: Box<Scratch>,
    pub(super) order: Arc<Order>,
    pub(super) progress: Arc<Progress>,
}

/// Memory that is passed from event to event.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The answer.
    pub(super) frame: OutgoingFrame,
    tape: JsonTape,
}

/// A buffer that grew larger for one answer is not kept.
const MAX_KEPT_ANSWER: usize = 4 * 1024;

impl Scratch {
    /// The frame of the answer.
    #[cfg(feature = "grpc")]
    pub(super) fn into_frame(self) -> OutgoingFrame {
        self.frame
    }

    /// Gives back memory that an unusually large answer took.
    pub(super) fn shrink(&mut self) {
        if self.frame.written.capacity() > MAX_KEPT_ANSWER {
            self.frame = OutgoingFrame::default();
        }
    }
}

/// What can be seen of an event whose handler waits.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// [`Order::key`] of its exchange.
    key: AtomicU64,
    /// Whether it waits for an earlier event of its exchange rather than in its handler.
    in_line: AtomicBool,
}

impl Progress {
    pub(super) fn key(&self) -> u64 {
        self.key.load(Ordering::Relaxed)
    }

    pub(super) fn is_in_line(&self) -> bool {
        self.in_line.load(Ordering::Relaxed)
    }
}

/// What became of an event.
pub(super) struct Done {
    pub(super) scratch: Box<Scratch>,
    pub(super) result: Result<(), Unanswerable>,
}

/// An event that does not decode, not even what its answer would be matched by.
#[derive(Debug, thiserror::Error)]
#[error("{0}, nor can it be told what the answer would be matched by")]
pub(super) struct Unanswerable(pub(super) DecodeError);

/// Decodes an event, has the handler decide and encodes the answer.
pub(super) async fn answer<H: AgentHandler>(handler: Arc<H>, job: Job) -> Done {
    let Job {
        event_type,
        dialect,
        stream,
        mut payload,
        mut scratch,
        order,
        progress,
    } = job;
    let Scratch { frame, tape } = &mut *scratch;
    let asked = Asked {
        handler: &*handler,
        order: &order,
        progress: &progress,
        dialect,
        stream,
    };
    let result = match dialect.encoding {
        Encoding::MessagePack => {
            let payload = payload.freeze();
            match IncomingEvent::from_msgpack(event_type, &payload) {
                Ok(event) => asked.decide(event, frame).await,
                Err(undecodable) => asked.reject(undecodable, frame).await,
            }
        }
        #[cfg(feature = "grpc")]
        Encoding::Protobuf => {
            let payload = payload.freeze();
            let mut timestamp = Timestamp::default();
            match IncomingEvent::from_protobuf(event_type, &payload, &mut timestamp) {
                Ok(event) => asked.decide(event, frame).await,
                Err(undecodable) => asked.reject(undecodable, frame).await,
            }
        }
        Encoding::Json => match tape.open(&mut payload) {
            Ok(document) => {
                let result = match IncomingEvent::from_json(event_type, &document) {
                    Ok(event) => asked.decide(event, frame).await,
                    Err(undecodable) => asked.reject(undecodable, frame).await,
                };
                tape.close(document);
                result
            }
            Err(kind) => {
                let error = DecodeError::in_message(event_type.as_str())(kind);
                asked.reject(tape.undecodable(error, &payload), frame).await
            }
        },
    };
    Done { scratch, result }
}

/// Whom an event is put to, and how the answer is written.
struct Asked<'a, H> {
    handler: &'a H,
    order: &'a Order,
    progress: &'a Progress,
    dialect: Dialect,
    stream: Option<StreamId>,
}

impl<H: AgentHandler> Asked<'_, H> {
    #[expect(
        clippy::manual_async_fn,
        reason = "the future of an `async fn` holds its arguments twice"
    )]
    fn decide(
        &self,
        event: IncomingEvent<'_>,
        frame: &mut OutgoingFrame,
    ) -> impl Future<Output = Result<(), Unanswerable>> {
        async move {
            let id = event.correlation_id();
            self.wait_for_turn(id).await;
            let handler = self.handler;
            match event {
                IncomingEvent::RequestHeaders(event) => {
                    self.respond(handler.on_request_headers(event), id, frame)
                        .await
                }
                IncomingEvent::RequestBodyChunk(event) => {
                    self.respond(handler.on_request_body_chunk(event), id, frame)
                        .await
                }
                IncomingEvent::ResponseHeaders(event) => {
                    self.respond(handler.on_response_headers(event), id, frame)
                        .await
                }
                IncomingEvent::ResponseBodyChunk(event) => {
                    self.respond(handler.on_response_body_chunk(event), id, frame)
                        .await
                }
                IncomingEvent::RequestComplete(event) => {
                    self.respond(handler.on_request_complete(event), id, frame)
                        .await
                }
                IncomingEvent::WebSocketFrame(event) => {
                    self.respond(handler.on_websocket_frame(event), id, frame)
                        .await
                }
                IncomingEvent::GuardrailInspect(event) => {
                    self.respond(handler.on_guardrail_inspect(event), id, frame)
                        .await
                }
                IncomingEvent::Configure(event) => {
                    let response = async { configured(handler.on_configure(event).await) };
                    self.respond(response, id, frame).await
                }
            }
        }
    }

    /// Waits for the handler's response and writes it.
    #[expect(
        clippy::manual_async_fn,
        reason = "the future of an `async fn` holds its arguments twice"
    )]
    fn respond(
        &self,
        response: impl Future<Output = AgentResponse>,
        correlation_id: &str,
        frame: &mut OutgoingFrame,
    ) -> impl Future<Output = Result<(), Unanswerable>> {
        async move {
            let to = self.answer_to(correlation_id);
            write(&response.await, to, self.dialect, frame);
            Ok(())
        }
    }

    async fn wait_for_turn(&self, correlation_id: &str) {
        let key = self.order.key(correlation_id);
        self.progress.key.store(key, Ordering::Relaxed);
        let turn = self.order.enter(key);
        self.progress
            .in_line
            .store(turn.is_some(), Ordering::Relaxed);
        if let Some(turn) = turn {
            // The sender is dropped only together with the session.
            let _ = turn.await;
        }
    }

    /// An event that does not decode is blocked: allowing what was not understood would open a hole.
    async fn reject(
        &self,
        undecodable: Undecodable,
        frame: &mut OutgoingFrame,
    ) -> Result<(), Unanswerable> {
        let Undecodable {
            error,
            correlation_id,
        } = undecodable;
        if correlation_id.is_none() && self.stream.is_none() {
            return Err(Unanswerable(error));
        }
        let correlation_id = correlation_id.unwrap_or_default();
        self.wait_for_turn(&correlation_id).await;
        tracing::warn!(correlation_id, %error, "blocked an event");
        let response = failure(error.kind().code());
        write(
            &response,
            self.answer_to(&correlation_id),
            self.dialect,
            frame,
        );
        Ok(())
    }

    fn answer_to<'i>(&self, correlation_id: &'i str) -> AnswerTo<'i> {
        answer_to(self.stream, correlation_id)
    }
}

fn configured(accepted: bool) -> AgentResponse {
    if accepted {
        return AgentResponse::default_allow();
    }
    AgentResponse::block(500, Some("Configuration rejected".to_owned()))
}

fn answer_to(stream: Option<StreamId>, correlation_id: &str) -> AnswerTo<'_> {
    stream.map_or(AnswerTo::CorrelationId(correlation_id), AnswerTo::Stream)
}

fn write(response: &AgentResponse, to: AnswerTo<'_>, dialect: Dialect, frame: &mut OutgoingFrame) {
    let encoded = encode_response(response, to, dialect, &mut frame.written);
    frame.body = encoded.unwrap_or_else(|error| write_too_large(error, to, dialect, frame));
}

fn write_too_large(
    error: FrameError,
    to: AnswerTo<'_>,
    dialect: Dialect,
    frame: &mut OutgoingFrame,
) -> Bytes {
    tracing::error!(?to, %error, "the answer fits no frame; blocked instead");
    let response = failure("response_too_large");
    // Too small to fail, unless the id itself fills a frame; then its deadline ends the call.
    encode_response(&response, to, dialect, &mut frame.written).unwrap_or_default()
}

/// Answers an event whose handler was dropped because the proxy cancelled it.
pub(super) fn write_cancelled(
    correlation_id: &str,
    stream: Option<StreamId>,
    dialect: Dialect,
    out: &mut Vec<u8>,
) {
    let to = answer_to(stream, correlation_id);
    // Too small to fail, unless the id itself fills a frame, in which it could not have come.
    let _ = encode_response(&failure("cancelled"), to, dialect, out);
}

/// A block with status 500 that says why.
fn failure(code: &str) -> AgentResponse {
    AgentResponse::block(500, None).with_audit(AuditMetadata {
        reason_codes: vec!["agent_error".to_owned(), code.to_owned()],
        ..AuditMetadata::default()
    })
}
