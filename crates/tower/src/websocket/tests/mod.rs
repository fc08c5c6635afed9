//! Tests of the relay between peers that this file writes and reads frames for.

mod decisions;
mod endings;
mod peers;
mod properties;
mod streams;
mod violations;

use super::relay::RelayEnd;
use super::{EndCause, Frame, FrameVerdict, Judge, JudgeError, Judges, Limits, Side, relay};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::Duration;

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
/// Room in the streams, for more than most tests write.
const ROOM: usize = 256 * 1024;

/// Judges by a function.
#[derive(Clone)]
struct By<F>(F);

impl<F> Judge for By<F>
where
    F: FnMut(Frame<'_>) -> Result<FrameVerdict, JudgeError> + Send,
{
    async fn judge(&mut self, frame: Frame<'_>) -> Result<FrameVerdict, JudgeError> {
        (self.0)(frame)
    }
}

fn both<J: Clone>(judge: J) -> Judges<J> {
    Judges {
        client: judge.clone(),
        upstream: judge,
    }
}

fn forward_all() -> Judges<impl Judge + 'static> {
    both(By(|_: Frame<'_>| Ok(FrameVerdict::Forward)))
}

/// The ends of a connection with a relay between them.
struct Ends {
    client: DuplexStream,
    upstream: DuplexStream,
    relay: JoinHandle<RelayEnd>,
}

impl Ends {
    fn new(judges: Judges<impl Judge + Send + 'static>) -> Self {
        Self::with(judges, Limits::default(), ROOM)
    }

    fn with(judges: Judges<impl Judge + Send + 'static>, limits: Limits, room: usize) -> Self {
        let (client, client_relay) = duplex(room);
        let (upstream, upstream_relay) = duplex(room);
        let relay =
            tokio::spawn(async move { relay(client_relay, upstream_relay, judges, &limits).await });
        Self {
            client,
            upstream,
            relay,
        }
    }

    fn end(&mut self, side: Side) -> &mut DuplexStream {
        match side {
            Side::Client => &mut self.client,
            Side::Upstream => &mut self.upstream,
        }
    }

    /// Writes frames as `side`, masked if that is the client.
    async fn send(&mut self, side: Side, frames: &[Seen]) {
        for frame in frames {
            self.end(side)
                .write_all(&frame.encode(side))
                .await
                .expect("the relay reads");
        }
    }

    /// Reads the next frame that arrives at `side`.
    async fn receive(&mut self, side: Side) -> Seen {
        let mut data = Vec::new();
        in_time(async {
            loop {
                data.push(self.end(side).read_u8().await.expect("a frame arrives"));
                if let Some((frame, _)) = Seen::decode(&data, side.peer()) {
                    return frame;
                }
            }
        })
        .await
    }

    /// Reads what arrives at both ends until their streams end, then the outcome.
    async fn finish(self) -> Finished {
        let Self {
            mut client,
            mut upstream,
            relay,
        } = self;
        let (mut at_client, mut at_upstream) = (Vec::new(), Vec::new());
        let read = async {
            tokio::try_join!(
                client.read_to_end(&mut at_client),
                upstream.read_to_end(&mut at_upstream),
            )
        };
        in_time(read)
            .await
            .expect("a stream in memory does not fail");
        drop((client, upstream));
        Finished {
            client: Seen::decode_all(&at_client, Side::Upstream),
            upstream: Seen::decode_all(&at_upstream, Side::Client),
            end: in_time(relay).await.expect("the relay does not panic"),
        }
    }
}

/// Fails a test that would wait forever. The clock of most tests is paused, so that this takes no
/// time.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future)
        .await
        .expect("ends in time")
}

/// Frames that have arrived at each end, and the outcome.
struct Finished {
    client: Vec<Seen>,
    upstream: Vec<Seen>,
    end: RelayEnd,
}

impl Finished {
    /// Checks that the last frame at both ends is a close frame with this code, and the only one.
    fn assert_closed_with(&self, code: u16, context: &str) {
        for (name, frames) in [("client", &self.client), ("upstream", &self.upstream)] {
            let last = frames
                .last()
                .unwrap_or_else(|| panic!("{context}: nothing at {name}"));
            assert_eq!(
                (last.opcode, last.code()),
                (CLOSE, Some(code)),
                "{context}: {name}"
            );
            let closes = frames.iter().filter(|frame| frame.opcode == CLOSE).count();
            assert_eq!(closes, 1, "{context}: {name}");
        }
    }
}

/// A frame with its payload unmasked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    opcode: u8,
    fin: bool,
    payload: Vec<u8>,
}

impl Seen {
    fn new(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Self {
            opcode,
            fin: true,
            payload: payload.as_ref().to_vec(),
        }
    }

    fn part(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Self {
            fin: false,
            ..Self::new(opcode, payload)
        }
    }

    fn close(code: u16, reason: &str) -> Self {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        Self::new(CLOSE, payload)
    }

    fn code(&self) -> Option<u16> {
        let code = self.payload.get(..2)?;
        Some(u16::from_be_bytes([code[0], code[1]]))
    }

    /// Encodes a frame that `from` sends.
    fn encode(&self, from: Side) -> Vec<u8> {
        let is_masked = from == Side::Client;
        let mask_bit = if is_masked { 0x80 } else { 0 };
        let mut data = vec![self.opcode | if self.fin { 0x80 } else { 0 }];
        match self.payload.len() {
            length @ 0..=125 => data.push(mask_bit | length as u8),
            length @ 126..=0xFFFF => {
                data.push(mask_bit | 126);
                data.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                data.push(mask_bit | 127);
                data.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        if !is_masked {
            data.extend_from_slice(&self.payload);
            return data;
        }
        data.extend_from_slice(&KEY);
        data.extend(
            self.payload
                .iter()
                .enumerate()
                .map(|(at, byte)| byte ^ KEY[at % 4]),
        );
        data
    }

    /// Decodes the first frame that `from` sent, and returns it with its length.
    fn decode(data: &[u8], from: Side) -> Option<(Self, usize)> {
        let (first, second) = (*data.first()?, *data.get(1)?);
        assert_eq!(first & 0x70, 0, "reserved bits");
        assert_eq!(
            second & 0x80 != 0,
            from == Side::Client,
            "only frames of a client are masked"
        );
        let (length, mut at) = match second & 0x7F {
            126 => (
                u64::from(u16::from_be_bytes(data.get(2..4)?.try_into().unwrap())),
                4,
            ),
            127 => (u64::from_be_bytes(data.get(2..10)?.try_into().unwrap()), 10),
            length => (u64::from(length), 2),
        };
        let mut key = [0; 4];
        if from == Side::Client {
            key.copy_from_slice(data.get(at..at + 4)?);
            at += 4;
        }
        let payload = data.get(at..at + length as usize)?;
        let payload = payload
            .iter()
            .enumerate()
            .map(|(at, byte)| byte ^ key[at % 4])
            .collect();
        let frame = Self {
            opcode: first & 0x0F,
            fin: first & 0x80 != 0,
            payload,
        };
        Some((frame, at + length as usize))
    }

    fn decode_all(mut data: &[u8], from: Side) -> Vec<Self> {
        let mut frames = Vec::new();
        while !data.is_empty() {
            let (frame, length) = Self::decode(data, from).expect("only whole frames are sent");
            frames.push(frame);
            data = &data[length..];
        }
        frames
    }
}
