//! The sending half of a connection, and the writer task.

use super::Connection;
use super::link::{LinkError, LinkSender};
use super::send_queue::{Drained, SendQueue};
use crate::handler::LocalAgent;
use crate::wire::{FrameError, MessageType, frame_of};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use tokio::task::yield_now;

/// Frames waiting to be sent, and the sending half of the link that carries them.
pub(crate) struct Outbound {
    /// The lock inside lets one task at a time use `link`.
    pub(crate) queue: SendQueue,
    pub(crate) link: Box<dyn LinkSender>,
    /// Set if every caller should send at once: see [`LinkSender::is_cheap`].
    pub(crate) is_cheap: bool,
    /// The agent, if it is in this process. It gets messages directly.
    pub(super) local: Option<Arc<LocalAgent>>,
}

impl Outbound {
    pub(super) fn new(capacity: usize, link: Box<dyn LinkSender>) -> Self {
        Self {
            queue: SendQueue::new(capacity),
            is_cheap: link.is_cheap(),
            local: link.local_agent().cloned(),
            link,
        }
    }

    /// Sends the frames in the send queue from the caller's task, or leaves them to the writer task
    /// if another task is sending or the link is full. Over a cheap link, a task that is sending
    /// sends these frames too.
    pub(super) fn send_now(&self) -> Result<(), LinkError> {
        self.drain()?;
        self.link.ring();
        Ok(())
    }

    /// Like [`Outbound::send_now`], but leaves it to the writer task to wake the peer, so that
    /// callers that are ready add their frames first.
    pub(super) fn send_and_ring_later(&self) -> Result<(), LinkError> {
        self.drain()?;
        if self.link.has_to_ring() {
            self.queue.request_writer();
        }
        Ok(())
    }

    fn drain(&self) -> Result<(), LinkError> {
        match self.queue.drain(&*self.link)? {
            Drained::Empty => {}
            Drained::Busy if self.is_cheap => {}
            Drained::NoRoom | Drained::Busy => self.queue.request_writer(),
        }
        Ok(())
    }

    /// Closes the link, or tells an agent in this process that the connection has ended.
    pub(super) fn close_link(&self) {
        self.link.close();
        if let Some(local) = &self.local {
            local.closed();
        }
    }

    /// Queues a control message, and drops it if there is no room.
    pub(super) fn try_push(&self, message: MessageType, payload: &[u8]) {
        if let Some(local) = &self.local {
            return local.receive(message, payload);
        }
        if frame_of(message, payload).is_ok_and(|frame| self.queue.try_push(frame).is_ok()) {
            self.queue.request_writer();
        }
    }

    /// Queues a control message, waiting for room.
    pub(super) async fn push(
        &self,
        message: MessageType,
        payload: &[u8],
    ) -> Result<(), FrameError> {
        if let Some(local) = &self.local {
            local.receive(message, payload);
            return Ok(());
        }
        self.queue.push(frame_of(message, payload)?).await;
        self.queue.request_writer();
        Ok(())
    }
}

/// Sends the frames that callers leave in the send queue, until the connection is closed.
pub(crate) async fn run_writer(connection: Arc<Connection>) {
    let queue = &connection.outbound.queue;
    while connection.lifecycle.is_open() {
        poll_fn(|cx| queue.poll_requested(cx)).await;
        // Lets callers that are ready add their frames, so that one system call sends all of them.
        yield_now().await;
        queue.take_request();
        if let Err(error) = send_all(&connection).await {
            connection.close_on_error(&error);
        }
    }
}

async fn send_all(connection: &Connection) -> Result<(), LinkError> {
    let Outbound { queue, link, .. } = &connection.outbound;
    while connection.lifecycle.is_open() {
        let drained = queue.drain(&**link)?;
        link.ring();
        match drained {
            Drained::Empty => return Ok(()),
            Drained::Busy => yield_now().await,
            Drained::NoRoom => wait_for_room(connection).await?,
        }
    }
    Ok(())
}

/// Waits until the link has room or the connection ends.
async fn wait_for_room(connection: &Connection) -> Result<(), LinkError> {
    let Outbound { queue, link, .. } = &connection.outbound;
    poll_fn(|cx| {
        // Registers the waker that `Connection::close` wakes. Over a cheap link, callers go on
        // sending and may ask to wake the peer, without which there would never be room.
        if queue.poll_requested(cx).is_ready() && connection.outbound.is_cheap {
            queue.take_request();
            link.ring();
        }
        if !connection.lifecycle.is_open() {
            return Poll::Ready(Ok(()));
        }
        link.poll_room(cx)
    })
    .await
}
