//! The send queue: frames on their way from callers to the link.

#[cfg(all(test, tollgate_loom))]
#[path = "../../../tests/unit/connection/send_queue_loom.rs"]
mod loom_tests;

use super::Stopwatch;
use super::link::{Batch, LinkError, LinkSender};
use super::sync::{ArrayQueue, AtomicUsize, AtomicWaker, Mutex, Ordering, fence};
use super::wait_queue::WaitQueue;
use crate::wire::OutgoingFrame;
use std::sync::{PoisonError, TryLockError};
use std::task::{Context, Poll};

/// Frames waiting to be sent on one connection: a bounded ring that many callers fill and that one
/// of them, or the writer task, drains.
#[derive(Debug)]
pub(crate) struct SendQueue {
    ring: ArrayQueue<QueuedFrame>,
    /// Empty buffers, kept with their memory for the next frames.
    spare: ArrayQueue<Vec<u8>>,
    /// Empty large buffers, for bodies. Only a few, so that an idle connection holds little memory.
    spare_large: ArrayQueue<Vec<u8>>,
    /// Callers waiting for room in the ring.
    push_waiters: WaitQueue,
    /// Frames that were taken out of the ring and are not sent yet. The lock lets one task at a
    /// time send. Callers only try it: one that does not get it leaves its frame to the writer
    /// task.
    sending: Mutex<Batch>,
    /// Wakes the writer task.
    writer: AtomicWaker,
    /// 1 once the writer task has something to do, else 0.
    is_writer_requested: AtomicUsize,
    /// 1 once the connection is closed and frames are dropped, else 0.
    is_closed: AtomicUsize,
}

/// A frame, and the stopwatch of its call if that is timed.
#[derive(Debug, Default)]
pub(crate) struct QueuedFrame {
    frame: OutgoingFrame,
    watch: Option<Stopwatch>,
}

impl QueuedFrame {
    pub(crate) fn new(frame: OutgoingFrame, watch: Option<Stopwatch>) -> Self {
        Self { frame, watch }
    }

    /// Returns the frame, and records the time at which it is sent.
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

/// Outcome of [`SendQueue::drain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drained {
    /// Every frame is sent.
    Empty,
    /// The link is full. The remaining frames have to wait until it can take more.
    NoRoom,
    /// Another task is sending.
    Busy,
}

/// Minimum capacity of a buffer. Nearly every message without a body fits. With smaller ones, each
/// of the buffers in use would have to grow in turn.
const MIN_BUFFER_LEN: usize = 2 * 1024;

/// Maximum capacity of a small buffer. As many of these are kept as are in use when the ring is
/// full.
const SMALL_BUFFER_LEN: usize = 4 * 1024;

/// Maximum capacity of a large buffer; even larger ones are not kept. A body chunk of 64 KiB fits
/// as base64.
const LARGE_BUFFER_LEN: usize = 128 * 1024;

/// Maximum number of large buffers that are kept.
const MAX_SPARE_LARGE: usize = 4;

/// Number of waiting frames at which calls no longer join the batch but go to another connection.
/// Of 4, 8 and 16, as measured by `scripts/bench-peers`, 16 gave the most requests per second over
/// gRPC, in one process and in two.
const FULL_BATCH: usize = 16;

