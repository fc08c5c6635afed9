//! `ProcessingRequest`: what Envoy sends over ext_proc.

use super::{Fields, Malformed, Value, set_once};

/// A message from Envoy, borrowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ProcessingRequest<'a> {
    pub(crate) phase: Phase<'a>,
    /// The `Struct` with the attributes, undecoded.
    pub(crate) attributes: Option<&'a [u8]>,
    /// Set if the message is not to be answered.
    pub(crate) observability: bool,
    /// Modes of the bodies of the request and the response, in the first message only.
    pub(crate) modes: Option<(BodyMode, BodyMode)>,
}

/// Part of an HTTP request or its response.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Phase<'a> {
    RequestHeaders(HttpHeaders<'a>),
    ResponseHeaders(HttpHeaders<'a>),
    RequestBody(HttpBody<'a>),
    ResponseBody(HttpBody<'a>),
    RequestTrailers,
    ResponseTrailers,
}

/// The head of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct HttpHeaders<'a> {
    /// The `HeaderMap`, undecoded.
    pub(crate) headers: &'a [u8],
    /// Set if no body follows.
    pub(crate) end_of_stream: bool,
}

/// A chunk of a body.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct HttpBody<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) end_of_stream: bool,
}

/// Form in which Envoy sends a body, and takes the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyMode {
    /// The body is not sent (`NONE`).
    None = 0,
    /// Chunks are sent as they arrive, and each is answered (`STREAMED`).
    Streamed = 1,
    /// The body is sent as a whole (`BUFFERED`).
    Buffered = 2,
    /// The body is sent as a whole, or its beginning (`BUFFERED_PARTIAL`).
    BufferedPartial = 3,
    /// Chunks are sent as they arrive, and only what is sent back goes on
    /// (`FULL_DUPLEX_STREAMED`).
    FullDuplex = 4,
    /// A mode that Envoy does not have yet, so what may be answered is not known.
    Unknown = 5,
}

impl BodyMode {
    fn of_number(number: u64) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Streamed,
            2 => Self::Buffered,
            3 => Self::BufferedPartial,
            4 => Self::FullDuplex,
            _ => Self::Unknown,
        }
    }
}

impl<'a> ProcessingRequest<'a> {
    /// Reads a message. Fields that are not known are passed over.
    pub(crate) fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut phase = None;
        let mut request = Self {
            phase: Phase::RequestTrailers,
            attributes: None,
            observability: false,
            modes: None,
        };
        Fields::of(message).each(|field, value| {
            match field {
                2..=7 => set_once(&mut phase, Phase::read(field, value.bytes()?)?)?,
                9 => request.read_attributes(value.bytes()?)?,
                10 => request.observability = value.bool()?,
                11 => request.modes = Some(read_modes(value.bytes()?)?),
                _ => {}
            }
            Ok(())
        })?;
        request.phase = phase.ok_or(Malformed::NoPhase)?;
        Ok(request)
    }

    /// Reads an entry of the map of attributes. Its key is the name of the filter, of which there
    /// is one.
    fn read_attributes(&mut self, entry: &'a [u8]) -> Result<(), Malformed> {
        let (mut is_keyed, mut attributes) = (false, None);
        Fields::of(entry).each(|field, value| {
            match field {
                1 => is_keyed = !value.str()?.is_empty(),
                2 => attributes = Some(value.bytes()?),
                _ => {}
            }
            Ok(())
        })?;
        if is_keyed && self.attributes.is_none() {
            self.attributes = attributes;
        }
        Ok(())
    }
}

impl<'a> Phase<'a> {
    fn read(field: u32, message: &'a [u8]) -> Result<Self, Malformed> {
        Ok(match field {
            2 => Self::RequestHeaders(HttpHeaders::read(message)?),
            3 => Self::ResponseHeaders(HttpHeaders::read(message)?),
            4 => Self::RequestBody(HttpBody::read(message)?),
            5 => Self::ResponseBody(HttpBody::read(message)?),
            6 => Self::RequestTrailers,
            _ => Self::ResponseTrailers,
        })
    }
}

impl<'a> HttpHeaders<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let (mut headers, mut end_of_stream) = (None, false);
        Fields::of(message).each(|field, value| {
            match field {
                1 => set_once(&mut headers, value.bytes()?)?,
                3 => end_of_stream = value.bool()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(Self {
            headers: headers.unwrap_or_default(),
            end_of_stream,
        })
    }
}

impl<'a> HttpBody<'a> {
    fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Self::default();
        Fields::of(message).each(|field, value| {
            match field {
                1 => body.body = value.bytes()?,
                2 => body.end_of_stream = value.bool()?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(body)
    }
}

fn read_modes(message: &[u8]) -> Result<(BodyMode, BodyMode), Malformed> {
    let mode = |value: Value<'_>| value.number().map(BodyMode::of_number);
    let mut modes = (BodyMode::None, BodyMode::None);
    Fields::of(message).each(|field, value| {
        match field {
            1 => modes.0 = mode(value)?,
            2 => modes.1 = mode(value)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(modes)
}
