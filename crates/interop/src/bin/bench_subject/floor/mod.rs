//! What transports allow: messages as long as tollgate's in batches like its own, and nothing else. Answers come in
//! the order of the requests, so there are no ids; nobody looks into a message, sets a deadline or counts anything.

mod agent;
mod connection;
mod frame;
mod grpc;
mod sockets;
mod waiter;

pub(crate) use grpc::Grpc;
pub(crate) use sockets::Sockets;

use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tollgate_load_driver::{Caller, Proxy, Traffic};
use waiter::Waiter;

/// As long as the ids of the driver.
const ANY_ID: &str = "request-00000000-000000000000000000";

/// More callers than any run has on one connection.
const ROOM: usize = 1024;

/// A connection to an agent, for many callers at a time.
pub(crate) trait Connection: Send + Sync + 'static {
    /// Sends a message; `waiter` learns when it is answered.
    fn put(&self, message: &Bytes, waiter: &Arc<Waiter>) -> anyhow::Result<()>;
}

/// The proxy's side.
pub(crate) struct Connections<C> {
    connections: Arc<[Arc<C>]>,
    messages: Arc<[Bytes]>,
}

impl<C> Connections<C> {
    /// Requests begin with `head`; `message_of` makes a message of the body that may follow.
    fn new(
        connections: Vec<Arc<C>>,
        head: Bytes,
        traffic: &Traffic,
        message_of: impl Fn(&Bytes) -> Bytes,
    ) -> Self {
        let body = traffic.body.as_ref().map(message_of);
        Self {
            connections: connections.into(),
            messages: std::iter::once(head).chain(body).collect(),
        }
    }
}

impl<C: Connection> Proxy for Connections<C> {
    type Caller = FloorCaller<C>;

    fn encoding(&self) -> &'static str {
        "none"
    }

    fn caller(&self, number: usize) -> FloorCaller<C> {
        FloorCaller {
            connections: Arc::clone(&self.connections),
            turn: number,
            messages: Arc::clone(&self.messages),
            waiter: Arc::default(),
        }
    }
}

pub(crate) struct FloorCaller<C> {
    connections: Arc<[Arc<C>]>,
    /// Connections are used in turn.
    turn: usize,
    /// What a request consists of, each sent when the one before it was answered.
    messages: Arc<[Bytes]>,
    waiter: Arc<Waiter>,
}

impl<C: Connection> Caller for FloorCaller<C> {
    async fn call(&mut self, _id: &str) -> anyhow::Result<()> {
        self.turn = (self.turn + 1) % self.connections.len();
        for message in &*self.messages {
            self.connections[self.turn].put(message, &self.waiter)?;
            self.waiter.answered().await;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
