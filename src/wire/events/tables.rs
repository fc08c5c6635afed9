//! The codecs of events that have a table of fields in `protocol::events`.

use super::{Encode, EventTarget};
use crate::protocol::events::{
    GuardrailInspect, GuardrailInspectEvent, Metadata, RequestComplete, RequestCompleteEvent,
    WebSocketFrame, WebSocketFrameEvent, WebSocketOpcode, guardrail_inspect, request_complete,
    request_metadata, websocket_frame,
};
use crate::protocol::{EventType, GuardrailInspectionType};
use crate::wire::decode::{DecodeErrorKind, Decoded, Source};
use crate::wire::encode::Sink;
use crate::wire::fields::{
    ReadField, WriteField, field_types, read_struct, write_fields, write_if,
};
use crate::wire::incoming_event::IncomingEvent;
#[cfg(feature = "grpc")]
use crate::wire::protobuf::{
    self,
    numbered::{ReadMessage, read_message, write_message},
};
use crate::wire::views::HeadersView;
use crate::wire::{compact, msgpack};
#[cfg(feature = "grpc")]
use bytes::Bytes;

/// Implements reading of the borrowed form in JSON and MessagePack.
macro_rules! read_by_name {
    (
        #[doc = $what:expr]
        $(#[derive($($derive:ident),*)])?
        $borrowed:ident, $owned:ident {
            $(
                $(#[doc = $doc:expr])*
                $(#[serde($($serde:tt)*)])?
                $field:ident: $kind:tt $(= $number:literal $(or $absent:expr)?)?,
            )*
        }
        $(borrowed {
            $(#[doc = $more_doc:expr])*
            #[serde($($more_serde:tt)*)]
            $more:ident: $more_kind:tt,
        })?
    ) => {
        impl<'a> ReadField<'a> for $borrowed<'a> {
            fn read<S: Source<'a>>(source: &mut S) -> Decoded<Self> {
                read_struct!(source => $borrowed {
                    $($field $([$($serde)*])?,)* $($more [$($more_serde)*])?
                })
            }
        }
    };
}

/// Implements writing of both forms, and reading of the borrowed one in protobuf.
macro_rules! event {
    (
        #[doc = $what:expr]
        $(#[derive($($derive:ident),*)])?
        $borrowed:ident, $owned:ident {
            $(#[doc = $id_doc:expr])*
            correlation_id: str = $id:literal,
            $(
                $(#[doc = $doc:expr])*
                $(#[serde($($serde:tt)*)])?
                $field:ident: $kind:tt = $number:literal $(or $absent:expr)?,
            )*
        }
    ) => {
        encode!(clone => $borrowed<'_>, $borrowed { $id, $($field = $number $(or $absent)?),* });
        encode!(borrowed => $owned, $borrowed { $id, $($field = $number $(or $absent)?),* });

        #[cfg(feature = "grpc")]
        impl<'a> ReadMessage<'a> for $borrowed<'a> {
            // Builds the event where its caller needs it, rather than moving it there.
            #[inline(always)]
            fn read(message: &'a [u8], envelope: &Bytes) -> Decoded<Self> {
                read_message!(message, envelope => $borrowed {
                    correlation_id = $id, $($field = $number $(or $absent)?),*
                })
            }
        }
    };
}

macro_rules! encode {
    ($borrow:ident => $form:ty, $event:ident {
        $id:literal, $($field:ident = $number:literal $(or $absent:expr)?),*
    }) => {
        impl Encode for $form {
            const EVENT_TYPE: EventType = EventType::$event;

            fn body_len(&self) -> usize {
                0 $(+ self.$field.body_len())*
            }

            fn view<'v>(&'v self, correlation_id: &'v str, _: HeadersView<'v>) -> IncomingEvent<'v> {
                IncomingEvent::$event($event {
                    correlation_id,
                    ..self.$borrow()
                })
            }

            fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
                write_fields!(sink => correlation_id: &correlation_id, $($field: &self.$field),*);
            }

            fn encode_compact(&self, target: &EventTarget<'_>, writer: &mut msgpack::Writer<'_>) {
                compact::begin_event(target, [$(stringify!($field)),*].len(), writer);
                $(compact::write_unless_last!($field, &self.$field, writer);)*
                $(compact::write_last!($field, &self.$field, writer);)*
            }

            #[cfg(feature = "grpc")]
            fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
                write_message!(writer;
                    &correlation_id => $id, $(&self.$field => $number $(or $absent)?),*
                );
            }
        }
    };
}

/// Implements writing of the metadata of request headers. A field that serde skips is omitted if it
/// is `None`.
macro_rules! write_metadata {
    (
        #[doc = $what:expr]
        $(#[derive($($derive:ident),*)])?
        $borrowed:ident, $owned:ident {
            $(#[doc = $id_doc:expr])*
            correlation_id: str,
            $(
                $(#[doc = $doc:expr])*
                $(#[serde($($serde:tt)*)])?
                $field:ident: $kind:tt,
            )*
        }
        borrowed {
            $(#[doc = $more_doc:expr])*
            #[serde($($more_serde:tt)*)]
            $more:ident: $more_kind:tt,
        }
    ) => {
        pub(super) fn encode_metadata<S: Sink>(
            metadata: &$borrowed<'_>,
            correlation_id: &str,
            sink: &mut S,
        ) {
            sink.begin_map(
                1 $(+ usize::from(is_written!(metadata.$field $($($serde)*)?)))*
                    + usize::from(metadata.$more.is_some()),
            );
            sink.str_field("correlation_id", correlation_id);
            $(
                let is_written = is_written!(metadata.$field $($($serde)*)?);
                write_if(is_written, stringify!($field), &metadata.$field, sink);
            )*
            write_if(metadata.$more.is_some(), stringify!($more), &metadata.$more, sink);
            sink.end_map();
        }
    };
}

macro_rules! is_written {
    ($this:ident . $field:ident default, skip_serializing_if = $condition:literal) => {
        $this.$field.is_some()
    };
    ($this:ident . $field:ident $($attribute:tt)*) => {
        true
    };
}

request_complete!(read_by_name);
request_complete!(event);
websocket_frame!(read_by_name);
websocket_frame!(event);
guardrail_inspect!(read_by_name);
guardrail_inspect!(event);
request_metadata!(read_by_name);
request_metadata!(write_metadata);

field_types! {
    WebSocketOpcode: |opcode, sink| sink.str(opcode.as_str()), |source| {
        Self::from_wire(source.str()?).ok_or(DecodeErrorKind::UnknownName("opcode"))
    };
    GuardrailInspectionType: |kind, sink| sink.str(kind.as_str()), |source| {
        Self::from_wire(source.str()?).ok_or(DecodeErrorKind::UnknownName("inspection_type"))
    };
}
