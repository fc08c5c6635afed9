//! Streams of gRPC over HTTP/2: frames in, frames out, and the status at the end.

use crate::agent::Agent;
use bytes::{Buf, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response};
use std::future::poll_fn;
use std::task::{Context, Poll};
use tollgate::listener::MemoryCharge;

/// Bytes in front of a message: a flag and the length.
const PREFIX: usize = 5;

/// Status codes of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Ok = 0,
    NotFound = 5,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

/// Status with which a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: Code,
    pub(crate) message: &'static str,
}

impl Status {
    pub(crate) const OK: Self = Self::new(Code::Ok, "");

    pub(crate) const fn new(code: Code, message: &'static str) -> Self {
        Self { code, message }
    }
}

/// Reason why no further message can be read or sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// The peer reset the stream, or the connection ended. Both are normal.
    Gone,
    /// The peer broke gRPC, or exceeded a limit.
    Broken(Status),
}

/// One stream.
pub(crate) struct GrpcStream<'a> {
    agent: &'a Agent,
    received: RecvStream,
    respond: SendResponse<Bytes>,
    sending: Option<SendStream<Bytes>>,
    /// Bytes of answers that HTTP/2 has not taken.
    waiting: usize,
    /// Bytes that were received and belong to messages that were not returned yet.
    unread: Bytes,
    /// Number of bytes that `unread` and the last message are parts of.
    in_use: usize,
    /// Beginning of a message that came in several parts.
    partial: BytesMut,
    /// Charge of `partial`, or of the last message if it came in several parts.
    charge: MemoryCharge,
    /// Space for the answers.
    pub(crate) out: BytesMut,
}

impl<'a> GrpcStream<'a> {
    pub(crate) fn new(
        agent: &'a Agent,
        received: RecvStream,
        respond: SendResponse<Bytes>,
    ) -> Self {
        Self {
            agent,
            received,
            respond,
            sending: None,
            waiting: 0,
            unread: Bytes::new(),
            in_use: 0,
            partial: BytesMut::new(),
            charge: agent.session.memory_charge(),
            out: BytesMut::new(),
        }
    }

