//! Frames with binary payloads, for tools that carry events by themselves. Connections do not use
//! them.
//!
//! A frame is its length (4 bytes, big endian), its type (1 byte) and the payload. In payloads,
//! numbers are big endian, and texts, lists and maps have their length in 4 bytes before them.

use crate::{AgentProtocolError, Decision, HeaderOp};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::collections::HashMap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest frame in bytes, its type included.
pub const MAX_BINARY_MESSAGE_SIZE: usize = 10 * 1024 * 1024;

/// Most items for which room is made before they are read.
const MAX_PREALLOCATED: usize = 64;

/// Declares the types of frames with their numbers.
macro_rules! message_types {
    ($($name:ident = $number:literal $doc:literal,)*) => {
        /// Type of a frame.
        #[repr(u8)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum MessageType {
            $(#[doc = $doc] $name = $number,)*
        }

        impl TryFrom<u8> for MessageType {
            type Error = AgentProtocolError;

            fn try_from(value: u8) -> Result<Self, AgentProtocolError> {
                match value {
                    $($number => Ok(Self::$name),)*
                    _ => Err(invalid(format!("Unknown message type: 0x{value:02x}"))),
                }
            }
        }
    };
}

message_types! {
    HandshakeRequest = 0x01 "First message of a proxy.",
    HandshakeResponse = 0x02 "Response to the first message.",
    RequestHeaders = 0x10 "Headers of a request: [`BinaryRequestHeaders`].",
    RequestBodyChunk = 0x11 "Chunk of a request body: [`BinaryBodyChunk`].",
    ResponseHeaders = 0x12 "Headers of a response.",
    ResponseBodyChunk = 0x13 "Chunk of a response body: [`BinaryBodyChunk`].",
    RequestComplete = 0x14 "End of a request.",
    WebSocketFrame = 0x15 "WebSocket frame.",
    AgentResponse = 0x20 "Answer of an agent: [`BinaryAgentResponse`].",
    Ping = 0x30 "Ping.",
    Pong = 0x31 "Answer to a ping.",
    Cancel = 0x40 "Cancellation of a request.",
    Error = 0xFF "Error.",
}

fn invalid(fault: impl Into<String>) -> AgentProtocolError {
    AgentProtocolError::InvalidMessage(fault.into())
}

/// A frame.
#[derive(Debug, Clone)]
pub struct BinaryFrame {
    /// Type of the payload.
    pub msg_type: MessageType,
    /// The payload.
    pub payload: Bytes,
}

impl BinaryFrame {
    /// Creates a frame.
    pub fn new(msg_type: MessageType, payload: impl Into<Bytes>) -> Self {
        Self {
            msg_type,
            payload: payload.into(),
        }
    }

    /// Returns the bytes of the frame.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.payload.len() + 5);
        out.put_u32(len32(self.payload.len() + 1));
        out.put_u8(self.msg_type as u8);
        out.put_slice(&self.payload);
        out.freeze()
    }

    /// Reads a frame. The memory for it grows with what arrives.
    ///
    /// # Errors
    ///
    /// [`ConnectionClosed`](AgentProtocolError::ConnectionClosed) if there is no further frame;
    /// [`MessageTooLarge`](AgentProtocolError::MessageTooLarge);
    /// [`InvalidMessage`](AgentProtocolError::InvalidMessage);
    /// [`Io`](AgentProtocolError::Io).
    pub async fn decode<R: AsyncRead + Unpin>(reader: &mut R) -> Result<Self, AgentProtocolError> {
        let mut length = [0; 4];
        match reader.read_exact(&mut length).await {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(AgentProtocolError::ConnectionClosed);
            }
            read => read?,
        };
        let size = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        check_size(size)?;
        let payload_len = size.checked_sub(1).ok_or_else(|| invalid("empty frame"))?;
        let msg_type = MessageType::try_from(reader.read_u8().await?)?;
        let mut payload = Vec::new();
        reader
            .take(payload_len as u64)
            .read_to_end(&mut payload)
            .await?;
        if payload.len() < payload_len {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
        Ok(Self::new(msg_type, payload))
    }

    /// Writes the frame and flushes the writer.
    ///
    /// # Errors
    ///
    /// [`MessageTooLarge`](AgentProtocolError::MessageTooLarge), or
    /// [`Io`](AgentProtocolError::Io).
    pub async fn write<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut W,
    ) -> Result<(), AgentProtocolError> {
        check_size(self.payload.len() + 1)?;
        writer.write_all(&self.encode()).await?;
        Ok(writer.flush().await?)
    }
}

