//! A connection after its handshake: reads questions, and writes answers in any order.

use super::End;
use super::drain::Silence;
use super::input::{Input, READ_SIZE};
use super::jobs::{Done, Job, Slot, Waiting};
use crate::ask::Scratch;
use crate::wire::{Frame, FrameKind, Status};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, Stream};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::task::consume_budget;
use tokio::time::{Instant, Sleep, sleep_until};
use tollgate::listener::{OtherSession, SessionMemory};

/// Bytes of unsent answers above which nothing more is read.
const MAX_UNSENT: usize = 256 * 1024;

/// Bytes by which an incomplete frame has to grow within the time that it has.
const PROGRESS: usize = 64 * 1024;

/// Jobs whose memory is kept for further ones.
const MAX_SPARE: usize = 64;

/// A connection after its handshake. `start` makes the futures of its jobs.
pub(super) struct Connection<'s, S, M, F> {
    stream: &'s mut S,
    session: &'s OtherSession,
    start: M,
    input: Input,
    output: Vec<u8>,
    /// Bytes of the output that were sent.
    sent: usize,
    waiting: FuturesUnordered<Waiting<F>>,
    /// Bytes that waiting jobs keep from being freed.
    held: usize,
    spare: Vec<(Slot<F>, Box<Scratch>)>,
    memory: SessionMemory,
    silence: Silence,
    stall: Stall,
    /// Set once no more is read: the session ends when all is answered.
    last_status: Option<Status>,
}

/// Time limit of an incomplete frame, and of answers that the peer does not read.
struct Stall {
    limit: Duration,
    /// Set to the end of the limit or before: it is moved only once it has fired.
    timer: Option<Pin<Box<Sleep>>>,
    mark: Option<Mark>,
}

/// The last progress.
#[derive(Clone, Copy)]
struct Mark {
    /// Bytes received of the frame at that time.
    incomplete: usize,
    /// Time of the next progress at the latest.
    until: Instant,
}

