//! Control messages of a connection: cancellations, pings and messages of the extension.

use super::{CallEnd, Command, Connection};
use crate::clock;
use crate::error::CallError;
use crate::protocol::CancelReason;
use crate::wire::control::ControlMessage;
use crate::wire::{MessageType, control, frame_of};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;
use tokio::sync::oneshot;

/// Maximum time that cancel messages wait for room in the send queue.
const CANCEL_TIMEOUT: Duration = Duration::from_millis(100);

impl Connection {
    /// Fails the pending calls of an exchange and sends the agent a cancel message.
    pub(crate) async fn cancel(
        &self,
        correlation_id: &str,
        reason: CancelReason,
    ) -> Result<(), CallError> {
        self.command(Command::Cancel {
            correlation_id: correlation_id.to_owned(),
        });
        self.send_cancels([correlation_id], reason).await
    }

    /// Sends a cancel message for an exchange whose calls were dropped, if the send queue has room.
    pub(crate) fn try_send_cancel(&self, correlation_id: &str, reason: CancelReason) {
        let payload = control::encode_cancel(correlation_id, reason, self.dialect.encoding);
        self.try_send_control(MessageType::Cancel, &payload);
    }

    /// Fails every pending call and sends cancel messages for them. Returns the number of calls.
    pub(crate) async fn cancel_all(&self, reason: CancelReason) -> Result<usize, CallError> {
        let (sender, cancelled) = oneshot::channel();
        self.command(Command::CancelAll { cancelled: sender });
        let cancelled = cancelled.await.unwrap_or_default();
        let ids = cancelled.iter().map(String::as_str);
        self.send_cancels(ids, reason).await?;
        // Sent at once, as the caller may close the connection next.
        self.send_now();
        Ok(cancelled.len())
    }

    /// Sends cancel messages, and gives up after [`CANCEL_TIMEOUT`]: an agent that does not read
    /// would not act on them either.
    async fn send_cancels(
        &self,
        ids: impl IntoIterator<Item = &str>,
        reason: CancelReason,
    ) -> Result<(), CallError> {
        let sent = async {
            for id in ids {
                let payload = control::encode_cancel(id, reason, self.dialect.encoding);
                self.send_control(MessageType::Cancel, &payload).await?;
            }
            Ok(())
        };
        tokio::time::timeout(CANCEL_TIMEOUT, sent)
            .await
            .unwrap_or(Ok(()))
            .map_err(|end| self.error(end, CANCEL_TIMEOUT))
    }

    /// Sends a ping and returns the time until its pong.
    pub(crate) async fn ping(&self, timeout: Duration) -> Result<Duration, CallError> {
        let sequence = self.ping_sequence.fetch_add(1, Ordering::Relaxed);
        let (sender, pong) = oneshot::channel();
        self.pings().insert(sequence, sender);
        let _expected = ExpectedPong {
            connection: self,
            sequence,
        };
        let started = clock::now();
        let answered = tokio::time::timeout(timeout, async {
            let payload = control::encode_ping(sequence, self.dialect.encoding);
            self.send_control(MessageType::Ping, &payload).await?;
            pong.await.map_err(|_| CallEnd::ConnectionClosed)
        })
        .await;
        match answered.unwrap_or(Err(CallEnd::TimedOut)) {
            Ok(()) => Ok(clock::elapsed(started)),
            Err(end) => Err(self.error(end, timeout)),
        }
    }

    /// Sends a message of the extension. Returns `false` if the agent does not speak the extension.
    pub(crate) async fn send_extension<M: ControlMessage>(
        &self,
        content: &M,
    ) -> Result<bool, CallError> {
        if !self.dialect.has_streams() {
            return Ok(false);
        }
        let payload = control::encode(content, self.dialect.encoding);
        let sent = self.send_control(M::MESSAGE, &payload).await;
        sent.map(|()| true)
            .map_err(|end| self.error(end, Duration::MAX))
    }

    /// Like [`Connection::send_extension`], and drops the message if the send queue is full.
    pub(crate) fn try_send_extension<M: ControlMessage>(&self, content: &M) {
        if !self.dialect.has_streams() || !self.is_open() {
            return;
        }
        let payload = control::encode(content, self.dialect.encoding);
        self.try_send_control(M::MESSAGE, &payload);
    }

    pub(super) fn try_send_control(&self, message: MessageType, payload: &[u8]) {
        let pushed =
            frame_of(message, payload).is_ok_and(|frame| self.send_queue.try_push(frame).is_ok());
        if pushed {
            self.send_queue.request_writer();
        }
    }

    async fn send_control(&self, message: MessageType, payload: &[u8]) -> Result<(), CallEnd> {
        let frame = frame_of(message, payload).map_err(CallEnd::TooLarge)?;
        if !self.is_open() {
            return Err(CallEnd::ConnectionClosed);
        }
        self.send_queue.push(frame).await;
        self.send_queue.request_writer();
        Ok(())
    }

    fn command(&self, command: Command) {
        self.commands.push(command);
        self.inbound_waker.wake();
        // Pairs with the fence in `close`. Either this sees that the connection is closed and drops
        // the command here, or the receive task, which drops the rest when it ends, finds it. A
        // caller that waits for a dropped command is woken by the drop of its channel.
        fence(Ordering::SeqCst);
        if !self.is_open() {
            self.drop_commands();
        }
    }

    pub(super) fn drop_commands(&self) {
        while self.commands.pop().is_some() {}
    }
}

/// Entry in `pings` for an expected pong. Removed when the caller stops waiting.
struct ExpectedPong<'c> {
    connection: &'c Connection,
    sequence: u64,
}

impl Drop for ExpectedPong<'_> {
    fn drop(&mut self) {
        self.connection.pings().remove(&self.sequence);
    }
}
