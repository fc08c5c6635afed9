use super::Connection;
use super::outbox::Drained;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use tokio::task::yield_now;

/// Sends what callers leave in the outbox, until the connection ends.
pub(crate) async fn run_writer(connection: Arc<Connection>) {
    while connection.is_open() {
        poll_fn(|cx| connection.outbox.poll_requested(cx)).await;
        // Lets every caller that is ready add its frame, so that one system call takes them all.
        yield_now().await;
        connection.outbox.take_request();
        if let Err(error) = send_all(&connection).await {
            connection.lose(&error);
        }
    }
}

async fn send_all(connection: &Connection) -> io::Result<()> {
    while connection.is_open() {
        match connection.outbox.drain(&*connection.sender)? {
            Drained::Empty => return Ok(()),
            Drained::Busy => yield_now().await,
            Drained::NoRoom => wait_for_room(connection).await?,
        }
    }
    Ok(())
}

/// Waits until the link has room or the connection ends.
async fn wait_for_room(connection: &Connection) -> io::Result<()> {
    poll_fn(|cx| {
        // Closing wakes the writer through this.
        let _ = connection.outbox.poll_requested(cx);
        if !connection.is_open() {
            return Poll::Ready(Ok(()));
        }
        connection.sender.poll_room(cx)
    })
    .await
}