impl<'s, S, M, F> Connection<'s, S, M, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    M: Fn(Job) -> F,
    F: Future<Output = Done>,
{
    pub(super) fn new(
        stream: &'s mut S,
        session: &'s OtherSession,
        (input, memory): (Input, SessionMemory),
        start: M,
    ) -> Self {
        Self {
            stream,
            start,
            input,
            output: Vec::new(),
            sent: 0,
            waiting: FuturesUnordered::new(),
            held: 0,
            spare: Vec::new(),
            memory,
            silence: Silence::default(),
            stall: Stall {
                limit: session.frame_timeout(),
                timer: None,
                mark: None,
            },
            last_status: None,
            session,
        }
    }

    /// Serves until the connection ends.
    pub(super) async fn run(mut self) -> Result<(), End> {
        let session = self.session;
        let mut leaving = pin!(session.leaving());
        poll_fn(|cx| {
            if !self.silence.is_awaited() && leaving.as_mut().poll(cx).is_ready() {
                self.silence.begin();
            }
            self.poll(cx)
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        loop {
            self.begin_received(cx)?;
            self.poll_waiting(cx);
            let has_sent = self.poll_write(cx)?;
            if has_sent {
                // The question about the response may follow an answer.
                self.silence.interrupt();
            }
            self.charge();
            if self.memory.is_needed() {
                return Poll::Ready(Err(Status::Resources.into()));
            }
            if self.is_done() {
                if let Some(status) = self.last_status {
                    return Poll::Ready(Err(status.into()));
                }
                if self.input.len() == 0 && self.silence.poll(cx).is_ready() {
                    return Poll::Ready(Err(Status::Normal.into()));
                }
            }
            let has_received = self.poll_read(cx)?;
            if !has_received && !has_sent {
                if self.poll_stall(cx).is_ready() {
                    return Poll::Ready(Err(Status::Timeout.into()));
                }
                return Poll::Pending;
            }
            self.silence.interrupt();
        }
    }

    /// Returns whether nothing is open.
    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.output.is_empty()
    }

    /// Begins all jobs whose frames are complete, within the limits. Of many small frames, those
    /// that are left are begun once other tasks have run.
    fn begin_received(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        while self.last_status.is_none()
            && self.may_begin()
            && pin!(consume_budget()).poll(cx).is_ready()
        {
            let frame = match self.input.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(status) => {
                    self.last_status = Some(status);
                    break;
                }
            };
            if let Err(status) = self.take_frame(cx, frame) {
                self.last_status = Some(status);
            }
        }
        Ok(())
    }

    fn may_begin(&self) -> bool {
        self.waiting.len() < self.session.max_concurrent() && self.output.len() < MAX_UNSENT
    }

    fn take_frame(&mut self, cx: &mut Context<'_>, bytes: Bytes) -> Result<(), Status> {
        let frame = Frame::read(&bytes).map_err(|_| Status::InvalidFrame)?;
        match frame.kind {
            FrameKind::Unset => return Err(Status::Fragmented),
            FrameKind::HaproxyDisconnect => return Err(Status::Normal),
            FrameKind::Notify if frame.flags.is_whole() => {}
            FrameKind::Notify => return Err(Status::Fragmented),
            _ => return Err(Status::InvalidFrame),
        }
        self.stall.reset();
        let (mut slot, scratch) = self.spare.pop().unwrap_or_default();
        let held = bytes.len() + READ_SIZE;
        let payload = bytes.slice(bytes.len() - frame.payload.len()..);
        let job = Job::Question {
            id: frame.id,
            payload,
            scratch,
        };
        slot.begin((self.start)(job), held);
        self.advance(cx, slot);
        Ok(())
    }

    /// Runs a job until it waits or is done, and what follows from it.
    fn advance(&mut self, cx: &mut Context<'_>, mut slot: Slot<F>) {
        while let Poll::Ready(done) = slot.poll(cx) {
            match self.finish(done) {
                Ok(next) => slot.begin(next, READ_SIZE),
                Err(scratch) => return self.keep(slot, scratch),
            }
        }
        self.held += slot.held;
        self.waiting.push(Waiting(Some(slot)));
    }

    /// Takes the answer of a job. Returns the job that follows from it, or the free memory.
    fn finish(&mut self, done: Done) -> Result<F, Box<Scratch>> {
        let Done {
            mut scratch,
            complete,
        } = done;
        self.output.extend_from_slice(&scratch.ack);
        scratch.shrink();
        match complete {
            Some(complete) => Ok((self.start)(Job::Complete { complete, scratch })),
            None => Err(scratch),
        }
    }

    fn keep(&mut self, slot: Slot<F>, scratch: Box<Scratch>) {
        if self.spare.len() < MAX_SPARE {
            self.spare.push((slot, scratch));
        }
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) {
        // An empty set would have to be polled again once it has members.
        while !self.waiting.is_empty()
            && let Poll::Ready(Some((mut slot, done))) = Pin::new(&mut self.waiting).poll_next(cx)
        {
            self.held -= slot.held;
            match self.finish(done) {
                Ok(next) => {
                    slot.begin(next, READ_SIZE);
                    self.advance(cx, slot);
                }
                Err(scratch) => self.keep(slot, scratch),
            }
        }
    }

    /// Sends answers. Returns whether all were sent.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let had_output = !self.output.is_empty();
        while self.sent < self.output.len() {
            let unsent = &self.output[self.sent..];
            match Pin::new(&mut *self.stream).poll_write(cx, unsent) {
                Poll::Ready(Ok(0)) => return Err(End::Closed),
                Poll::Ready(Ok(len)) => {
                    self.sent += len;
                    self.stall.reset();
                }
                Poll::Ready(Err(error)) => return Err(error.into()),
                Poll::Pending => return Ok(false),
            }
        }
        self.output.clear();
        self.output.shrink_to(MAX_UNSENT);
        self.sent = 0;
        Ok(had_output)
    }

    /// Reads, unless there is enough to do. Returns whether something was read.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.last_status.is_some() || !self.may_begin() || self.is_slowed() {
            return Ok(false);
        }
        match pin!(self.stream.read_buf(self.input.spare())).poll(cx) {
            Poll::Ready(Ok(0)) => Err(End::Closed),
            Poll::Ready(Ok(_)) => Ok(true),
            Poll::Ready(Err(error)) => Err(error.into()),
            Poll::Pending => Ok(false),
        }
    }

    /// Returns whether memory is scarce and answers are to come, after which there is more of it.
    fn is_slowed(&self) -> bool {
        !self.waiting.is_empty() && self.memory.is_slowed()
    }

    fn charge(&mut self) {
        let spare = self.spare.len() * size_of::<F>();
        let held = self.input.memory() + self.output.capacity() + self.held + spare;
        self.memory.set(held);
    }

    /// Polls whether the peer has been too slow.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let unsent = self.output.len() - self.sent;
        let is_held_up = !self.may_begin() || self.is_slowed();
        let incomplete = if is_held_up { 0 } else { self.input.len() };
        self.stall.poll(cx, incomplete, unsent)
    }
}

impl Stall {
    /// Begins anew, since there is progress.
    fn reset(&mut self) {
        self.mark = None;
    }

    fn poll(&mut self, cx: &mut Context<'_>, incomplete: usize, unsent: usize) -> Poll<()> {
        if incomplete == 0 && unsent == 0 {
            self.reset();
            return Poll::Pending;
        }
        let is_current = |mark: &Mark| incomplete < mark.incomplete + PROGRESS;
        let mark = self.mark.filter(is_current).unwrap_or_else(|| Mark {
            incomplete,
            until: Instant::now() + self.limit,
        });
        self.mark = Some(mark);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(mark.until)));
        while timer.as_mut().poll(cx).is_ready() {
            if timer.deadline() >= mark.until {
                return Poll::Ready(());
            }
            timer.as_mut().reset(mark.until);
        }
        Poll::Pending
    }
}