fn check_size(size: usize) -> Result<(), AgentProtocolError> {
    let max = MAX_BINARY_MESSAGE_SIZE;
    if size > max {
        return Err(AgentProtocolError::MessageTooLarge { size, max });
    }
    Ok(())
}

/// Headers of a request.
#[derive(Debug, Clone)]
pub struct BinaryRequestHeaders {
    /// Id that joins the events of one HTTP request.
    pub correlation_id: String,
    /// Method.
    pub method: String,
    /// Target of the request.
    pub uri: String,
    /// Header fields by name.
    pub headers: HashMap<String, Vec<String>>,
    /// Address of the client.
    pub client_ip: String,
    /// Port of the client.
    pub client_port: u16,
}

impl BinaryRequestHeaders {
    /// Returns the payload.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        let texts = [
            &self.correlation_id,
            &self.method,
            &self.uri,
            &self.client_ip,
        ];
        texts.into_iter().for_each(|text| put_str(&mut out, text));
        out.put_u16(self.client_port);
        out.put_u32(len32(self.headers.len()));
        for (name, values) in &self.headers {
            put_str(&mut out, name);
            put_list(&mut out, values, |out, value| put_str(out, value));
        }
        out.freeze()
    }

    /// Reads a payload.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](AgentProtocolError::InvalidMessage).
    pub fn decode(mut data: Bytes) -> Result<Self, AgentProtocolError> {
        let data = &mut data;
        let (correlation_id, method) = (get_string(data)?, get_string(data)?);
        let (uri, client_ip) = (get_string(data)?, get_string(data)?);
        let client_port = data.try_get_u16().map_err(cut_short)?;
        let fields = get_list(data, |data| {
            Ok((get_string(data)?, get_list(data, get_string)?))
        })?;
        Ok(Self {
            correlation_id,
            method,
            uri,
            headers: fields.into_iter().collect(),
            client_ip,
            client_port,
        })
    }
}

/// Chunk of a body.
#[derive(Debug, Clone)]
pub struct BinaryBodyChunk {
    /// Id that joins the events of one HTTP request.
    pub correlation_id: String,
    /// Index of the chunk, counted from 0.
    pub chunk_index: u32,
    /// Set for the last chunk of the body.
    pub is_last: bool,
    /// The chunk.
    pub data: Bytes,
}

impl BinaryBodyChunk {
    /// Returns the payload.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.data.len() + self.correlation_id.len() + 9);
        put_str(&mut out, &self.correlation_id);
        out.put_u32(self.chunk_index);
        out.put_u8(u8::from(self.is_last));
        out.put_slice(&self.data);
        out.freeze()
    }

    /// Reads a payload. The data is not copied.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](AgentProtocolError::InvalidMessage).
    pub fn decode(mut data: Bytes) -> Result<Self, AgentProtocolError> {
        Ok(Self {
            correlation_id: get_string(&mut data)?,
            chunk_index: data.try_get_u32().map_err(cut_short)?,
            is_last: get_flag(&mut data)?,
            data,
        })
    }
}

/// Answer of an agent.
#[derive(Debug, Clone)]
pub struct BinaryAgentResponse {
    /// Id of the request.
    pub correlation_id: String,
    /// The decision.
    pub decision: Decision,
    /// Changes to the headers of the request.
    pub request_headers: Vec<HeaderOp>,
    /// Changes to the headers of the response.
    pub response_headers: Vec<HeaderOp>,
    /// Set if the agent wants more of the body before it decides.
    pub needs_more: bool,
}

impl BinaryAgentResponse {
    /// Returns the payload.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        put_str(&mut out, &self.correlation_id);
        put_decision(&mut out, &self.decision);
        put_list(&mut out, &self.request_headers, put_header_op);
        put_list(&mut out, &self.response_headers, put_header_op);
        out.put_u8(u8::from(self.needs_more));
        out.freeze()
    }

    /// Reads a payload.
    ///
    /// # Errors
    ///
    /// [`InvalidMessage`](AgentProtocolError::InvalidMessage).
    pub fn decode(mut data: Bytes) -> Result<Self, AgentProtocolError> {
        let data = &mut data;
        Ok(Self {
            correlation_id: get_string(data)?,
            decision: get_decision(data)?,
            request_headers: get_list(data, get_header_op)?,
            response_headers: get_list(data, get_header_op)?,
            needs_more: get_flag(data)?,
        })
    }
}

