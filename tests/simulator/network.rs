//! The network: streams in memory that delay, split, stall, cut and end at any byte.

use crate::plan::NetworkPlan;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::{pending, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Sleep, sleep};
use tollgate::sim::{Connecting, Listener, Stream, Writer, clock};

/// The network of a simulation. Clones are handles to the same one.
#[derive(Clone)]
pub struct Network(Arc<Mutex<State>>);

struct State {
    random: fastrand::Rng,
    plan: NetworkPlan,
    listeners: BTreeMap<String, Arc<Mutex<Queue>>>,
    links: Vec<Endpoints>,
    opened: usize,
    /// Set once no more faults happen.
    is_healed: bool,
    /// Endpoints that do not answer until a time.
    silent: BTreeMap<String, Duration>,
}

/// Connections that wait to be accepted.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Stream>,
    acceptor: Option<Waker>,
}

/// Both directions of a connection, as faults see them.
struct Endpoints {
    number: usize,
    name: String,
    directions: [Weak<Pipe>; 2],
}

/// Ways in which a connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// Both sides get an error.
    Reset,
    /// The reader gets the end of the stream.
    End,
}

/// One direction of a connection.
struct Pipe(Mutex<PipeState>);

struct PipeState {
    random: fastrand::Rng,
    plan: NetworkPlan,
    /// Pieces on their way, with the time at which each arrives.
    pieces: VecDeque<(Duration, Vec<u8>)>,
    buffered: usize,
    last_arrival: Duration,
    delivered: usize,
    break_at: Option<(usize, Break)>,
    stalled_until: Duration,
    is_ended: bool,
    is_reset: bool,
    has_no_reader: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Network {
    pub fn new(plan: NetworkPlan) -> Self {
        Self(Arc::new(Mutex::new(State {
            random: fastrand::Rng::with_seed(plan.seed),
            plan,
            listeners: BTreeMap::new(),
            links: Vec::new(),
            opened: 0,
            is_healed: false,
            silent: BTreeMap::new(),
        })))
    }

    /// Listens under a name, in place of an earlier listener.
    pub fn listen(&self, name: &str) -> SimListener {
        let queue = Arc::<Mutex<Queue>>::default();
        let mut state = lock(&self.0);
        state.listeners.insert(name.to_owned(), Arc::clone(&queue));
        SimListener {
            network: self.clone(),
            name: name.to_owned(),
            queue,
        }
    }

    /// Connects to the listener with a name.
    pub fn connect(&self, name: &str) -> Connecting<'static> {
        let (network, name) = (self.clone(), name.to_owned());
        Box::pin(async move {
            let latency = lock(&network.0).latency();
            if !latency.is_zero() {
                sleep(latency).await;
            }
            network.open(&name).await
        })
    }

    async fn open(&self, name: &str) -> io::Result<Stream> {
        let is_silent = {
            let state = lock(&self.0);
            let until = state.silent.get(name).copied().unwrap_or_default();
            !state.is_healed && until > clock::since_start()
        };
        if is_silent {
            return pending().await;
        }
        let mut state = lock(&self.0);
        let Some(queue) = state.listeners.get(name).cloned() else {
            let kind = if state.random.bool() {
                io::ErrorKind::NotFound
            } else {
                io::ErrorKind::ConnectionRefused
            };
            return Err(kind.into());
        };
        let directions = [state.pipe(), state.pipe()];
        let number = state.opened;
        state.opened += 1;
        state.links.retain(|link| link.is_alive());
        state.links.push(Endpoints {
            number,
            name: name.to_owned(),
            directions: [
                Arc::downgrade(&directions[0]),
                Arc::downgrade(&directions[1]),
            ],
        });
        let [there, back] = directions;
        let client = stream(Arc::clone(&back), Arc::clone(&there));
        let mut queue = lock(&queue);
        queue.waiting.push_back(stream(there, back));
        queue.acceptor.take().into_iter().for_each(Waker::wake);
        Ok(client)
    }

