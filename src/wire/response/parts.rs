//! The parts of a response, written and read.

use super::CORRELATION_ID;
use crate::protocol::{AuditMetadata, BodyMutation, Decision, HeaderOp, WebSocketDecision, bodies};
use crate::wire::decode::{DecodeErrorKind, Decoded, Field, Kind, Source};
use crate::wire::encode::Sink;
use crate::wire::fields::{
    ReadField, WriteField, enum_fields, insert_once, read_fields, write_fields,
};
use crate::wire::value;
use bytes::Bytes;
use serde_json::Value;
use std::collections::HashMap;

enum_fields! {
    Decision "decision":
    "allow" => Allow,
    "block" => Block { status, body [default], headers [default] },
    "redirect" => Redirect { url, status },
    "challenge" => Challenge { challenge_type, params [default] },
}

enum_fields! {
    HeaderOp "header operation":
    "set" => Set { name, value },
    "add" => Add { name, value },
    "remove" => Remove { name },
}

enum_fields! {
    WebSocketDecision "websocket decision":
    "allow" => Allow,
    "drop" => Drop,
    "close" => Close { code, reason [default] },
}

impl WriteField for BodyMutation {
    fn write<S: Sink>(&self, sink: &mut S) {
        if let Some(text) = self.plain_text() {
            write_fields!(sink => chunk_index: &self.chunk_index, data: &text);
            return;
        }
        write_fields!(sink => chunk_index: &self.chunk_index, data: &self.data);
    }
}

impl<'a> ReadField<'a> for BodyMutation {
    fn read<S: Source<'a>>(source: &mut S) -> Decoded<Self> {
        read_fields!(source => data [default] by read_mutated, chunk_index [default]);
        Ok(Self::from_parts(data, chunk_index))
    }
}

/// Reads the bytes of a mutation, or a text that is not base64, and whether it is one.
fn read_mutated<'a, S: Source<'a>>(source: &mut S) -> Decoded<Option<(Bytes, bool)>> {
    source.optional(|source| match source.peek()? {
        Kind::Str => Ok(bodies::from_text(source.str()?)),
        _ => Ok((source.body()?, false)),
    })
}

/// A mutation, which is copied if it is not the last value of its message.
pub(super) enum Mutation<'a> {
    Copied(&'a Option<BodyMutation>),
    Last(&'a Option<BodyMutation>),
}

impl WriteField for Mutation<'_> {
    fn write<S: Sink>(&self, sink: &mut S) {
        let mutation = match self {
            Self::Copied(Some(mutation)) => mutation,
            Self::Copied(None) => return sink.null(),
            Self::Last(mutation) => return mutation.write(sink),
        };
        sink.begin_map(2);
        sink.uint_field("chunk_index", u64::from(mutation.chunk_index));
        sink.key("data");
        match (&mutation.data, mutation.plain_text()) {
            (_, Some(text)) => sink.str(text),
            (Some(data), None) => sink.body(data),
            (None, None) => sink.null(),
        }
        sink.end_map();
    }
}

/// Audit metadata, with the correlation id that the response carries.
pub(super) struct Audit<'a>(pub(super) &'a AuditMetadata, pub(super) Option<&'a str>);

impl WriteField for Audit<'_> {
    fn write<S: Sink>(&self, sink: &mut S) {
        let Self(audit, correlation_id) = self;
        write_fields!(sink =>
            tags: &audit.tags,
            rule_ids: &audit.rule_ids,
            confidence: &audit.confidence,
            reason_codes: &audit.reason_codes,
            custom: &Custom(&audit.custom, *correlation_id),
        );
    }
}

/// Reads audit metadata and the correlation id that the response carries.
pub(super) fn read_audit<'a, S: Source<'a>>(
    source: &mut S,
) -> Decoded<(AuditMetadata, Option<&'a str>)> {
    if source.null()? {
        return Ok((AuditMetadata::default(), None));
    }
    read_fields!(source =>
        tags [default],
        rule_ids [default],
        confidence [default] by read_confidence,
        reason_codes [default],
        custom [default] by read_custom,
    );
    let (custom, correlation_id) = custom;
    let audit = AuditMetadata {
        tags,
        rule_ids,
        confidence,
        reason_codes,
        custom,
    };
    Ok((audit, correlation_id))
}

impl WriteField for f32 {
    fn write<S: Sink>(&self, sink: &mut S) {
        sink.float32(*self);
    }
}

/// Reads a confidence. A number that is not finite counts as `None`.
///
/// JSON cannot express such numbers, and serde writes null for them.
pub(in crate::wire) fn read_confidence<'a, S: Source<'a>>(source: &mut S) -> Decoded<Option<f32>> {
    let confidence = source.optional(S::float)?;
    Ok(confidence
        .map(|confidence| confidence as f32)
        .filter(|confidence| confidence.is_finite()))
}

/// The values of `audit.custom`, with the correlation id in place of one of that name.
pub(in crate::wire) struct Custom<'a>(
    pub(in crate::wire) &'a HashMap<String, Value>,
    pub(in crate::wire) Option<&'a str>,
);

impl WriteField for Custom<'_> {
    fn write<S: Sink>(&self, sink: &mut S) {
        let Self(custom, correlation_id) = self;
        let custom = custom.iter().filter(|(key, _)| *key != CORRELATION_ID);
        sink.begin_map(usize::from(correlation_id.is_some()) + custom.clone().count());
        if let Some(correlation_id) = correlation_id {
            sink.str_field(CORRELATION_ID, correlation_id);
        }
        for (key, custom) in custom {
            sink.key(key);
            value::write(custom, sink);
        }
        sink.end_map();
    }
}

/// Reads the values of `audit.custom`, and the correlation id among them.
pub(in crate::wire) fn read_custom<'a, S: Source<'a>>(
    source: &mut S,
) -> Decoded<(HashMap<String, Value>, Option<&'a str>)> {
    let mut custom = HashMap::new();
    let mut correlation_id = Field::new();
    let mut budget = value::Budget::new();
    source.pairs(|key, source| {
        if key == CORRELATION_ID {
            return correlation_id.set(Some(source.str()?));
        }
        insert_once(&mut custom, key, value::read(source, &mut budget)?)
    })?;
    Ok((custom, correlation_id.or_default()))
}
