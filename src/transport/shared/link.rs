//! The halves of a link through shared memory.

use super::bell::Bell;
use super::region::{OwnRing, OwnWords, PeerRegion};
use super::ring::{ImpossiblePosition, OwnMemory, PeerMemory, Reader, Word, Writer};
use super::spin::{Spin, Wait};
use crate::clock;
use crate::connection::link::{Batch, Halves, LinkError, LinkPoll, LinkReceiver, LinkSender};
use crate::connection::{LinkCounters, Terms};
use crate::lock::lock;
use crate::memory::MemoryCharge;
use crate::transport::socket::is_hung_up;
use atomic_waker::AtomicWaker;
use bytes::BytesMut;
use rustix::thread::sched_getcpu;
use std::hint::spin_loop;
use std::io;
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

/// Mappings and descriptor of the link, which go with the last half that uses them.
struct Held {
    words: OwnWords,
    peer: PeerRegion,
    bell: Arc<Bell>,
    _charge: MemoryCharge,
}

/// State that both halves share.
struct Shared {
    /// The writing half, which the task that sends holds for as long as it copies. `None` once the
    /// link is closed: whoever still knows the sending half must not keep memory and descriptor.
    writing: Mutex<Option<Writing>>,
    counters: Arc<LinkCounters>,
    /// Wakes the task that waits for room. The receiving half hears the doorbell for it.
    room_waker: AtomicWaker,
    /// Set while a task waits for room.
    wants_room: AtomicBool,
    /// Wakes the task that receives.
    receive_waker: AtomicWaker,
    /// Set while the receiving half sleeps because nothing was expected, and would wait without
    /// sleeping otherwise.
    could_spin: AtomicBool,
    /// Cleared when the peer is woken, and set when it sends.
    is_peer_awake: AtomicBool,
    /// Set while the peer sleeps although it has something to take. Whoever sends sets it, and the
    /// same task rings or asks the writer task to.
    has_to_ring: AtomicBool,
    /// Set once the socket has ended.
    has_ended: AtomicBool,
    /// Time at which the peer was last woken, in nanoseconds since `began`; 0 once it has sent.
    woken_at: AtomicU64,
    began: Instant,
    /// Doorbells that the peer was asked for, in all.
    doorbells_due: AtomicU64,
}

struct Writing {
    writer: Writer,
    ring: OwnRing,
    held: Arc<Held>,
}

struct RingSender(Arc<Shared>);

struct RingReceiver {
    shared: Arc<Shared>,
    held: Arc<Held>,
    reader: Reader,
    spin: Spin,
    /// Position at which this side last asked to be woken.
    asked_at: Option<u64>,
    /// The processor that this side last published, plus 1.
    processor: u64,
    /// Doorbells that were heard, in all.
    heard: u64,
}

