//! The halves of a link through shared memory.

use super::bell::Bell;
use super::region::{OwnRing, OwnWords, PeerRegion};
use super::ring::{ImpossiblePosition, OwnMemory, PeerMemory, Reader, Word, Writer};
use super::spin::{Spin, Wait};
use crate::clock;
use crate::connection::link::{
    Batch, Halves, LinkError, LinkPoll, LinkReceiver, LinkSender, MAX_SLICES,
};
use crate::connection::{LinkCounters, Terms};
use crate::lock::lock;
use crate::memory::MemoryCharge;
use crate::transport::socket::is_hung_up;
use atomic_waker::AtomicWaker;
use bytes::BytesMut;
use rustix::thread::sched_getcpu;
use std::hint::spin_loop;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Bytes that are taken at once.
const MAX_TAKEN: usize = 64 * 1024;

/// Doorbells that a peer may send beyond those that were asked for.
const SPARE_DOORBELLS: u64 = 8;

/// The parts of a link.
pub(super) struct Rings {
    pub(super) words: OwnWords,
    pub(super) ring: OwnRing,
    pub(super) peer: PeerRegion,
    pub(super) bell: Arc<Bell>,
    pub(super) charge: MemoryCharge,
    pub(super) terms: Terms,
}

/// State that both halves share. The mappings go with it.
struct Shared {
    words: OwnWords,
    peer: PeerRegion,
    bell: Arc<Bell>,
    /// The writing half, which the task that sends holds for as long as it copies.
    writing: Mutex<Writing>,
    counters: Arc<LinkCounters>,
    /// Wakes the task that waits for room. The receiving half hears the doorbell for it.
    room_waker: AtomicWaker,
    /// Set while a task waits for room.
    wants_room: AtomicBool,
    /// Wakes the task that receives.
    receive_waker: AtomicWaker,
    /// Set while the receiving half sleeps because nothing was expected, although it might wait
    /// without sleeping otherwise.
    could_spin: AtomicBool,
    /// Cleared when the peer is woken, and set when it sends.
    is_peer_awake: AtomicBool,
    /// Set once the socket has ended.
    has_ended: AtomicBool,
    /// Time at which the peer was last woken, in nanoseconds since `began`; 0 once it has sent.
    woken_at: AtomicU64,
    began: Instant,
    /// Doorbells that the peer was asked for, in all.
    doorbells_due: AtomicU64,
    _charge: MemoryCharge,
}

struct Writing {
    writer: Writer,
    ring: OwnRing,
}

struct RingSender(Arc<Shared>);

struct RingReceiver {
    shared: Arc<Shared>,
    reader: Reader,
    spin: Spin,
    /// Position at which this side last asked to be woken.
    asked_at: Option<u64>,
    /// Doorbells that were heard, in all.
    heard: u64,
}

/// Makes the halves of a link.
pub(super) fn split(rings: Rings) -> Halves {
    let now = clock::now();
    let shared = Arc::new(Shared {
        words: rings.words,
        peer: rings.peer,
        bell: rings.bell,
        writing: Mutex::new(Writing {
            writer: Writer::default(),
            ring: rings.ring,
        }),
        counters: rings.terms.counters,
        room_waker: AtomicWaker::new(),
        wants_room: AtomicBool::new(false),
        receive_waker: AtomicWaker::new(),
        could_spin: AtomicBool::new(false),
        is_peer_awake: AtomicBool::new(false),
        has_ended: AtomicBool::new(false),
        woken_at: AtomicU64::new(0),
        began: now,
        doorbells_due: AtomicU64::new(SPARE_DOORBELLS),
        _charge: rings.charge,
    });
    let receiver = RingReceiver {
        shared: Arc::clone(&shared),
        reader: Reader::default(),
        spin: Spin::new(rings.terms.mode, now),
        asked_at: None,
        heard: 0,
    };
    (Box::new(RingSender(shared)), Box::new(receiver))
}

impl From<ImpossiblePosition> for LinkError {
    fn from(_: ImpossiblePosition) -> Self {
        Self::SharedMemory("a position is impossible")
    }
}

impl Shared {
    /// Wakes the peer, which sleeps.
    fn ring(&self) {
        self.is_peer_awake.store(false, Ordering::Relaxed);
        self.woken_at.store(self.nanoseconds(), Ordering::Relaxed);
        self.counters.note(|counters| &counters.doorbells);
        self.bell.ring();
    }

