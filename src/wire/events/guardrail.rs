use super::Encode;
use crate::protocol::events::{GuardrailInspect, GuardrailInspectEvent};
use crate::protocol::{EventType, GuardrailInspectionType};
use crate::wire::decode::{DecodeErrorKind, Field, Source};
use crate::wire::encode::Sink;
#[cfg(feature = "grpc")]
use crate::wire::protobuf;

const FIELDS: &[&str] = &[
    "correlation_id",
    "inspection_type",
    "content",
    "model",
    "categories",
    "route_id",
    "metadata",
];

impl Encode for GuardrailInspect<'_> {
    const EVENT_TYPE: EventType = EventType::GuardrailInspect;

    fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
        sink.begin_map(FIELDS.len());
        sink.str_field("correlation_id", correlation_id);
        sink.str_field("inspection_type", self.inspection_type.as_str());
        sink.str_field("content", self.content);
        sink.optional_str_field("model", self.model);
        sink.key("categories");
        sink.str_list(&self.categories);
        sink.optional_str_field("route_id", self.route_id);
        sink.key("metadata");
        sink.str_map(self.metadata.iter().copied());
        sink.end_map();
    }

    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
        protobuf::write_guardrail(self, correlation_id, writer);
    }
}

impl Encode for GuardrailInspectEvent {
    const EVENT_TYPE: EventType = EventType::GuardrailInspect;

    fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
        self.borrowed().encode(correlation_id, sink);
    }

    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
        self.borrowed().encode_protobuf(correlation_id, writer);
    }
}

/// Decodes a guardrail inspect event.
pub(in crate::wire) fn decode<'a, S: Source<'a>>(
    source: &mut S,
) -> Result<GuardrailInspect<'a>, DecodeErrorKind> {
    let mut correlation_id = Field::new();
    let mut inspection_type = Field::new();
    let mut content = Field::new();
    let mut model = Field::new();
    let mut categories = Field::new();
    let mut route_id = Field::new();
    let mut metadata = Field::new();
    source.fields(FIELDS, |field, source| match field {
        0 => correlation_id.set(source.str()?),
        1 => inspection_type.set(
            GuardrailInspectionType::from_wire(source.str()?)
                .ok_or(DecodeErrorKind::UnknownName("inspection_type"))?,
        ),
        2 => content.set(source.str()?),
        3 => model.set(source.optional(S::str)?),
        4 => categories.set(source.list(S::str)?),
        5 => route_id.set(source.optional(S::str)?),
        _ => metadata.set(decode_metadata(source)?),
    })?;
    Ok(GuardrailInspect {
        correlation_id: correlation_id.required("correlation_id")?,
        inspection_type: inspection_type.required("inspection_type")?,
        content: content.required("content")?,
        model: model.or_default(),
        categories: categories.or_default(),
        route_id: route_id.or_default(),
        metadata: metadata.or_default(),
    })
}

fn decode_metadata<'a, S: Source<'a>>(
    source: &mut S,
) -> Result<Vec<(&'a str, &'a str)>, DecodeErrorKind> {
    let mut metadata = Vec::new();
    source.pairs(|key, source| {
        metadata.push((key, source.str()?));
        Ok(())
    })?;
    Ok(metadata)
}