/// Makes the halves of a link.
pub(super) fn split(rings: Rings) -> Halves {
    let now = clock::now();
    let held = Arc::new(Held {
        words: rings.words,
        peer: rings.peer,
        bell: rings.bell,
        _charge: rings.charge,
    });
    let shared = Arc::new(Shared {
        writing: Mutex::new(Some(Writing {
            writer: Writer::default(),
            ring: rings.ring,
            held: Arc::clone(&held),
        })),
        counters: rings.terms.counters,
        room_waker: AtomicWaker::new(),
        wants_room: AtomicBool::new(false),
        receive_waker: AtomicWaker::new(),
        could_spin: AtomicBool::new(false),
        is_peer_awake: AtomicBool::new(false),
        has_to_ring: AtomicBool::new(false),
        has_ended: AtomicBool::new(false),
        woken_at: AtomicU64::new(0),
        began: now,
        doorbells_due: AtomicU64::new(SPARE_DOORBELLS),
    });
    let receiver = RingReceiver {
        shared: Arc::clone(&shared),
        held,
        reader: Reader::default(),
        spin: Spin::new(rings.terms.mode, now),
        asked_at: None,
        processor: 0,
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
    fn ring(&self, bell: &Bell) {
        self.is_peer_awake.store(false, Ordering::Relaxed);
        self.woken_at.store(self.nanoseconds(), Ordering::Relaxed);
        self.counters.note(|counters| &counters.doorbells);
        bell.ring();
    }

    /// Returns the socket, unless the link is closed.
    fn bell(&self) -> Option<Arc<Bell>> {
        let writing = lock(&self.writing);
        writing
            .as_ref()
            .map(|writing| Arc::clone(&writing.held.bell))
    }

    fn nanoseconds(&self) -> u64 {
        let elapsed = clock::elapsed(self.began).as_nanos();
        u64::try_from(elapsed).unwrap_or(u64::MAX).max(1)
    }

    fn check_open(&self) -> Result<(), LinkError> {
        if self.has_ended.load(Ordering::Acquire) {
            return Err(closed());
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
        let has_room = match &mut *lock(&self.writing) {
            Some(Writing { writer, held, .. }) => writer.has_room(&held.words, &held.peer)?,
            None => true,
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
            let mut writing = lock(&shared.writing);
            let writing = writing.as_mut().ok_or_else(closed)?;
            writing.write_batch(batch, recycle)?
        };
        if wakes {
            shared.has_to_ring.store(true, Ordering::Relaxed);
        }
        if shared.could_spin.load(Ordering::Relaxed)
            && shared.could_spin.swap(false, Ordering::Relaxed)
        {
            shared.receive_waker.wake();
        }
        Ok(())
    }

    fn has_to_ring(&self) -> bool {
        self.0.has_to_ring.load(Ordering::Relaxed)
    }

    fn ring(&self) {
        let shared = &*self.0;
        if shared.has_to_ring.load(Ordering::Relaxed)
            && shared.has_to_ring.swap(false, Ordering::Relaxed)
            && let Some(bell) = shared.bell()
        {
            shared.ring(&bell);
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> LinkPoll<()> {
        let shared = &*self.0;
        shared.room_waker.register(cx.waker());
        shared.wants_room.store(true, Ordering::Relaxed);
        shared.check_open()?;
        let has_room = {
            let mut writing = lock(&shared.writing);
            let Writing { writer, held, .. } = writing.as_mut().ok_or_else(closed)?;
            shared.doorbells_due.fetch_add(1, Ordering::Relaxed);
            writer.has_room_or_asks(&held.words, &held.peer)?
        };
        if !has_room {
            return Poll::Pending;
        }
        shared.wants_room.store(false, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn close(&self) {
        if let Some(writing) = lock(&self.0.writing).take() {
            writing.held.bell.shut_down();
        }
    }

    fn is_peer_gone(&self) -> bool {
        let bell = self.0.bell();
        bell.is_none_or(|bell| is_hung_up(bell.socket()))
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

impl Writing {
    /// Copies as much of a batch as there is room for, and publishes it. Returns whether the peer
    /// sleeps and has to be woken.
    fn write_batch(
        &mut self,
        batch: &mut Batch,
        recycle: &dyn Fn(Vec<u8>),
    ) -> Result<bool, ImpossiblePosition> {
        let Self { writer, ring, held } = self;
        let Held { words, peer, .. } = &**held;
        writer.rewind(words, peer)?;
        let mut written = 0;
        for piece in batch.pieces() {
            let count = writer.write(words, ring, peer, piece)?;
            written += count;
            if count < piece.len() {
                break;
            }
        }
        batch.advance(written, recycle);
        Ok(writer.publish(words, peer))
    }
}

/// Returns the error of sending on a closed link.
fn closed() -> LinkError {
    io::Error::from(io::ErrorKind::BrokenPipe).into()
}

impl RingReceiver {
    /// Takes what is there. Returns the number of bytes.
    fn take(&mut self, into: &mut BytesMut) -> Result<usize, LinkError> {
        let Self {
            shared,
            held,
            reader,
            spin,
            ..
        } = self;
        let limit = (into.capacity() - into.len()).min(MAX_TAKEN);
        let taken = reader.take(&held.words, &held.peer, into, limit)?;
        if taken.wakes {
            shared.ring(&held.bell);
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
            held,
            reader,
            spin,
            processor,
            ..
        } = self;
        let Held { words, peer, .. } = &**held;
        let now = clock::now();
        let shares_processor = || {
            publish_processor(processor, words);
            // A moment ago, as the peer does not publish it later than it sleeps.
            peer.load(Word::Processor) == *processor
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
            if reader.available(peer)? > 0 {
                return Poll::Ready(Ok(true));
            }
            spin_loop();
        }
        spin.let_others_run(now, cx);
        Poll::Pending
    }

    /// Asks the peer to wake this side. Returns `false` if there is something to take already.
    fn goes_to_sleep(&mut self, cx: &mut Context<'_>) -> Result<bool, LinkError> {
        let Self {
            shared,
            held,
            reader,
            processor,
            ..
        } = self;
        let Held { words, peer, .. } = &**held;
        shared.receive_waker.register(cx.waker());
        publish_processor(processor, words);
        // Where both share a processor, the next event would only find that out again.
        let could_spin = self.spin.may_begin() && peer.load(Word::Processor) != *processor;
        shared.could_spin.store(could_spin, Ordering::Relaxed);
        let position = reader.position();
        if self.asked_at.replace(position) != Some(position) {
            // The peer may ring even if this side then finds that it need not sleep.
            shared.doorbells_due.fetch_add(1, Ordering::Relaxed);
        }
        if !reader.goes_to_sleep(words, peer)? {
            return Ok(false);
        }
        shared.counters.note(|counters| &counters.sleeps);
        Ok(true)
    }

    /// Polls for doorbells, which the task that waits for room is told about.
    fn poll_bell(&mut self, cx: &mut Context<'_>) -> LinkPoll<()> {
        let heard = match self.held.bell.poll_heard(cx) {
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

/// Publishes the processor that this runs on, plus 1, if it is not `published`: a store takes the
/// line of the word from the peer, which looks at it whenever it sends.
fn publish_processor(published: &mut u64, words: &OwnWords) {
    let processor = sched_getcpu() as u64 + 1;
    if *published != processor {
        *published = processor;
        words.store(Word::Processor, processor, Ordering::Relaxed);
    }
}
