#[cfg(all(test, tollgate_loom))]
mod loom_tests;

use super::Stopwatch;
use super::link::{Batch, LinkSender};
use super::sync::{ArrayQueue, AtomicUsize, AtomicWaker, Mutex, Ordering};
use super::turnstile::Turnstile;
use crate::wire::OutgoingFrame;
use std::io;
use std::sync::{PoisonError, TryLockError};
use std::task::{Context, Poll};

/// The frames that wait to be sent on one connection: a bounded ring that many callers fill and one of
/// them, or the connection's writer, drains.
#[derive(Debug)]
pub(crate) struct Outbox {
    ring: ArrayQueue<QueuedFrame>,
    /// Buffers to encode into, kept with their memory.
    spare: ArrayQueue<Vec<u8>>,
    /// The same for bodies; few, so that an idle connection does not hold much.
    spare_large: ArrayQueue<Vec<u8>>,
    room: Turnstile,
    /// What was taken out of the ring and is not sent yet. Nobody waits for this lock: who does not get
    /// it leaves the work to the writer.
    sending: Mutex<Batch>,
    writer: AtomicWaker,
    /// Whether the writer has something to do.
    requested: AtomicUsize,
    /// Whether the connection is over, so that frames go nowhere.
    over: AtomicUsize,
}

/// A frame, and where it is noted that it is sent, if anybody wants to know.
#[derive(Debug, Default)]
pub(crate) struct QueuedFrame {
    frame: OutgoingFrame,
    watch: Option<Stopwatch>,
}

impl QueuedFrame {
    pub(crate) fn new(frame: OutgoingFrame, watch: Option<Stopwatch>) -> Self {
        Self { frame, watch }
    }

    /// Takes the frame out to be sent.
    fn into_sent(self) -> OutgoingFrame {
        if let Some(watch) = self.watch {
            watch.sent();
        }
        self.frame
    }
}

impl From<OutgoingFrame> for QueuedFrame {
    fn from(frame: OutgoingFrame) -> Self {
        Self::new(frame, None)
    }
}

/// How far a drain got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Everything is sent.
    Empty,
    /// The link has no room; the rest waits for it.
    NoRoom,
    /// Another task is at it.
    Busy,
}

/// Nearly every message without a body fits. Buffers go round, so without this they would grow one after another.
const USUAL_BUFFER: usize = 2 * 1024;

/// Buffers up to this size are kept, as many as are in use when the ring is full.
const SMALL_BUFFER: usize = 4 * 1024;

/// Buffers up to this size are kept, [`MAX_KEPT_LARGE`] of them: a body chunk of 64 KiB fits as base64.
const LARGE_BUFFER: usize = 128 * 1024;
const MAX_KEPT_LARGE: usize = 4;

/// Frames that go together before calls begin another batch elsewhere. Built with 4, 8 and 16 and measured by
/// `scripts/bench-peers`, the last made for the most requests over gRPC, in one process and in two.
const BATCH: usize = 16;

