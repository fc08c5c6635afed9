use super::{Encode, EventTarget};
use crate::protocol::EventType;
use crate::protocol::events::Configure;
use crate::wire::decode::{Decoded, Source};
use crate::wire::encode::Sink;
use crate::wire::incoming_event::IncomingEvent;
#[cfg(feature = "grpc")]
use crate::wire::protobuf;
use crate::wire::views::HeadersView;
use crate::wire::{compact, msgpack, value};

impl Encode for Configure<'_> {
    const EVENT_TYPE: EventType = EventType::Configure;

    fn view<'v>(&'v self, correlation_id: &'v str, _: HeadersView<'v>) -> IncomingEvent<'v> {
        let mut settings = self.settings.clone();
        settings.remove("correlation_id");
        IncomingEvent::Configure(Configure {
            correlation_id,
            settings,
        })
    }

    fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
        let settings = self
            .settings
            .iter()
            .filter(|(key, _)| *key != "correlation_id");
        sink.begin_map(settings.clone().count() + 1);
        sink.str_field("correlation_id", correlation_id);
        for (key, setting) in settings {
            sink.key(key);
            value::write(setting, sink);
        }
        sink.end_map();
    }

    fn encode_compact(&self, target: &EventTarget<'_>, writer: &mut msgpack::Writer<'_>) {
        compact::write_configure(self, target, writer);
    }

    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
        protobuf::write_configure(self, correlation_id, writer);
    }
}

/// Settings of an agent, as the pool sends them.
#[derive(Debug)]
pub(crate) struct SettingsEvent<'a> {
    pub(crate) event: Configure<'a>,
    /// Set if the connection has brought the agent no settings yet. Only protobuf has a field for
    /// this.
    #[cfg(feature = "grpc")]
    pub(crate) is_initial: bool,
}

impl Encode for SettingsEvent<'_> {
    const EVENT_TYPE: EventType = EventType::Configure;

    fn view<'v>(&'v self, correlation_id: &'v str, headers: HeadersView<'v>) -> IncomingEvent<'v> {
        self.event.view(correlation_id, headers)
    }

    fn encode<S: Sink>(&self, correlation_id: &str, sink: &mut S) {
        self.event.encode(correlation_id, sink);
    }

    fn encode_compact(&self, target: &EventTarget<'_>, writer: &mut msgpack::Writer<'_>) {
        self.event.encode_compact(target, writer);
    }

    #[cfg(feature = "grpc")]
    fn encode_protobuf(&self, correlation_id: &str, writer: &mut protobuf::Writer<'_>) {
        protobuf::write_configure(&self.event, correlation_id, writer);
        protobuf::write_is_initial(self.is_initial, writer);
    }
}

/// Decodes a configure event.
///
/// Older proxies send some settings without a correlation id. The id is then empty, and so is
/// that of the response.
pub(in crate::wire) fn decode<'a, S: Source<'a>>(source: &mut S) -> Decoded<Configure<'a>> {
    // A pass of its own, since the id borrows from the payload and the settings do not.
    let correlation_id = correlation_id(&mut source.clone())?;
    let mut settings = value::read_map(source)?;
    settings.remove("correlation_id");
    Ok(Configure {
        correlation_id,
        settings,
    })
}

fn correlation_id<'a, S: Source<'a>>(source: &mut S) -> Decoded<&'a str> {
    let mut correlation_id = "";
    source.fields(&["correlation_id"], |_, source| {
        correlation_id = source.str()?;
        Ok(())
    })?;
    Ok(correlation_id)
}