    /// Breaks a connection once some more bytes have passed. Returns a description.
    pub fn break_link(&self, pick: usize, after: usize, how: Break) -> String {
        self.with_link(pick, |direction, name, pipe| {
            pipe.break_at = Some((pipe.delivered + after, how));
            pipe.check_break();
            format!("{name} {direction} after {after} more bytes")
        })
    }

    /// Stops the delivery of a connection for a while. Returns a description.
    pub fn stall_link(&self, pick: usize, duration: Duration) -> String {
        self.with_link(pick, |direction, name, pipe| {
            pipe.stalled_until = clock::since_start() + duration;
            format!("{name} {direction}")
        })
    }

    fn with_link(
        &self,
        pick: usize,
        change: impl FnOnce(&str, &str, &mut PipeState) -> String,
    ) -> String {
        let mut state = lock(&self.0);
        state.links.retain(|link| link.is_alive());
        if state.is_healed || state.links.is_empty() {
            return "no connection".to_owned();
        }
        let link = &state.links[pick / 2 % state.links.len()];
        let Some(pipe) = link.directions[pick % 2].upgrade() else {
            return "no connection".to_owned();
        };
        let name = format!("link {} to {}", link.number, link.name);
        let direction = ["there", "back"][pick % 2];
        drop(state);
        let mut pipe = lock(&pipe.0);
        let text = change(direction, &name, &mut pipe);
        pipe.wake();
        text
    }

    /// Makes an endpoint not answer new connections for a while.
    pub fn silence(&self, name: &str, duration: Duration) {
        let until = clock::since_start() + duration;
        lock(&self.0).silent.insert(name.to_owned(), until);
    }