fn put_decision(out: &mut BytesMut, decision: &Decision) {
    match decision {
        Decision::Allow => out.put_u8(0),
        Decision::Block {
            status,
            body,
            headers,
        } => {
            out.put_u8(1);
            out.put_u16(*status);
            out.put_u8(u8::from(body.is_some()));
            body.iter().for_each(|body| put_str(out, body));
            out.put_u8(u8::from(headers.is_some()));
            headers.iter().for_each(|headers| put_map(out, headers));
        }
        Decision::Redirect { url, status } => {
            out.put_u8(2);
            put_str(out, url);
            out.put_u16(*status);
        }
        Decision::Challenge {
            challenge_type,
            params,
        } => {
            out.put_u8(3);
            put_str(out, challenge_type);
            put_map(out, params);
        }
    }
}

fn get_decision(data: &mut Bytes) -> Result<Decision, AgentProtocolError> {
    Ok(match data.try_get_u8().map_err(cut_short)? {
        0 => Decision::Allow,
        1 => Decision::Block {
            status: data.try_get_u16().map_err(cut_short)?,
            body: get_flag(data)?.then(|| get_string(data)).transpose()?,
            headers: get_flag(data)?.then(|| get_map(data)).transpose()?,
        },
        2 => Decision::Redirect {
            url: get_string(data)?,
            status: data.try_get_u16().map_err(cut_short)?,
        },
        3 => Decision::Challenge {
            challenge_type: get_string(data)?,
            params: get_map(data)?,
        },
        other => return Err(invalid(format!("unknown decision {other}"))),
    })
}

fn put_header_op(out: &mut BytesMut, op: &HeaderOp) {
    let (kind, name, value) = match op {
        HeaderOp::Set { name, value } => (0, name, Some(value)),
        HeaderOp::Add { name, value } => (1, name, Some(value)),
        HeaderOp::Remove { name } => (2, name, None),
    };
    out.put_u8(kind);
    put_str(out, name);
    value.into_iter().for_each(|value| put_str(out, value));
}

fn get_header_op(data: &mut Bytes) -> Result<HeaderOp, AgentProtocolError> {
    let kind = data.try_get_u8().map_err(cut_short)?;
    let name = get_string(data)?;
    match kind {
        0 => get_string(data).map(|value| HeaderOp::Set { name, value }),
        1 => get_string(data).map(|value| HeaderOp::Add { name, value }),
        2 => Ok(HeaderOp::Remove { name }),
        other => Err(invalid(format!("unknown header operation {other}"))),
    }
}

/// Returns a length in 4 bytes. Longer values do not fit a frame anyway, and do not decode.
fn len32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn put_str(out: &mut BytesMut, text: &str) {
    out.put_u32(len32(text.len()));
    out.put_slice(text.as_bytes());
}

fn get_string(data: &mut Bytes) -> Result<String, AgentProtocolError> {
    let len = usize::try_from(data.try_get_u32().map_err(cut_short)?).unwrap_or(usize::MAX);
    if len > data.len() {
        return Err(invalid(CUT_SHORT));
    }
    let text = data.split_to(len);
    let text = str::from_utf8(&text).map_err(|_| invalid("text is not valid UTF-8"))?;
    Ok(text.to_owned())
}

fn put_list<T>(out: &mut BytesMut, items: &[T], put: impl Fn(&mut BytesMut, &T)) {
    out.put_u32(len32(items.len()));
    items.iter().for_each(|item| put(out, item));
}

fn get_list<T>(
    data: &mut Bytes,
    get: impl Fn(&mut Bytes) -> Result<T, AgentProtocolError>,
) -> Result<Vec<T>, AgentProtocolError> {
    let len = data.try_get_u32().map_err(cut_short)?;
    let room = usize::try_from(len).unwrap_or(usize::MAX);
    let mut items = Vec::with_capacity(room.min(MAX_PREALLOCATED));
    for _ in 0..len {
        items.push(get(data)?);
    }
    Ok(items)
}

fn put_map(out: &mut BytesMut, map: &HashMap<String, String>) {
    out.put_u32(len32(map.len()));
    for (key, value) in map {
        put_str(out, key);
        put_str(out, value);
    }
}

fn get_map(data: &mut Bytes) -> Result<HashMap<String, String>, AgentProtocolError> {
    let pairs = get_list(data, |data| Ok((get_string(data)?, get_string(data)?)))?;
    Ok(pairs.into_iter().collect())
}

fn get_flag(data: &mut Bytes) -> Result<bool, AgentProtocolError> {
    match data.try_get_u8().map_err(cut_short)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(invalid(format!("a flag is {other}"))),
    }
}

const CUT_SHORT: &str = "the payload ends in the middle of a value";

fn cut_short(_: bytes::TryGetError) -> AgentProtocolError {
    invalid(CUT_SHORT)
}
