//! The writer task.

use super::Connection;
use super::link::LinkError;
use super::send_queue::Drained;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use tokio::task::yield_now;

/// Sends the frames that callers leave in the send queue, until the connection is closed.
pub(crate) async fn run_writer(connection: Arc<Connection>) {
    while connection.is_open() {
        poll_fn(|cx| connection.send_queue.poll_requested(cx)).await;
        // Lets callers that are ready add their frames, so that one system call sends all of them.
        yield_now().await;
        connection.send_queue.take_request();
        if let Err(error) = send_all(&connection).await {
            connection.close_on_error(&error);
        }
    }
}

async fn send_all(connection: &Connection) -> Result<(), LinkError> {
    while connection.is_open() {
        match connection.send_queue.drain(&*connection.sender)? {
            Drained::Empty => return Ok(()),
            Drained::Busy => yield_now().await,
            Drained::NoRoom => wait_for_room(connection).await?,
        }
    }
    Ok(())
}

/// Waits until the link has room or the connection ends.
async fn wait_for_room(connection: &Connection) -> Result<(), LinkError> {
    poll_fn(|cx| {
        // Registers the waker that `Connection::close` wakes.
        let _ = connection.send_queue.poll_requested(cx);
        if !connection.is_open() {
            return Poll::Ready(Ok(()));
        }
        connection.sender.poll_room(cx)
    })
    .await
}
