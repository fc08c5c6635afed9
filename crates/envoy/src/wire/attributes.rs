//! Attributes of a request: a `google.protobuf.Struct`, of which single fields are read.

use super::{Fields, Malformed, Value};

/// The attributes that have a counterpart in events. Missing ones are empty.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Attributes<'a> {
    pub(crate) source_address: &'a str,
    pub(crate) source_port: Option<u16>,
    pub(crate) request_id: &'a str,
    pub(crate) protocol: &'a str,
    pub(crate) time: &'a str,
    pub(crate) server_name: Option<&'a str>,
    pub(crate) tls_version: Option<&'a str>,
    pub(crate) route_name: Option<&'a str>,
    pub(crate) cluster_name: Option<&'a str>,
    pub(crate) attempts: Option<u32>,
}

/// A value of the kinds that are read. Structs and lists are passed over, so their depth does not
/// matter.
enum Scalar<'a> {
    Text(&'a str),
    Number(f64),
    Other,
}

impl<'a> Attributes<'a> {
    /// Reads the fields of a `Struct`.
    pub(crate) fn read(fields: &'a [u8]) -> Result<Self, Malformed> {
        let mut attributes = Self::default();
        Fields::of(fields).each(|field, value| {
            if field == 1 {
                attributes.read_entry(value.bytes()?)?;
            }
            Ok(())
        })?;
        Ok(attributes)
    }

    fn read_entry(&mut self, entry: &'a [u8]) -> Result<(), Malformed> {
        let (mut name, mut scalar) = ("", Scalar::Other);
        Fields::of(entry).each(|field, value| {
            match field {
                1 => name = value.str()?,
                2 => scalar = Scalar::read(value.bytes()?)?,
                _ => {}
            }
            Ok(())
        })?;
        match scalar {
            Scalar::Text(text) => self.set_text(name, text),
            Scalar::Number(number) => self.set_number(name, number),
            Scalar::Other => {}
        }
        Ok(())
    }

    fn set_text(&mut self, name: &str, text: &'a str) {
        let known = || (!text.is_empty()).then_some(text);
        match name {
            "source.address" => self.source_address = text,
            "request.id" => self.request_id = text,
            "request.protocol" => self.protocol = text,
            "request.time" => self.time = text,
            "connection.requested_server_name" => self.server_name = known(),
            "connection.tls_version" => self.tls_version = known(),
            "xds.route_name" => self.route_name = known(),
            "xds.cluster_name" => self.cluster_name = known(),
            _ => {}
        }
    }

    fn set_number(&mut self, name: &str, number: f64) {
        match name {
            // The conversion saturates.
            "source.port" if number <= f64::from(u16::MAX) => {
                self.source_port = Some(number as u16);
            }
            "upstream.request_attempt_count" => self.attempts = Some(number as u32),
            _ => {}
        }
    }
}

impl<'a> Scalar<'a> {
    fn read(value: &'a [u8]) -> Result<Self, Malformed> {
        let mut scalar = Self::Other;
        Fields::of(value).each(|field, value: Value<'a>| {
            scalar = match field {
                2 => Self::Number(value.double()?),
                3 => Self::Text(value.str()?),
                _ => Self::Other,
            };
            Ok(())
        })?;
        Ok(scalar)
    }
}
