//! Encoding of responses.

use super::parts::{Audit, Mutation};
use crate::protocol::AgentResponse;
use crate::wire::StreamId;
use crate::wire::dialect::{Dialect, Form};
use crate::wire::encode::{Content, Sink};
use crate::wire::fields::write_if;
use crate::wire::frame::{FrameError, MessageType, write_frame};
#[cfg(feature = "grpc")]
use crate::wire::protobuf;
use crate::wire::{compact, msgpack};
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
        let form = dialect.form();
        #[cfg(feature = "grpc")]
        if form == Form::Protobuf {
            return protobuf::write_answer(response, to, out);
        }
        let correlation_id = match to {
            AnswerTo::CorrelationId(id) => Some(id),
            AnswerTo::Stream(stream) => {
                stream.write(out);
                None
            }
        };
        if form == Form::Compact {
            let mut writer = msgpack::Writer::new(out, dialect.bodies());
            compact::write_answer(response, &mut writer);
            return writer.into_detached();
        }
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

/// Writes a map of those fields whose condition holds, or of `$all` of them.
macro_rules! write_parts {
    ($sink:expr, $all:expr => $($name:ident: $value:expr, if $is_set:expr;)*) => {{
        let sink = $sink;
        let is_written = [$($all || $is_set),*];
        sink.begin_map(is_written.into_iter().filter(|is_written| *is_written).count());
        $(write_if($all || $is_set, stringify!($name), $value, sink);)*
        sink.end_map();
    }};
}

impl Content for ResponseWithId<'_> {
    fn write_to<S: Sink>(&self, sink: &mut S) {
        let response = self.response;
        // Peers that match responses by correlation id may expect every field.
        let all = self.correlation_id.is_some();
        let has_response_body = response.response_body_mutation.is_some();
        // Only the last value of the message need not be copied.
        let request_body = if all || has_response_body {
            Mutation::Copied(&response.request_body_mutation)
        } else {
            Mutation::Last(&response.request_body_mutation)
        };
        write_parts!(sink, all =>
            version: &response.version, if true;
            decision: &response.decision, if true;
            request_headers: &response.request_headers, if !response.request_headers.is_empty();
            response_headers: &response.response_headers, if !response.response_headers.is_empty();
            routing_metadata: &response.routing_metadata, if !response.routing_metadata.is_empty();
            audit: &Audit(&response.audit, self.correlation_id), if !response.audit.is_empty();
            needs_more: &response.needs_more, if response.needs_more;
            websocket_decision: &response.websocket_decision, if response.websocket_decision.is_some();
            request_body_mutation: &request_body, if response.request_body_mutation.is_some();
            response_body_mutation: &response.response_body_mutation, if has_response_body;
        );
    }
}