    /// Ends all faults.
    pub fn heal(&self) {
        let mut state = lock(&self.0);
        state.is_healed = true;
        state.plan = state.plan.healed();
        let pipes: Vec<_> = state
            .links
            .iter()
            .flat_map(|link| link.directions.iter().filter_map(Weak::upgrade))
            .collect();
        drop(state);
        for pipe in pipes {
            let mut pipe = lock(&pipe.0);
            pipe.break_at = None;
            pipe.stalled_until = Duration::ZERO;
            pipe.plan = pipe.plan.healed();
            pipe.wake();
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl Endpoints {
    fn is_alive(&self) -> bool {
        self.directions.iter().all(|pipe| pipe.strong_count() > 1)
    }
}

impl State {
    fn latency(&mut self) -> Duration {
        Duration::from_millis(self.random.u64(..=self.plan.max_latency_ms))
    }

    fn pipe(&mut self) -> Arc<Pipe> {
        Arc::new(Pipe(Mutex::new(PipeState {
            random: self.random.fork(),
            plan: self.plan,
            pieces: VecDeque::new(),
            buffered: 0,
            last_arrival: Duration::ZERO,
            delivered: 0,
            break_at: None,
            stalled_until: Duration::ZERO,
            is_ended: false,
            is_reset: false,
            has_no_reader: false,
            reader: None,
            writer: None,
        })))
    }
}

impl PipeState {
    fn wake(&mut self) {
        let wakers = [self.reader.take(), self.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn check_break(&mut self) {
        let Some((at, how)) = self.break_at else {
            return;
        };
        if self.delivered >= at {
            self.pieces.clear();
            self.buffered = 0;
            self.is_ended = true;
            self.is_reset = how == Break::Reset;
            self.has_no_reader = true;
            self.wake();
        }
    }

    fn accept(&mut self, mut bytes: &[u8]) {
        let now = clock::since_start();
        self.buffered += bytes.len();
        while !bytes.is_empty() {
            let length = if self.random.u32(..100) < self.plan.split_percent {
                self.random.usize(1..=bytes.len())
            } else {
                bytes.len()
            };
            let latency = Duration::from_millis(self.random.u64(..=self.plan.max_latency_ms));
            self.last_arrival = self.last_arrival.max(now + latency);
            let (piece, rest) = bytes.split_at(length);
            self.pieces.push_back((self.last_arrival, piece.to_vec()));
            bytes = rest;
        }
    }
}

/// Closes the outgoing direction, and the incoming one once both halves are gone.
struct Side {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
}

impl Side {
    fn close(&self) {
        let mut outgoing = lock(&self.outgoing.0);
        outgoing.is_ended = true;
        outgoing.wake();
        drop(outgoing);
        let mut incoming = lock(&self.incoming.0);
        incoming.is_ended = true;
        incoming.has_no_reader = true;
        incoming.pieces.clear();
        incoming.wake();
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.close();
    }
}

struct WriteEnd(Arc<Side>);

struct ReadEnd {
    side: Arc<Side>,
    timer: Option<Pin<Box<Sleep>>>,
}

fn stream(incoming: Arc<Pipe>, outgoing: Arc<Pipe>) -> Stream {
    let side = Arc::new(Side { incoming, outgoing });
    Stream {
        reader: Box::new(ReadEnd {
            side: Arc::clone(&side),
            timer: None,
        }),
        writer: Box::new(WriteEnd(side)),
    }
}

impl Writer for WriteEnd {
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut pipe = lock(&self.0.outgoing.0);
        if pipe.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if pipe.is_ended || pipe.has_no_reader {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = pipe.plan.capacity.saturating_sub(pipe.buffered);
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
        let mut taken = all.len().min(room);
        if taken > 1 && pipe.random.u32(..100) < pipe.plan.split_percent {
            taken = pipe.random.usize(1..=taken);
        }
        pipe.accept(&all[..taken]);
        let reader = pipe.reader.take();
        drop(pipe);
        reader.into_iter().for_each(Waker::wake);
        Ok(taken)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = lock(&self.0.outgoing.0);
        let is_broken = pipe.is_reset || pipe.is_ended || pipe.has_no_reader;
        if is_broken || pipe.buffered < pipe.plan.capacity {
            return Poll::Ready(Ok(()));
        }
        pipe.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn shut_down(&self) {
        self.0.close();
    }
}

impl Drop for WriteEnd {
    fn drop(&mut self) {
        let mut outgoing = lock(&self.0.outgoing.0);
        outgoing.is_ended = true;
        outgoing.wake();
    }
}

impl AsyncRead for ReadEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let now = clock::since_start();
        let mut pipe = lock(&this.side.incoming.0);
        pipe.reader = Some(cx.waker().clone());
        if pipe.is_reset {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let next = pipe
            .pieces
            .front()
            .map(|(at, _)| (*at).max(pipe.stalled_until));
        let Some(next) = next else {
            return if pipe.is_ended {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            };
        };
        if next > now {
            drop(pipe);
            let mut timer = Box::pin(sleep(next - now));
            let fired = timer.as_mut().poll(cx).is_ready();
            this.timer = Some(timer);
            if fired {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        let until_break = pipe
            .break_at
            .map_or(usize::MAX, |(at, _)| at - pipe.delivered);
        if let Some((_, mut piece)) = pipe.pieces.pop_front() {
            let count = piece.len().min(into.remaining()).min(until_break);
            into.put_slice(&piece[..count]);
            pipe.delivered += count;
            pipe.buffered -= count;
            if count < piece.len() {
                piece.drain(..count);
                pipe.pieces.push_front((Duration::ZERO, piece));
            }
        }
        pipe.check_break();
        pipe.writer.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

/// A listener. The name is free again once it is dropped.
pub struct SimListener {
    network: Network,
    name: String,
    queue: Arc<Mutex<Queue>>,
}

impl SimListener {
    /// Accepts the next connection.
    pub async fn next(&self) -> Stream {
        poll_fn(|cx| {
            let mut queue = lock(&self.queue);
            if let Some(stream) = queue.waiting.pop_front() {
                return Poll::Ready(stream);
            }
            queue.acceptor = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Listener for SimListener {
    fn accept(&self) -> Connecting<'_> {
        Box::pin(async { Ok(self.next().await) })
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let mut state = lock(&self.network.0);
        if let Some(current) = state.listeners.get(&self.name)
            && Arc::ptr_eq(current, &self.queue)
        {
            state.listeners.remove(&self.name);
        }
        drop(state);
        let waiting = std::mem::take(&mut lock(&self.queue).waiting);
        drop(waiting);
    }
}

impl fmt::Debug for SimListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimListener")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
