//! Encoding of responses.

use super::parts::{write_audit, write_copied};
use crate::protocol::AgentResponse;
use crate::wire::StreamId;
use crate::wire::dialect::Dialect;
use crate::wire::encode::{Content, Sink};
use crate::wire::fields::write_if;
use crate::wire::frame::{FrameError, MessageType, write_frame};
#[cfg(feature = "grpc")]
use crate::wire::{Encoding, protobuf};
use bytes::Bytes;

/// Identifies the event that a response answers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum AnswerTo<'a> {
    CorrelationId(&'a str),
    Stream(StreamId),
}

/// Appends the frame of a response to `out`.
///
/// Returns the last part of the frame if it was not copied to `out`; it is sent after `out`.
pub(crate) fn encode_answer(
    response: &AgentResponse,
    to: AnswerTo<'_>,
    dialect: Dialect,
    out: &mut Vec<u8>,
) -> Result<Bytes, FrameError> {
    write_frame(out, MessageType::AgentResponse, dialect.max_frame, |out| {
        #[cfg(feature = "grpc")]
        if dialect.encoding == Encoding::Protobuf {
            return protobuf::write_answer(response, to, out);
        }
        let correlation_id = match to {
            AnswerTo::CorrelationId(id) => Some(id),
            AnswerTo::Stream(stream) => {
                stream.write(out);
                None
            }
        };
        ResponseWithId {
            response,
            correlation_id,
        }
        .write(dialect, out)
    })
}

/// A response and the correlation id to send with it, if any.
struct ResponseWithId<'a> {
    response: &'a AgentResponse,
    correlation_id: Option<&'a str>,
}

impl Content for ResponseWithId<'_> {
    fn write_to<S: Sink>(&self, sink: &mut S) {
        let response = self.response;
        // Peers that match responses by correlation id may expect every field.
        let is_written = |is_set: bool| self.correlation_id.is_some() || is_set;
        let request_headers = is_written(!response.request_headers.is_empty());
        let response_headers = is_written(!response.response_headers.is_empty());
        let routing_metadata = is_written(!response.routing_metadata.is_empty());
        let audit = is_written(!response.audit.is_empty());
        let needs_more = is_written(response.needs_more);
        let websocket_decision = is_written(response.websocket_decision.is_some());
        let request_body = is_written(response.request_body_mutation.is_some());
        let response_body = is_written(response.response_body_mutation.is_some());
        let optional_fields = [
            request_headers,
            response_headers,
            routing_metadata,
            audit,
            needs_more,
            websocket_decision,
            request_body,
            response_body,
        ];
        sink.begin_map(2 + optional_fields.iter().filter(|field| **field).count());
        write_if(true, "version", &response.version, sink);
        write_if(true, "decision", &response.decision, sink);
        write_if(
            request_headers,
            "request_headers",
            &response.request_headers,
            sink,
        );
        write_if(
            response_headers,
            "response_headers",
            &response.response_headers,
            sink,
        );
        write_if(
            routing_metadata,
            "routing_metadata",
            &response.routing_metadata,
            sink,
        );
        if audit {
            sink.key("audit");
            write_audit(&response.audit, self.correlation_id, sink);
        }
        write_if(needs_more, "needs_more", &response.needs_more, sink);
        write_if(
            websocket_decision,
            "websocket_decision",
            &response.websocket_decision,
            sink,
        );
        // Only the last value of the message need not be copied.
        if request_body && response_body {
            sink.key("request_body_mutation");
            write_copied(response.request_body_mutation.as_ref(), sink);
        } else {
            let mutation = &response.request_body_mutation;
            write_if(request_body, "request_body_mutation", mutation, sink);
        }
        let mutation = &response.response_body_mutation;
        write_if(response_body, "response_body_mutation", mutation, sink);
        sink.end_map();
    }
}