impl Outbox {
    /// An outbox for at most `capacity` frames.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            ring: ArrayQueue::new(capacity),
            // Those of a full ring, and of what was taken out of it to be sent.
            spare: ArrayQueue::new(2 * capacity),
            spare_large: ArrayQueue::new(MAX_KEPT_LARGE),
            room: Turnstile::default(),
            sending: Mutex::default(),
            writer: AtomicWaker::new(),
            requested: AtomicUsize::new(0),
            over: AtomicUsize::new(0),
        }
    }

    /// How full the ring is, 0.0 to 1.0.
    pub(crate) fn utilization(&self) -> f64 {
        self.ring.len() as f64 / self.ring.capacity() as f64
    }

    /// An empty buffer for a frame of about `expected` bytes.
    pub(crate) fn buffer(&self, expected: usize) -> Vec<u8> {
        let spare = if expected <= SMALL_BUFFER {
            self.spare.pop()
        } else {
            self.spare_large.pop()
        };
        let mut buffer = spare.unwrap_or_default();
        buffer.reserve(expected.max(USUAL_BUFFER));
        buffer
    }

    /// Takes a buffer back.
    pub(crate) fn recycle(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let store = if buffer.capacity() <= SMALL_BUFFER {
            &self.spare
        } else if buffer.capacity() <= LARGE_BUFFER {
            &self.spare_large
        } else {
            return;
        };
        // A full store means that there are buffers enough.
        let _ = store.push(buffer);
    }

    /// Puts a frame into the ring if there is room and nobody waits for it. Gives it back otherwise.
    pub(crate) fn try_push(&self, frame: impl Into<QueuedFrame>) -> Result<(), QueuedFrame> {
        let mut frame = Some(frame.into());
        match self.room.try_pass(|| self.attempt(&mut frame)) {
            Some(()) => Ok(()),
            None => Err(frame.unwrap_or_default()),
        }
    }

    /// Puts a frame into the ring, waiting in line for room.
    pub(crate) async fn push(&self, frame: impl Into<QueuedFrame>) {
        let mut waiting = WaitingFrame {
            outbox: self,
            frame: Some(frame.into()),
        };
        self.room.pass(|| self.attempt(&mut waiting.frame)).await;
    }

    fn attempt(&self, frame: &mut Option<QueuedFrame>) -> Option<()> {
        if self.over.load(Ordering::Acquire) != 0 {
            *frame = None;
            return Some(());
        }
        match self.ring.push(frame.take()?) {
            Ok(()) => Some(()),
            Err(refused) => {
                *frame = Some(refused);
                None
            }
        }
    }

    /// Sends everything that is in the ring, unless another task is doing so.
    ///
    /// Whoever pushed a frame must either call this and see `Empty`, or call
    /// [`Outbox::request_writer`]; so no frame stays behind.
    pub(crate) fn drain(&self, sender: &dyn LinkSender) -> io::Result<Drained> {
        let mut batch = match self.sending.try_lock() {
            Ok(batch) => batch,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(Drained::Busy),
        };
        loop {
            self.refill(&mut batch);
            if batch.is_empty() {
                return Ok(Drained::Empty);
            }
            sender.try_send(&mut batch, &|buffer| self.recycle(buffer))?;
            if !batch.is_empty() {
                return Ok(Drained::NoRoom);
            }
        }
    }

    /// Moves frames out of the ring, at most as many as it holds, so that what is unsent stays bounded.
    fn refill(&self, batch: &mut Batch) {
        let before = batch.len();
        while batch.len() < self.ring.capacity()
            && let Some(frame) = self.ring.pop()
        {
            batch.push(frame.into_sent());
        }
        if batch.len() > before {
            self.room.made_room();
        }
    }

    /// Has the writer drain the ring.
    pub(crate) fn request_writer(&self) {
        if self.requested.swap(1, Ordering::AcqRel) == 0 {
            self.writer.wake();
        }
    }

    /// Has the writer look whether its connection is over, whatever it waits for.
    pub(crate) fn stop_writer(&self) {
        self.requested.store(1, Ordering::Release);
        self.writer.wake();
    }

    /// Waits until the writer is requested. For the writer alone.
    ///
    /// The request stands until [`Outbox::take_request`], so that callers who come meanwhile do not wake
    /// the writer again.
    pub(crate) fn poll_requested(&self, cx: &Context<'_>) -> Poll<()> {
        self.writer.register(cx.waker());
        if self.requested.load(Ordering::Acquire) == 0 {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Whether the writer is about to send frames, and one more would cost nothing to go with them.
    pub(crate) fn gathers(&self) -> bool {
        self.requested.load(Ordering::Relaxed) != 0 && (1..BATCH).contains(&self.ring.len())
    }

    /// Ends a request; frames that are pushed from now on need a new one.
    pub(crate) fn take_request(&self) {
        self.requested.swap(0, Ordering::AcqRel);
    }

    /// Throws away what is not sent and whatever comes from now on. Nobody waits for room any more.
    pub(crate) fn discard(&self) {
        self.over.store(1, Ordering::SeqCst);
        while self.ring.pop().is_some() {}
        *self.sending.lock().unwrap_or_else(PoisonError::into_inner) = Batch::default();
        self.room.made_room();
    }
}

/// A frame that waits for room; its buffer is not lost if it never gets any.
struct WaitingFrame<'o> {
    outbox: &'o Outbox,
    frame: Option<QueuedFrame>,
}

impl Drop for WaitingFrame<'_> {
    fn drop(&mut self) {
        if let Some(frame) = self.frame.take() {
            self.outbox.recycle(frame.frame.written);
        }
    }
}