    fn nanoseconds(&self) -> u64 {
        let elapsed = clock::elapsed(self.began).as_nanos();
        u64::try_from(elapsed).unwrap_or(u64::MAX).max(1)
    }

    fn check_open(&self) -> Result<(), LinkError> {
        if self.has_ended.load(Ordering::Acquire) {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
        }
        Ok(())
    }

    fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
        self.room_waker.wake();
    }

    /// Wakes the task that waits for room, if there is any by now.
    fn check_room(&self) -> Result<(), ImpossiblePosition> {
        if !self.wants_room.load(Ordering::Relaxed) {
            return Ok(());
        }
        let has_room = {
            let Writing { writer, .. } = &mut *lock(&self.writing);
            writer.has_room(&self.words, &self.peer)?
        };
        if has_room {
            self.room_waker.wake();
        }
        Ok(())
    }
}

impl LinkSender for RingSender {
    fn try_send(&self, batch: &mut Batch, recycle: &dyn Fn(Vec<u8>)) -> Result<(), LinkError> {
        if batch.is_empty() {
            return Ok(());
        }
        let shared = &*self.0;
        shared.check_open()?;
        let wakes = {
            let Writing { writer, ring } = &mut *lock(&shared.writing);
            writer.rewind(&shared.words, &shared.peer)?;
            write_batch(shared, writer, ring, batch, recycle)?;
            writer.publish(&shared.words, &shared.peer)
        };
        if wakes {
            shared.ring();
        }
        if shared.could_spin.load(Ordering::Relaxed)
            && shared.could_spin.swap(false, Ordering::Relaxed)
        {
            shared.receive_waker.wake();
        }
        Ok(())
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> LinkPoll<()> {
        let shared = &*self.0;
        shared.room_waker.register(cx.waker());
        shared.wants_room.store(true, Ordering::Relaxed);
        shared.check_open()?;
        let has_room = {
            let Writing { writer, .. } = &mut *lock(&shared.writing);
            shared.doorbells_due.fetch_add(1, Ordering::Relaxed);
            writer.has_room_or_asks(&shared.words, &shared.peer)?
        };
        if !has_room {
            return Poll::Pending;
        }
        shared.wants_room.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn close(&self) {
        self.0.bell.shut_down();
    }

    fn is_peer_gone(&self) -> bool {
        is_hung_up(self.0.bell.socket())
    }

    fn is_cheap(&self) -> bool {
        true
    }

    fn is_peer_awake(&self) -> bool {
        self.0.is_peer_awake.load(Ordering::Relaxed)
    }
}

impl Drop for RingSender {
    /// The socket has a second descriptor, in the half that may live on.
    fn drop(&mut self) {
        self.close();
    }
}

/// Copies as much of a batch as there is room for.
fn write_batch(
    shared: &Shared,
    writer: &mut Writer,
    ring: &mut OwnRing,
    batch: &mut Batch,
    recycle: &dyn Fn(Vec<u8>),
) -> Result<(), ImpossiblePosition> {
    while !batch.is_empty() {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let filled = batch.fill(&mut slices);
        let (mut written, mut is_full) = (0, false);
        for slice in &slices[..filled] {
            let count = writer.write(&shared.words, ring, &shared.peer, slice)?;
            written += count;
            is_full = count < slice.len();
            if is_full {
                break;
            }
        }
        batch.advance(written, recycle);
        if is_full {
            break;
        }
    }
    Ok(())
}

impl RingReceiver {
    /// Takes what is there. Returns the number of bytes.
    fn take(&mut self, into: &mut BytesMut) -> Result<usize, LinkError> {
        let Self {
            shared,
            reader,
            spin,
            ..
        } = self;
        let limit = (into.capacity() - into.len()).min(MAX_TAKEN);
        let taken = reader.take(&shared.words, &shared.peer, into, limit)?;
        if taken.wakes {
            shared.ring();
        }
        if taken.bytes > 0 {
            spin.received();
            if !shared.is_peer_awake.load(Ordering::Relaxed) {
                shared.is_peer_awake.store(true, Ordering::Relaxed);
                let woken_at = shared.woken_at.swap(0, Ordering::Relaxed);
                if woken_at != 0 {
                    let took = shared.nanoseconds().saturating_sub(woken_at);
                    spin.woke_in(Duration::from_nanos(took));
                }
            }
        }
        Ok(taken.bytes)
    }

    /// Looks at the ring for a moment, if waiting without sleeping is worth it. Ready once the ring
    /// is not empty, or with `false` if this side has to sleep.
    fn poll_spin(&mut self, cx: &mut Context<'_>) -> LinkPoll<bool> {
        let Self {
            shared,
            reader,
            spin,
            ..
        } = self;
        let now = clock::now();
        let shares_processor = || {
            let processor = processor();
            // A moment ago, as the peer does not publish it later than it sleeps.
            shared
                .words
                .store(Word::Processor, processor, Ordering::Relaxed);
            shared.peer.load(Word::Processor) == processor
        };
        let link = Arc::as_ptr(shared) as usize;
        match spin.next(link, now, shares_processor) {
            Wait::Look => {}
            Wait::Begin => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Wait::Sleep => return Poll::Ready(Ok(false)),
            Wait::GiveUp => {
                shared.counters.note(|counters| &counters.vain_spins);
                return Poll::Ready(Ok(false));
            }
        }
        for _ in 0..spin.looks() {
            if reader.available(&shared.peer)? > 0 {
                return Poll::Ready(Ok(true));
            }
            spin_loop();
        }
        spin.let_others_run(now, cx);
        Poll::Pending
    }

    /// Asks the peer to wake this side. Returns `false` if there is something to take already.
    fn goes_to_sleep(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkError> {
        let Self { shared, reader, .. } = self;
        shared.receive_waker.register(cx.waker());
        shared
            .could_spin
            .store(self.spin.may_begin(), Ordering::Relaxed);
        shared
            .words
            .store(Word::Processor, processor(), Ordering::Relaxed);
        let position = reader.position();
        if self.asked_at.replace(position) != Some(position) {
            // The peer may ring even if this side then finds that it need not sleep.
            shared.doorbells_due.fetch_add(1, Ordering::Relaxed);
        }
        if !reader.goes_to_sleep(&shared.words, &shared.peer)? {
            return Ok(false);
        }
        shared.counters.note(|counters| &counters.sleeps);
        Ok(true)
    }

    /// Polls for doorbells, which the task that waits for room is told about.
    fn poll_bell(&mut self, cx: &mut Context<'_>) -> LinkPoll<()> {
        let heard = match self.shared.bell.poll_heard(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(heard) => heard?,
        };
        if heard == 0 {
            self.shared.end();
            return Poll::Ready(Ok(()));
        }
        self.heard += heard as u64;
        if self.heard > self.shared.doorbells_due.load(Ordering::Relaxed) {
            return Poll::Ready(Err(LinkError::SharedMemory("too many doorbells")));
        }
        self.shared.room_waker.wake();
        Poll::Ready(Ok(()))
    }
}

impl LinkReceiver for RingReceiver {
    fn poll_receive(&mut self, cx: &mut Context<'_>, into: &mut BytesMut) -> LinkPoll<usize> {
        self.shared.check_room()?;
        loop {
            // Before the ring is looked at: a peer that ends has published everything before.
            let has_ended = self.shared.has_ended.load(Ordering::Acquire);
            let taken = self.take(into)?;
            if taken > 0 || has_ended {
                return Poll::Ready(Ok(taken));
            }
            match self.poll_spin(cx)? {
                // Whoever never sleeps hears of the socket's end here.
                Poll::Pending if self.spin.never_sleeps() => {
                    if self.poll_bell(cx)?.is_pending() {
                        return Poll::Pending;
                    }
                    continue;
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(true) => continue,
                Poll::Ready(false) => {}
            }
            if !self.goes_to_sleep(cx)? {
                continue;
            }
            match self.poll_bell(cx)? {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => {}
            }
        }
    }

    fn set_expecting(&mut self, is_expecting: bool) {
        self.spin.set_expecting(is_expecting);
    }

    fn poll_signals(&mut self, cx: &mut Context<'_>) -> LinkPoll<()> {
        while self.poll_bell(cx)?.is_ready() {
            self.shared.check_open()?;
        }
        Poll::Pending
    }
}

/// Returns the number of the processor that this runs on, plus 1.
fn processor() -> u64 {
    sched_getcpu() as u64 + 1
}
