use super::frame::Counter;
use super::waiter::Waiter;
use super::{CAPACITY, Connection, lock};
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::{Arc, Mutex};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::yield_now;

const READ_BYTES: usize = 64 * 1024;

/// Frames in one vectored write.
const BATCH: usize = 64;

/// The proxy's side of a connection.
pub(crate) struct SocketConnection {
    socket: OwnedWriteHalf,
    queue: Mutex<Queue>,
    /// Waiting callers in the order of their frames.
    unanswered: Mutex<VecDeque<Arc<Waiter>>>,
    work: Notify,
}

struct Queue {
    frames: VecDeque<Bytes>,
    /// Set from the time the writer is woken until it finds the queue empty.
    is_writer_active: bool,
}

impl Connection for SocketConnection {
    /// Sends a single frame at once, and others in batches.
    fn send(&self, frame: &Bytes, waiter: &Arc<Waiter>) -> anyhow::Result<()> {
        let mut queue = lock(&self.queue);
        let is_single = self.expect_answer(waiter);
        if queue.is_writer_active {
            queue.frames.push_back(frame.clone());
            return Ok(());
        }
        let sent = if is_single { self.send_now(frame) } else { 0 };
        if sent < frame.len() {
            queue.frames.push_back(frame.slice(sent..));
            queue.is_writer_active = true;
            self.work.notify_one();
        }
        Ok(())
    }
}

impl SocketConnection {
    /// Spawns the tasks that write and read until the socket is closed.
    pub(super) fn spawn(stream: UnixStream) -> Arc<Self> {
        let (input, socket) = stream.into_split();
        let connection = Arc::new(Self {
            socket,
            queue: Mutex::new(Queue {
                frames: VecDeque::with_capacity(CAPACITY),
                is_writer_active: false,
            }),
            unanswered: Mutex::new(VecDeque::with_capacity(CAPACITY)),
            work: Notify::new(),
        });
        tokio::spawn(Arc::clone(&connection).write());
        tokio::spawn(Arc::clone(&connection).read(input));
        connection
    }

    /// Queues the waiter. Returns whether no other caller is waiting.
    fn expect_answer(&self, waiter: &Arc<Waiter>) -> bool {
        let mut unanswered = lock(&self.unanswered);
        unanswered.push_back(Arc::clone(waiter));
        unanswered.len() == 1
    }

    /// Sends without waiting. Returns the number of bytes sent; errors are left to the writer.
    fn send_now(&self, frame: &Bytes) -> usize {
        self.socket.try_write(frame).unwrap_or(0)
    }

    async fn write(self: Arc<Self>) {
        if let Err(error) = self.write_until_closed().await {
            eprintln!("error: the floor cannot write: {error}");
        }
    }

    async fn write_until_closed(&self) -> io::Result<()> {
        let mut batch = VecDeque::with_capacity(CAPACITY);
        loop {
            self.work.notified().await;
            loop {
                // Lets callers that are ready add their frames first.
                yield_now().await;
                if !self.take(&mut batch) {
                    break;
                }
                self.write_all(&batch).await?;
                batch.clear();
            }
        }
    }

    /// Takes all frames. Without any, the writer becomes inactive.
    fn take(&self, batch: &mut VecDeque<Bytes>) -> bool {
        let mut queue = lock(&self.queue);
        std::mem::swap(&mut queue.frames, batch);
        queue.is_writer_active = !batch.is_empty();
        queue.is_writer_active
    }

    async fn write_all(&self, batch: &VecDeque<Bytes>) -> io::Result<()> {
        let mut frames = batch.iter();
        while frames.len() > 0 {
            let mut slices = [IoSlice::new(&[]); BATCH];
            let count = slices
                .iter_mut()
                .zip(&mut frames)
                .map(|(slice, frame)| *slice = IoSlice::new(frame))
                .count();
            self.write_slices(&mut slices[..count]).await?;
        }
        Ok(())
    }

    async fn write_slices(&self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        while !slices.is_empty() {
            match self.socket.try_write_vectored(slices) {
                Ok(sent) => IoSlice::advance_slices(&mut slices, sent),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.socket.writable().await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn read(self: Arc<Self>, input: OwnedReadHalf) {
        if let Err(error) = self.read_until_closed(input).await {
            eprintln!("error: the floor cannot read: {error}");
        }
    }

    async fn read_until_closed(&self, mut input: OwnedReadHalf) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        let mut counter = Counter::default();
        let mut answered = Vec::with_capacity(CAPACITY);
        loop {
            let length = input.read(&mut buffer).await?;
            if length == 0 {
                return Ok(());
            }
            let ended = counter.ended(&buffer[..length]);
            answered.extend(lock(&self.unanswered).drain(..ended));
            answered.drain(..).for_each(|waiter| waiter.answer());
        }
    }
}
