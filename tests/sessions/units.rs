//! Parts of a recorded stream: frames, frames of HTTP/2, and gRPC messages in them.

/// Bytes before the first HTTP/2 frame of a client.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;

/// Length of the header of an HTTP/2 frame.
const HTTP2_HEAD: usize = 9;

/// Payload of the longest HTTP/2 frame that every peer accepts.
const MAX_DATA: usize = 16 * 1024;

/// Part of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub form: Form,
    /// The content, without lengths and the rest of its header.
    pub bytes: Vec<u8>,
    /// Number of bytes that were received before this was sent.
    pub after: usize,
}

/// Header of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// None.
    Raw,
    /// The length of a frame. The content begins with the type.
    Frame,
    /// Header of an HTTP/2 frame.
    Http2 { kind: u8, flags: u8, stream: u32 },
    /// Header of a gRPC message, in DATA frames of HTTP/2.
    Message { stream: u32 },
}

/// Protocol below the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Frames,
    Http2,
}

/// A piece of a recorded stream, and the number of bytes that were received before it was sent.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub after: usize,
    pub bytes: Vec<u8>,
}

/// Splits a recorded stream into units. An incomplete one at its end is left out.
pub fn split(stream: &[Recorded], framing: Framing) -> Vec<Unit> {
    let bytes: Vec<u8> = stream
        .iter()
        .flat_map(|piece| piece.bytes.clone())
        .collect();
    let mut units = match framing {
        Framing::Frames => split_frames(&bytes),
        Framing::Http2 => split_http2(&bytes),
    };
    // `after` is the position of the unit until here.
    for unit in &mut units {
        let mut end = 0;
        let containing = stream.iter().find(|piece| {
            end += piece.bytes.len();
            unit.after < end
        });
        unit.after = containing.map_or(0, |piece| piece.after);
    }
    units
}

/// Splits frames. Each has its position in `after`.
pub fn split_frames(bytes: &[u8]) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut at = 0;
    while let Some(length) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let length = u32::from_be_bytes(*length) as usize;
        let Some(content) = bytes.get(at + 4..at + 4 + length) else {
            break;
        };
        units.push(Unit {
            form: Form::Frame,
            bytes: content.to_vec(),
            after: at,
        });
        at += 4 + length;
    }
    units
}

/// Splits HTTP/2. Each unit has its position in `after`.
pub fn split_http2(bytes: &[u8]) -> Vec<Unit> {
    let mut units = Vec::new();
    let mut at = 0;
    if bytes.starts_with(PREFACE) {
        at = PREFACE.len();
        units.push(Unit {
            form: Form::Raw,
            bytes: PREFACE.to_vec(),
            after: 0,
        });
    }
    // Bytes of DATA frames that do not make a message yet.
    let mut data = Vec::new();
    while let Some(&[l0, l1, l2, kind, flags, s0, s1, s2, s3]) =
        bytes.get(at..).and_then(<[u8]>::first_chunk::<HTTP2_HEAD>)
    {
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let start = at + HTTP2_HEAD;
        let Some(content) = bytes.get(start..start + length) else {
            break;
        };
        if kind == DATA {
            data.extend_from_slice(content);
            for message in take_messages(&mut data) {
                let form = Form::Message { stream };
                units.push(Unit {
                    form,
                    bytes: message,
                    after: at,
                });
            }
        }
        if kind != DATA || flags != 0 {
            let bytes = if kind == DATA {
                Vec::new()
            } else {
                content.to_vec()
            };
            let form = Form::Http2 {
                kind,
                flags,
                stream,
            };
            units.push(Unit {
                form,
                bytes,
                after: at,
            });
        }
        at = start + length;
    }
    units
}

/// Takes the complete gRPC messages from the beginning of the bytes.
fn take_messages(data: &mut Vec<u8>) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some(&[_, l0, l1, l2, l3]) = data.first_chunk() {
        let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if data.len() < 5 + length {
            break;
        }
        messages.push(data[5..5 + length].to_vec());
        data.drain(..5 + length);
    }
    messages
}

impl Unit {
    /// Returns the bytes on the wire, with correct lengths.
    pub fn wire(&self) -> Vec<u8> {
        match self.form {
            Form::Raw => self.bytes.clone(),
            Form::Frame => {
                let length = u32::try_from(self.bytes.len()).expect("a short frame");
                [&length.to_be_bytes()[..], &self.bytes].concat()
            }
            Form::Http2 {
                kind,
                flags,
                stream,
            } => http2_frame(kind, flags, stream, &self.bytes),
            Form::Message { stream } => {
                let length = u32::try_from(self.bytes.len()).expect("a short message");
                let message = [&[0][..], &length.to_be_bytes(), &self.bytes].concat();
                let frames = message.chunks(MAX_DATA);
                frames
                    .flat_map(|data| http2_frame(DATA, 0, stream, data))
                    .collect()
            }
        }
    }

    pub fn is_message(&self) -> bool {
        matches!(self.form, Form::Message { .. })
    }

    /// Returns the positions on the wire of the length and its number of bytes. A gRPC message has
    /// two lengths.
    pub fn lengths(&self) -> &'static [(usize, usize)] {
        match self.form {
            Form::Raw => &[],
            Form::Frame => &[(0, 4)],
            Form::Http2 { .. } => &[(0, 3)],
            Form::Message { .. } => &[(HTTP2_HEAD + 1, 4), (0, 3)],
        }
    }
}

fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len())
        .expect("a short frame")
        .to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}
