use super::Encode;
use crate::protocol::EventType;
use crate::protocol::events::{WebSocketFrame, WebSocketFrameEvent, WebSocketOpcode};
use crate::wire::decode::{DecodeErrorKind, Field, Source};
use crate::wire::encode::Sink;
#[cfg(feature = "grpc")]
use crate::wire::protobuf;

const FIELDS: &[&str] = &[
    "correlation_id",
    "opcode",
    "data",
    "client_to_server",
    "frame_index",
    "fin",
    "route_id",
    "client_ip",
];

impl Encode for WebSocketFrame<'_> {
    const EVENT_TYPE: EventType = EventType::WebSocketFrame;

    fn body_len(&self) -> usize {
        self.data.len()
    }

    fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
        sink.begin_map(FIELDS.len());
        sink.str_field("correlation_id", correlation_id);
        sink.str_field("opcode", self.opcode.as_str());
        sink.key("client_to_server");
        sink.bool(self.client_to_server);
        sink.uint_field("frame_index", self.frame_index);
        sink.key("fin");
        sink.bool(self.fin);
        sink.optional_str_field("route_id", self.route_id);
        sink.str_field("client_ip", self.client_ip);
        sink.key("data");
        sink.last_body(&self.data);
        sink.end_map();
    }

    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
        protobuf::write_websocket(self, correlation_id, writer);
    }
}

impl Encode for WebSocketFrameEvent {
    const EVENT_TYPE: EventType = EventType::WebSocketFrame;

    fn body_len(&self) -> usize {
        self.data.len()
    }

    fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
        self.borrowed().encode(correlation_id, sink);
    }

    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
        self.borrowed().encode_protobuf(correlation_id, writer);
    }
}

/// Decodes a WebSocket frame event.
pub(in crate::wire) fn decode<'a, S: Source<'a>>(
    source: &mut S,
) -> Result<WebSocketFrame<'a>, DecodeErrorKind> {
    let mut correlation_id = Field::new();
    let mut opcode = Field::new();
    let mut data = Field::new();
    let mut client_to_server = Field::new();
    let mut frame_index = Field::new();
    let mut fin = Field::new();
    let mut route_id = Field::new();
    let mut client_ip = Field::new();
    source.fields(FIELDS, |field, source| match field {
        0 => correlation_id.set(source.str()?),
        1 => opcode.set(
            WebSocketOpcode::from_wire(source.str()?)
                .ok_or(DecodeErrorKind::UnknownName("opcode"))?,
        ),
        2 => data.set(source.body()?),
        3 => client_to_server.set(source.bool()?),
        4 => frame_index.set(source.number()?),
        5 => fin.set(source.bool()?),
        6 => route_id.set(source.optional(S::str)?),
        _ => client_ip.set(source.str()?),
    })?;
    Ok(WebSocketFrame {
        correlation_id: correlation_id.required("correlation_id")?,
        opcode: opcode.required("opcode")?,
        data: data.required("data")?,
        client_to_server: client_to_server.required("client_to_server")?,
        frame_index: frame_index.required("frame_index")?,
        fin: fin.required("fin")?,
        route_id: route_id.or_default(),
        client_ip: client_ip.required("client_ip")?,
    })
}
