//! The floor: messages of the same length as tollgate's, in batches of the same kind, and nothing
//! else.
//!
//! Answers arrive in the order of the requests, so there are no ids. Messages are not decoded,
//! there are no deadlines, and nothing is counted.

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

/// Id of the same length as those of the driver.
const ANY_ID: &str = "request-00000000-000000000000000000";

/// Capacity of each queue. No run has as many callers on one connection.
const CAPACITY: usize = 1024;

/// A connection to an agent, for many callers at a time.
pub(crate) trait Connection: Send + Sync + 'static {
    /// Sends a message, and wakes `waiter` when it is answered.
    fn send(&self, message: &Bytes, waiter: &Arc<Waiter>) -> anyhow::Result<()>;
}

/// The proxy's side.
pub(crate) struct Connections<C> {
    connections: Arc<[Arc<C>]>,
    messages: Arc<[Bytes]>,
}

impl<C> Connections<C> {
    /// Creates connections whose requests begin with `head`. `message_of` makes a message of the
    /// body, if there is one.
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
    /// Counter for using the connections in turn.
    turn: usize,
    /// Messages of a request. Each is sent when the one before it is answered.
    messages: Arc<[Bytes]>,
    waiter: Arc<Waiter>,
}

impl<C: Connection> Caller for FloorCaller<C> {
    async fn call(&mut self, _id: &str) -> anyhow::Result<()> {
        self.turn = (self.turn + 1) % self.connections.len();
        for message in &*self.messages {
            self.connections[self.turn].send(message, &self.waiter)?;
            self.waiter.answered().await;
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
