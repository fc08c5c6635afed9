//! Tests of every interleaving of a writer and a reader of one ring, by loom (`scripts/loom`).

use super::*;
use loom::sync::atomic::AtomicU64;
use loom::sync::{Arc, Mutex};
use loom::thread;

/// Bytes of the ring.
const SIZE: usize = 2;

/// Memory of one side. Each byte is a word, so that loom sees when it is read and written.
struct Memory {
    words: [AtomicU64; 5],
    bytes: [AtomicU64; SIZE],
    /// Fence that is left out.
    missing: Option<Fence>,
}

impl Memory {
    fn new(missing: Option<Fence>) -> Self {
        let word = |value| AtomicU64::new(value);
        Self {
            words: [word(0), word(0), word(0), word(NEVER), word(NEVER)],
            bytes: [word(0), word(0)],
            missing,
        }
    }
}

fn index(word: Word) -> usize {
    match word {
        Word::Head => 0,
        Word::Base => 1,
        Word::Tail => 2,
        Word::WakeAt => 3,
        Word::RoomAt => 4,
        Word::Processor => unreachable!("the ring does not use it"),
    }
}

impl OwnMemory for Memory {
    fn size(&self) -> u64 {
        SIZE as u64
    }

    fn store(&self, word: Word, value: u64, ordering: Ordering) {
        self.words[index(word)].store(value, ordering);
    }

    fn full_fence(&self, place: Fence) {
        if self.missing != Some(place) {
            fence(Ordering::SeqCst);
        }
    }
}

impl PeerMemory for Memory {
    fn size(&self) -> u64 {
        SIZE as u64
    }

    fn load(&self, word: Word) -> u64 {
        self.words[index(word)].load(Ordering::Relaxed)
    }

    fn append(&self, offset: usize, len: usize, into: &mut BytesMut) {
        for byte in &self.bytes[offset..offset + len] {
            into.extend_from_slice(&[byte.load(Ordering::Relaxed) as u8]);
        }
    }
}

struct Ring(Arc<Memory>);

impl OwnBytes for Ring {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        for (to, from) in self.0.bytes[offset..].iter().zip(bytes) {
            to.store(u64::from(*from), Ordering::Relaxed);
        }
    }
}

/// A doorbell that remembers one ring, as a socket remembers bytes.
#[derive(Default)]
struct Doorbell {
    is_rung: Mutex<bool>,
    rung: loom::sync::Condvar,
}

impl Doorbell {
    fn ring(&self) {
        *self.is_rung.lock().unwrap() = true;
        self.rung.notify_one();
    }

    fn wait(&self) {
        let mut is_rung = self.is_rung.lock().unwrap();
        while !std::mem::take(&mut *is_rung) {
            is_rung = self.rung.wait(is_rung).unwrap();
        }
    }
}

/// Both memories and doorbells.
struct Pair {
    of_writer: Arc<Memory>,
    of_reader: Arc<Memory>,
    to_writer: Doorbell,
    to_reader: Doorbell,
}

impl Pair {
    fn new(missing: Option<Fence>) -> Arc<Self> {
        Arc::new(Self {
            of_writer: Arc::new(Memory::new(missing)),
            of_reader: Arc::new(Memory::new(missing)),
            to_writer: Doorbell::default(),
            to_reader: Doorbell::default(),
        })
    }

    /// Writes bytes, each published alone, and sleeps while there is no room.
    fn write(&self, bytes: &[u8]) {
        let (mut writer, mut ring) = (Writer::default(), Ring(Arc::clone(&self.of_writer)));
        let (own, peer) = (&*self.of_writer, &*self.of_reader);
        for byte in bytes {
            writer.rewind(own, peer).unwrap();
            while writer.write(own, &mut ring, peer, &[*byte]).unwrap() == 0 {
                if !writer.has_room_or_asks(own, peer).unwrap() {
                    self.to_writer.wait();
                }
            }
            if writer.publish(own, peer) {
                self.to_reader.ring();
            }
        }
    }

    /// Reads as many bytes, one at a time, and sleeps while there are none.
    fn read(&self, count: usize) -> Vec<u8> {
        let mut reader = Reader::default();
        let (own, peer) = (&*self.of_reader, &*self.of_writer);
        let mut received = BytesMut::with_capacity(count);
        while received.len() < count {
            let taken = reader.take(own, peer, &mut received, 1).unwrap();
            if taken.wakes {
                self.to_writer.ring();
            }
            if taken.bytes == 0 && reader.goes_to_sleep(own, peer).unwrap() {
                self.to_reader.wait();
            }
        }
        received.to_vec()
    }
}

/// Passes bytes in every order. Nothing is lost, and nobody sleeps for ever, which loom reports as
/// a deadlock.
fn pass(bytes: &'static [u8], preemptions: usize, missing: Option<Fence>) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(move || {
        let pair = Pair::new(missing);
        let writing = Arc::clone(&pair);
        let writer = thread::spawn(move || writing.write(bytes));
        // Not on this thread: a deadlock panics here, where nothing of loom's may be dropped then.
        let reader = thread::spawn(move || assert_eq!(pair.read(bytes.len()), bytes));
        writer.join().unwrap();
        reader.join().unwrap();
    });
}

#[test]
fn passes_bytes_and_wakes_sleepers() {
    pass(b"ab", 3, None);
}

/// The ring is full again and again, and rewound in between.
#[test]
fn passes_more_bytes_than_fit() {
    pass(b"abc", 2, None);
}

macro_rules! mutants {
    ($($name:ident: $bytes:literal without $fence:ident;)*) => {
        const MUTANTS: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            #[ignore = "deadlocks, as `every_fence_is_needed` checks"]
            fn $name() {
                pass($bytes, 3, Some(Fence::$fence));
            }
        )*
    };
}

mutants! {
    without_publishing_fence: b"ab" without Published;
    without_sleeping_fence: b"ab" without GoesToSleep;
    without_taking_fence: b"abcd" without Taken;
    without_fence_of_waiting_for_room: b"abcd" without WaitsForRoom;
}

/// Runs each mutant in a process of its own: loom reports a deadlock by a panic, and objects of
/// loom that are dropped by it may abort the process.
#[test]
fn every_fence_is_needed() {
    let program = std::env::current_exe().unwrap();
    for mutant in MUTANTS {
        let name = format!("transport::shared::ring::loom_tests::{mutant}");
        let run = std::process::Command::new(&program)
            .args(["--exact", "--ignored", "--nocapture", &name])
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&run.stderr);
        assert!(!run.status.success(), "{mutant} passes");
        assert!(errors.contains("deadlock"), "{mutant}: {errors}");
    }
}