    /// Returns the next message; `None` once the peer has closed its side. Loses nothing if the
    /// future is dropped. The message before is charged until then.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, StreamEnd> {
        if self.partial.is_empty() {
            let _ = self.charge.resize(0);
        }
        loop {
            if let Some(message) = self.take_message()? {
                return Ok(Some(message));
            }
            self.agent.buffered.read(std::mem::take(&mut self.in_use));
            let Some(data) = poll_fn(|cx| self.received.poll_data(cx)).await else {
                let is_whole = self.unread.is_empty() && self.partial.is_empty();
                return match is_whole {
                    true => Ok(None),
                    false => Err(self.broken("the stream ended inside a message")),
                };
            };
            let data = data.map_err(|_| StreamEnd::Gone)?;
            self.in_use = data.len();
            // An error means that the stream is gone, which reading finds out.
            let _ = self.received.flow_control().release_capacity(data.len());
            self.unread = data;
        }
    }

    /// Takes a message out of what was received; `None` if it is not there as a whole.
    fn take_message(&mut self) -> Result<Option<Bytes>, StreamEnd> {
        if !self.partial.is_empty() {
            return self.complete();
        }
        let Some(len) = self.message_len(&self.unread)? else {
            return self.begin_partial(PREFIX);
        };
        if self.unread.len() < PREFIX + len {
            return self.begin_partial(PREFIX + len);
        }
        self.unread.advance(PREFIX);
        Ok(Some(self.unread.split_to(len)))
    }

    /// Keeps what is there of a message of `len` bytes, which has to be continued.
    fn begin_partial(&mut self, len: usize) -> Result<Option<Bytes>, StreamEnd> {
        if self.unread.is_empty() {
            return Ok(None);
        }
        self.reserve(len)?;
        self.partial.extend_from_slice(&self.unread);
        self.unread = Bytes::new();
        Ok(None)
    }

    fn reserve(&mut self, len: usize) -> Result<(), StreamEnd> {
        // A peer that announces a message pays for it as its bytes arrive.
        if !self
            .charge
            .resize(len.min(2 * self.partial.len() + 64 * 1024))
        {
            let status = Status::new(Code::ResourceExhausted, "no memory is left for the message");
            return Err(StreamEnd::Broken(status));
        }
        Ok(())
    }

    /// Continues a message that came in parts.
    fn complete(&mut self) -> Result<Option<Bytes>, StreamEnd> {
        if self.partial.len() < PREFIX {
            let missing = (PREFIX - self.partial.len()).min(self.unread.len());
            self.partial
                .extend_from_slice(&self.unread.split_to(missing));
        }
        let Some(len) = self.message_len(&self.partial)? else {
            return Ok(None);
        };
        let missing = (PREFIX + len - self.partial.len()).min(self.unread.len());
        self.reserve(PREFIX + len)?;
        self.partial
            .extend_from_slice(&self.unread.split_to(missing));
        if self.partial.len() < PREFIX + len {
            return Ok(None);
        }
        let mut message = std::mem::take(&mut self.partial).freeze();
        message.advance(PREFIX);
        Ok(Some(message))
    }

    /// Returns the length of the message that begins with these bytes; `None` if they are too few.
    fn message_len(&self, bytes: &[u8]) -> Result<Option<usize>, StreamEnd> {
        let counters = self.agent.counters();
        let Some(&[flag, a, b, c, d]) = bytes.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        if flag != 0 {
            let status = Status::new(Code::Unimplemented, "compressed messages are not supported");
            counters.undecodable.add_one();
            return Err(StreamEnd::Broken(status));
        }
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        if len > self.agent.config().max_message {
            counters.too_large.add_one();
            let status = Status::new(Code::ResourceExhausted, "the message is too large");
            return Err(StreamEnd::Broken(status));
        }
        Ok(Some(len))
    }

    /// Completes when the peer has reset the stream, or the connection has ended.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.sending {
            Some(sending) => sending.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        reset.map(drop)
    }

    /// Sends a frame, and the bytes that belong to it. Waits as long as the peer takes none.
    pub(crate) async fn send(&mut self, frame: Bytes, body: Bytes) -> Result<(), StreamEnd> {
        if self.sending.is_none() {
            let head = grpc_head(Response::new(()));
            let sending = self.respond.send_response(head, false);
            self.sending = Some(sending.map_err(|_| StreamEnd::Gone)?);
        }
        self.send_bytes(frame).await?;
        if !body.is_empty() {
            self.send_bytes(body).await?;
        }
        Ok(())
    }

    async fn send_bytes(&mut self, mut bytes: Bytes) -> Result<(), StreamEnd> {
        let Some(sending) = &mut self.sending else {
            return Err(StreamEnd::Gone);
        };
        let buffered = &self.agent.buffered;
        self.waiting += bytes.len();
        buffered.wait(bytes.len());
        while !bytes.is_empty() {
            sending.reserve_capacity(bytes.len());
            let mut capacity = sending.capacity();
            while capacity == 0 {
                let granted = poll_fn(|cx| sending.poll_capacity(cx)).await;
                capacity = granted
                    .ok_or(StreamEnd::Gone)?
                    .map_err(|_| StreamEnd::Gone)?;
            }
            let part = bytes.split_to(capacity.min(bytes.len()));
            self.waiting -= part.len();
            buffered.take(part.len());
            sending
                .send_data(part, false)
                .map_err(|_| StreamEnd::Gone)?;
        }
        Ok(())
    }

    fn broken(&self, message: &'static str) -> StreamEnd {
        self.agent.counters().undecodable.add_one();
        StreamEnd::Broken(Status::new(Code::Internal, message))
    }

    /// Ends the stream with a status.
    pub(crate) fn finish(&mut self, status: Status) {
        // Errors mean that the peer is gone, which needs no status.
        match self.sending.take() {
            Some(mut sending) => {
                let _ = sending.send_trailers(trailers(status));
            }
            None => refuse(&mut self.respond, status),
        }
    }
}

impl Drop for GrpcStream<'_> {
    fn drop(&mut self) {
        // HTTP/2 discards what was not read.
        let unread = self.received.flow_control().used_capacity();
        self.agent.buffered.end_stream(unread + self.in_use);
        self.agent.buffered.discard(self.waiting);
    }
}

/// Ends a stream that nothing was sent on.
pub(crate) fn refuse(respond: &mut SendResponse<Bytes>, status: Status) {
    let mut head = grpc_head(Response::new(()));
    head.headers_mut().extend(trailers(status));
    // An error means that the peer is gone.
    let _ = respond.send_response(head, true);
}

/// Resets a stream that is no call of gRPC.
pub(crate) fn reject(respond: &mut SendResponse<Bytes>) {
    respond.send_reset(Reason::PROTOCOL_ERROR);
}

fn grpc_head(mut head: Response<()>) -> Response<()> {
    const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
    head.headers_mut().insert(http::header::CONTENT_TYPE, GRPC);
    head
}

fn trailers(status: Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert("grpc-status", HeaderValue::from(status.code as u16));
    if !status.message.is_empty() {
        // Messages are ASCII without percent signs, so they need no percent-encoding.
        trailers.insert("grpc-message", HeaderValue::from_static(status.message));
    }
    trailers
}
