//! What is said on a connection beside events: cancel and ping.

use super::{Command, Connection};
use crate::error::AgentProtocolError;
use crate::protocol::CancelReason;
use crate::wire::control::ExtensionMessage;
use crate::wire::{MessageType, control, frame_of};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long cancel messages wait for room behind other frames.
const CANCEL_PATIENCE: Duration = Duration::from_millis(100);

impl Connection {
    /// Fails the pending call of an exchange, if there is one, and tells the agent to forget it.
    pub(crate) async fn cancel(
        &self,
        correlation_id: &str,
        reason: CancelReason,
    ) -> Result<(), AgentProtocolError> {
        self.command(Command::Cancel {
            correlation_id: correlation_id.to_owned(),
        });
        self.tell_cancelled([correlation_id], reason).await
    }

    /// Tells the agent to forget an exchange whose calls are given up, unless there is no room to say so.
    pub(crate) fn forget(&self, correlation_id: &str, reason: CancelReason) {
        let payload = control::encode_cancel(correlation_id, reason, self.dialect.encoding);
        self.try_push(MessageType::Cancel, &payload);
    }

    /// Fails every pending call and tells the agent to forget them. Returns how many there were.
    pub(crate) async fn cancel_all(
        &self,
        reason: CancelReason,
    ) -> Result<usize, AgentProtocolError> {
        let (sender, cancelled) = oneshot::channel();
        self.command(Command::CancelAll { cancelled: sender });
        let cancelled = cancelled.await.unwrap_or_default();
        let ids = cancelled.iter().map(String::as_str);
        self.tell_cancelled(ids, reason).await?;
        // The connection may be about to end.
        self.send_now();
        Ok(cancelled.len())
    }

    /// An agent that does not read is not waited for: that its calls are cancelled is all the same to it.
    async fn tell_cancelled(
        &self,
        ids: impl IntoIterator<Item = &str>,
        reason: CancelReason,
    ) -> Result<(), AgentProtocolError> {
        let told = async {
            for id in ids {
                let payload = control::encode_cancel(id, reason, self.dialect.encoding);
                self.send_control(MessageType::Cancel, &payload).await?;
            }
            Ok(())
        };
        tokio::time::timeout(CANCEL_PATIENCE, told)
            .await
            .unwrap_or(Ok(()))
    }

    /// Asks the agent for a sign of life and returns how long it took to come.
    pub(crate) async fn ping(&self, timeout: Duration) -> Result<Duration, AgentProtocolError> {
        let sequence = self.ping_sequence.fetch_add(1, Ordering::Relaxed);
        let (sender, pong) = oneshot::channel();
        self.pings().insert(sequence, sender);
        let _expected = ExpectedPong {
            connection: self,
            sequence,
        };
        let started = Instant::now();
        let answered = tokio::time::timeout(timeout, async {
            let payload = control::encode_ping(sequence, self.dialect.encoding);
            self.send_control(MessageType::Ping, &payload).await?;
            pong.await.map_err(|_| self.closed_error())
        })
        .await;
        match answered {
            Ok(Ok(())) => Ok(started.elapsed()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(self.timeout_error(timeout)),
        }
    }

    /// Tells the agent something that only our extension has words for, if the agent knows them. Returns whether.
    pub(crate) async fn tell<M: ExtensionMessage>(
        &self,
        content: &M,
    ) -> Result<bool, AgentProtocolError> {
        if !self.dialect.has_streams() {
            return Ok(false);
        }
        let payload = control::encode_extension(content, self.dialect.encoding);
        self.send_control(M::MESSAGE, &payload).await.map(|()| true)
    }

    /// The same, unless there is no room to say so.
    pub(super) fn try_tell<M: ExtensionMessage>(&self, content: &M) {
        if !self.dialect.has_streams() || !self.is_open() {
            return;
        }
        let payload = control::encode_extension(content, self.dialect.encoding);
        self.try_push(M::MESSAGE, &payload);
    }

    pub(super) fn try_push(&self, message: MessageType, payload: &[u8]) {
        let pushed =
            frame_of(message, payload).is_ok_and(|frame| self.outbox.try_push(frame).is_ok());
        if pushed {
            self.outbox.request_writer();
        }
    }

    async fn send_control(
        &self,
        message: MessageType,
        payload: &[u8],
    ) -> Result<(), AgentProtocolError> {
        let frame = frame_of(message, payload).map_err(|error| self.frame_error(error))?;
        if !self.is_open() {
            return Err(self.closed_error());
        }
        self.outbox.push(frame).await;
        self.outbox.request_writer();
        Ok(())
    }

    fn command(&self, command: Command) {
        self.commands.push(command);
        self.inbound.wake();
        // Pairs with the fence in `close`: a command that comes too late is dropped here or there, and
        // whoever waits for it learns of that.
        fence(Ordering::SeqCst);
        if !self.is_open() {
            self.drop_commands();
        }
    }

    pub(super) fn drop_commands(&self) {
        while self.commands.pop().is_some() {}
    }
}

/// A pong that is waited for; it is forgotten when nobody waits any more.
struct ExpectedPong<'c> {
    connection: &'c Connection,
    sequence: u64,
}

impl Drop for ExpectedPong<'_> {
    fn drop(&mut self) {
        self.connection.pings().remove(&self.sequence);
    }
}
