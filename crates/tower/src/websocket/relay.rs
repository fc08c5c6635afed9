//! Relays frames in both directions until the connection ends.

use super::close::{self, ClosePayload};
use super::forwarding::{Forwarding, SPLIT_CHARACTER, SplitCharacter};
use super::judge::{Frame, FrameVerdict, Judge, JudgeError, Judges};
use super::limits::Limits;
use super::reader::{FrameReader, NoFrame};
use super::rules::Violation;
use super::side::Side;
use super::wind_down::wind_down;
use super::writer::FrameWriter;
use std::pin::pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tollgate::events::WebSocketOpcode;

/// Relays the frames of a WebSocket connection, and returns how it ended.
///
/// The streams begin behind the response 101. Each direction has its judge and handles one frame
/// at a time. When the connection ends, both streams are shut down, and read for a while so that
/// the peers receive the close frame.
pub(crate) async fn relay<C, U, J>(
    client: C,
    upstream: U,
    judges: Judges<J>,
    limits: &Limits,
) -> RelayEnd
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
    J: Judge,
{
    let (client_read, client_write) = tokio::io::split(client);
    let (upstream_read, upstream_write) = tokio::io::split(upstream);
    let mut requests = Direction::new(Side::Client, client_read, upstream_write, judges.client);
    let mut replies = Direction::new(Side::Upstream, upstream_read, client_write, judges.upstream);
    let cause = exchange(&mut requests, &mut replies, limits).await;
    let payload = cause.close_payload();
    tokio::join!(
        wind_down(
            &mut requests.reader,
            &mut replies.writer,
            payload.clone(),
            limits
        ),
        wind_down(&mut replies.reader, &mut requests.writer, payload, limits),
    );
    RelayEnd {
        cause,
        client: requests.traffic(),
        upstream: replies.traffic(),
    }
}

/// Outcome of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelayEnd {
    /// Reason for the end.
    pub(crate) cause: EndCause,
    /// Frames of the client.
    pub(crate) client: Traffic,
    /// Frames of the upstream.
    pub(crate) upstream: Traffic,
}

/// Frames that one peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Traffic {
    /// Number of valid frames that were received whole.
    pub(crate) frames: u64,
    /// Length of these frames with their headers, in bytes.
    pub(crate) bytes: u64,
    /// Number of these frames that were not forwarded because of a decision.
    pub(crate) dropped: u64,
}

/// Reason for the end of a relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EndCause {
    /// A close frame was forwarded, and answered unless the peer could not be written to.
    Closed {
        /// Peer that sent the first close frame.
        by: Side,
    },
    /// A peer ended its stream without a close frame, or its stream failed.
    HungUp {
        /// That peer.
        side: Side,
    },
    /// A peer did not answer a close frame in time.
    TimedOut {
        /// That peer.
        side: Side,
    },
    /// A peer sent an invalid frame, or one beyond the limits.
    Violation {
        /// That peer.
        side: Side,
        /// Close code that was sent to both peers.
        code: u16,
        /// Close reason that was sent to both peers.
        reason: &'static str,
    },
    /// A decision closed the connection.
    ClosedByJudge {
        /// Sender of the frame that was judged.
        side: Side,
        /// Close code of the decision.
        code: u16,
        /// Close reason of the decision.
        reason: String,
    },
    /// A frame was not judged.
    NotJudged {
        /// Sender of the frame.
        side: Side,
        /// The judge's error.
        error: JudgeError,
    },
}

impl EndCause {
    /// Returns what is sent to peers that have not got a close frame. A peer that remains when the
    /// other hangs up gets none, as without a relay.
    fn close_payload(&self) -> Option<ClosePayload> {
        Some(match self {
            Self::HungUp { .. } => return None,
            Self::Closed { .. } | Self::TimedOut { .. } => ClosePayload::empty(),
            Self::Violation { code, reason, .. } => ClosePayload::new(*code, reason),
            Self::ClosedByJudge { code, reason, .. } => ClosePayload::new(*code, reason),
            Self::NotJudged {
                error: JudgeError::Failed,
                ..
            } => ClosePayload::new(close::INTERNAL_ERROR, "inspection failed"),
            Self::NotJudged {
                error: JudgeError::Busy,
                ..
            } => ClosePayload::new(close::TRY_AGAIN_LATER, "inspection busy"),
        })
    }
}

/// Reason for which a direction has stopped.
#[derive(Debug)]
enum Stop {
    /// The sender's close frame was forwarded.
    Closed,
    /// The sender hung up.
    HungUp,
    /// The receiver hung up. What it has sent may still be unread.
    Unwritable,
    Violation(Violation),
    ClosedByJudge {
        code: u16,
        reason: String,
    },
    NotJudged(JudgeError),
}