impl SendQueue {
    /// Creates a send queue for at most `capacity` frames.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            ring: ArrayQueue::new(capacity),
            // For the frames of a full ring and those that were taken out of it to be sent.
            spare: ArrayQueue::new(2 * capacity),
            spare_large: ArrayQueue::new(MAX_SPARE_LARGE),
            push_waiters: WaitQueue::default(),
            sending: Mutex::default(),
            writer: AtomicWaker::new(),
            is_writer_requested: AtomicUsize::new(0),
            is_closed: AtomicUsize::new(0),
        }
    }

    /// Returns the fill level of the ring, 0.0 to 1.0.
    pub(crate) fn utilization(&self) -> f64 {
        self.ring.len() as f64 / self.ring.capacity() as f64
    }

    /// Returns an empty buffer for a frame of about `expected` bytes.
    pub(crate) fn buffer(&self, expected: usize) -> Vec<u8> {
        let spare = if expected <= SMALL_BUFFER_LEN {
            self.spare.pop()
        } else {
            self.spare_large.pop()
        };
        let mut buffer = spare.unwrap_or_default();
        buffer.reserve(expected.max(MIN_BUFFER_LEN));
        buffer
    }

    /// Keeps the buffer of a sent frame for another one.
    pub(crate) fn recycle(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let store = if buffer.capacity() <= SMALL_BUFFER_LEN {
            &self.spare
        } else if buffer.capacity() <= LARGE_BUFFER_LEN {
            &self.spare_large
        } else {
            return;
        };
        // Dropped if enough are kept.
        let _ = store.push(buffer);
    }

    /// Puts a frame into the ring if there is room and no caller is waiting. Returns it otherwise.
    pub(crate) fn try_push(&self, frame: impl Into<QueuedFrame>) -> Result<(), QueuedFrame> {
        let mut frame = Some(frame.into());
        match self
            .push_waiters
            .try_acquire(|| self.push_or_discard(&mut frame))
        {
            Some(()) => Ok(()),
            None => Err(frame.unwrap_or_default()),
        }
    }

    /// Puts a frame into the ring, waiting in order for room.
    pub(crate) async fn push(&self, frame: impl Into<QueuedFrame>) {
        let mut waiting = WaitingFrame {
            send_queue: self,
            frame: Some(frame.into()),
        };
        self.push_waiters
            .acquire(|| self.push_or_discard(&mut waiting.frame))
            .await;
    }

    /// Attempts to put a frame into the ring. Once the connection is closed, drops it instead,
    /// which counts as success so that no caller waits for ever.
    fn push_or_discard(&self, frame: &mut Option<QueuedFrame>) -> Option<()> {
        if self.is_closed.load(Ordering::Acquire) != 0 {
            *frame = None;
            return Some(());
        }
        match self.ring.push(frame.take()?) {
            Ok(()) => Some(()),
            Err(rejected) => {
                *frame = Some(rejected);
                None
            }
        }
    }

    /// Sends all frames in the ring, unless another task is doing so. Over a cheap link, whoever
    /// sends looks at the ring again afterwards, so that a task that found it busy may leave.
    ///
    /// After pushing a frame, a caller must either call this and get `Empty`, or call
    /// [`SendQueue::request_writer`]. Otherwise the frame may stay in the ring.
    pub(crate) fn drain(&self, sender: &dyn LinkSender) -> Result<Drained, LinkError> {
        if !sender.is_cheap() {
            return self.drain_once(sender);
        }
        loop {
            // Pairs with the fence below. Either this finds the lock free, or the task that holds
            // it finds the frame when it has let go.
            fence(Ordering::SeqCst);
            let drained = self.drain_once(sender)?;
            if drained != Drained::Empty {
                return Ok(drained);
            }
            fence(Ordering::SeqCst);
            if self.ring.is_empty() {
                return Ok(drained);
            }
        }
    }

    fn drain_once(&self, sender: &dyn LinkSender) -> Result<Drained, LinkError> {
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

    /// Moves frames from the ring to the batch. The batch holds at most as many frames as the ring,
    /// which bounds the unsent frames.
    fn refill(&self, batch: &mut Batch) {
        let before = batch.len();
        while batch.len() < self.ring.capacity()
            && let Some(frame) = self.ring.pop()
        {
            batch.push(frame.into_sent());
        }
        if batch.len() > before {
            self.push_waiters.notify_one();
        }
    }

    /// Wakes the writer task to drain the ring, unless it is requested already.
    pub(crate) fn request_writer(&self) {
        if self.is_writer_requested.swap(1, Ordering::AcqRel) == 0 {
            self.writer.wake();
        }
    }

    /// Wakes the writer task after the connection was closed, whether it waits for a request or for
    /// the link.
    pub(crate) fn stop_writer(&self) {
        self.is_writer_requested.store(1, Ordering::Release);
        self.writer.wake();
    }

    /// Polls until the writer task is requested. Only the writer task may call this.
    ///
    /// The request stays until [`SendQueue::take_request`], so that further callers do not wake the
    /// writer task again.
    pub(crate) fn poll_requested(&self, cx: &Context<'_>) -> Poll<()> {
        self.writer.register(cx.waker());
        if self.is_writer_requested.load(Ordering::Acquire) == 0 {
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Returns whether the writer task is about to send a batch that one more frame can join.
    pub(crate) fn is_batching(&self) -> bool {
        self.is_writer_requested.load(Ordering::Relaxed) != 0
            && (1..FULL_BATCH).contains(&self.ring.len())
    }

    /// Ends the request. Frames pushed from now on need a new one.
    ///
    /// A swap, so that it acquires the frames of callers that found the request set and did not
    /// wake the writer task. The drain that follows sees those frames.
    pub(crate) fn take_request(&self) {
        self.is_writer_requested.swap(0, Ordering::AcqRel);
    }

    /// Drops all unsent frames and those pushed from now on. Callers stop waiting for room.
    pub(crate) fn discard(&self) {
        self.is_closed.store(1, Ordering::SeqCst);
        while self.ring.pop().is_some() {}
        *self.sending.lock().unwrap_or_else(PoisonError::into_inner) = Batch::default();
        self.push_waiters.notify_one();
    }
}

/// A frame waiting for room. If its caller gives up, its buffer is kept for another frame.
struct WaitingFrame<'o> {
    send_queue: &'o SendQueue,
    frame: Option<QueuedFrame>,
}

impl Drop for WaitingFrame<'_> {
    fn drop(&mut self) {
        if let Some(frame) = self.frame.take() {
            self.send_queue.recycle(frame.frame.written);
        }
    }
}