impl Stop {
    /// Returns the end of the connection with frames of `side`.
    fn into_cause(self, side: Side) -> EndCause {
        match self {
            Self::Closed => EndCause::Closed { by: side },
            Self::HungUp => EndCause::HungUp { side },
            Self::Unwritable => EndCause::HungUp { side: side.peer() },
            Self::Violation(Violation { code, reason }) => {
                EndCause::Violation { side, code, reason }
            }
            Self::ClosedByJudge { code, reason } => EndCause::ClosedByJudge { side, code, reason },
            Self::NotJudged(error) => EndCause::NotJudged { side, error },
        }
    }
}

/// One direction of the connection.
struct Direction<R, W, J> {
    from: Side,
    reader: FrameReader<R>,
    writer: FrameWriter<W>,
    judge: J,
    forwarding: Forwarding,
    dropped: u64,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin, J: Judge> Direction<R, W, J> {
    fn new(from: Side, read: R, write: W, judge: J) -> Self {
        Self {
            from,
            reader: FrameReader::new(read, from),
            writer: FrameWriter::new(write, from.peer()),
            judge,
            forwarding: Forwarding::default(),
            dropped: 0,
        }
    }

    fn traffic(&self) -> Traffic {
        let (frames, bytes) = (self.reader.frames(), self.reader.bytes());
        Traffic {
            frames,
            bytes,
            dropped: self.dropped,
        }
    }

    /// Relays frames until this direction stops.
    async fn run(&mut self, limits: &Limits) -> Stop {
        loop {
            if let Err(stop) = self.relay_frame(limits).await {
                return stop;
            }
        }
    }

    async fn relay_frame(&mut self, limits: &Limits) -> Result<(), Stop> {
        let frame = self
            .reader
            .next(limits)
            .await
            .map_err(|error| match error {
                NoFrame::HungUp => Stop::HungUp,
                NoFrame::Violation(violation) => Stop::Violation(violation),
            })?;
        let is_close = frame.opcode == WebSocketOpcode::Close;
        let judged = Frame {
            from: self.from,
            opcode: frame.opcode,
            data: &frame.data,
            index: frame.index,
            fin: frame.fin,
        };
        let outgoing = match self.judge.judge(judged).await.map_err(Stop::NotJudged)? {
            FrameVerdict::Forward => self.forwarding.forward(frame),
            FrameVerdict::Drop => {
                self.dropped += 1;
                self.forwarding
                    .drop_frame(&frame)
                    .map_err(|SplitCharacter| {
                        let (code, reason) = SPLIT_CHARACTER;
                        Stop::ClosedByJudge {
                            code,
                            reason: reason.to_owned(),
                        }
                    })?
            }
            FrameVerdict::Close { code, reason } => {
                return Err(Stop::ClosedByJudge { code, reason });
            }
        };
        if let Some(frame) = outgoing {
            let sent = self.writer.send(frame.opcode, frame.fin, frame.data).await;
            sent.map_err(|_| Stop::Unwritable)?;
        }
        if is_close { Err(Stop::Closed) } else { Ok(()) }
    }
}

/// Runs both directions until the connection ends.
///
/// A direction that is interrupted within a frame keeps its state, so that the frame can be
/// completed before a close frame.
async fn exchange<R1, W1, R2, W2, J>(
    requests: &mut Direction<R1, W1, J>,
    replies: &mut Direction<R2, W2, J>,
    limits: &Limits,
) -> EndCause
where
    R1: AsyncRead + Unpin,
    W1: AsyncWrite + Unpin,
    R2: AsyncRead + Unpin,
    W2: AsyncWrite + Unpin,
    J: Judge,
{
    let mut requests = pin!(requests.run(limits));
    let mut replies = pin!(replies.run(limits));
    tokio::select! {
        stop = &mut requests => conclude(Side::Client, stop, replies, limits).await,
        stop = &mut replies => conclude(Side::Upstream, stop, requests, limits).await,
    }
}

/// Returns the end of the connection, of which one direction has stopped.
async fn conclude(
    side: Side,
    stop: Stop,
    other: impl Future<Output = Stop>,
    limits: &Limits,
) -> EndCause {
    let has_closed = match stop {
        Stop::Closed => true,
        Stop::Unwritable => false,
        stop => return stop.into_cause(side),
    };
    // The other peer's answer, or its last frames if it hung up after them.
    match timeout(limits.close_timeout, other).await {
        Ok(Stop::Closed | Stop::Unwritable) if has_closed => EndCause::Closed { by: side },
        Ok(stop) => stop.into_cause(side.peer()),
        Err(_) if has_closed => EndCause::TimedOut { side: side.peer() },
        Err(_) => EndCause::HungUp { side: side.peer() },
    }
}
