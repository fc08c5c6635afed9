//! The bodies of a transaction: chunks go in, and what agents have let go comes out.

use super::Transaction;
use crate::pool::Exchange;
use crate::proxy::body::BodyError;
use crate::proxy::body_flow::{BodyFlow, Judged};
use crate::proxy::chain::BodyMode;
use crate::proxy::message::Message;
use crate::proxy::rejection::Rejection;
use bytes::Bytes;
use std::time::Duration;

/// Bytes of a body that agents have let go.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PassedChunk {
    /// The bytes. Empty if the chunk is held back or was dropped.
    pub data: Bytes,
    /// `true` if the body ends with these bytes.
    pub is_last: bool,
    /// `true` if bytes of this chunk or before it are held back.
    pub is_held: bool,
}

impl Transaction {
    /// Returns when a body that agents see goes on; `None` if none of them subscribes to it.
    pub fn body_mode(&self, message: Message) -> Option<BodyMode> {
        self.flow(message).watched_mode(&self.chain)
    }

    /// Returns the size that agents prefer for the chunks of a body, in bytes. Smaller chunks are
    /// better gathered up to it, unless more of the body is not there yet.
    pub fn preferred_chunk(&self, message: Message) -> usize {
        let kind = message.event_type();
        let mut sizes = self
            .exchanges
            .iter()
            .filter(|exchange| exchange.is_subscribed(kind));
        let size = sizes
            .by_ref()
            .filter_map(Exchange::preferred_chunk_size)
            .min();
        size.unwrap_or(64 * 1024)
    }

    /// Returns the time for which the sender of a body may send nothing; `None` if there is no
    /// limit, as for responses. Integrations reject the request after it, by
    /// [`Rejection::RequestBodyTimeout`], and [count](Self::count_rejection) that.
    pub fn body_timeout(&self, message: Message) -> Option<Duration> {
        (message == Message::Request).then_some(self.chain.config.request_body_timeout)
    }

    /// Returns whether the head of a message must not go on yet: agents have not decided, or the
    /// mode of its body forbids it.
    pub fn holds_head(&self, message: Message) -> bool {
        self.flow(message).holds_head()
    }

    fn flow(&self, message: Message) -> &BodyFlow {
        match message {
            Message::Request => &self.request,
            Message::Response => &self.response,
        }
    }

    /// Sends a chunk of a body to the agents. `is_last` may come with the last bytes or without
    /// bytes behind them.
    ///
    /// Several chunks may be on their way. Not cancel safe.
    ///
    /// # Errors
    ///
    /// A [`Rejection`], which ends the transaction.
    pub async fn push_chunk(
        &mut self,
        message: Message,
        data: Bytes,
        is_last: bool,
    ) -> Result<(), Rejection> {
        let pushed = self.push(message, data, is_last).await;
        self.counted(pushed)
    }

    async fn push(
        &mut self,
        message: Message,
        data: Bytes,
        is_last: bool,
    ) -> Result<(), Rejection> {
        self.check_not_over()?;
        if message == Message::Response {
            // Answers to them would be taken for answers to this chunk.
            let settled = self.request.all_replied(&self.chain, &mut self.exchanges);
            let settled = settled.await;
            settled.map_err(|stop| self.stop(stop))?;
        }
        let id = self.id;
        let flow = match message {
            Message::Request => &mut self.request,
            Message::Response => &mut self.response,
        };
        let (chain, exchanges) = (&self.chain, &mut self.exchanges);
        let pushed = flow
            .push(chain, exchanges, id.as_str(), data, is_last)
            .await;
        pushed.map_err(|stop| self.stop(stop))
    }

    /// Waits until the first agents have replied to the oldest chunk that is on its way. Cancel
    /// safe; returns at once if no chunk is on its way.
    ///
    /// # Errors
    ///
    /// A [`Rejection`], which ends the transaction.
    pub async fn chunk_replied(&mut self, message: Message) -> Result<(), Rejection> {
        let replied = self.replied(message).await;
        self.counted(replied)
    }

    async fn replied(&mut self, message: Message) -> Result<(), Rejection> {
        self.check_not_over()?;
        let flow = match message {
            Message::Request => &mut self.request,
            Message::Response => &mut self.response,
        };
        let replied = flow.replied(&self.chain, &mut self.exchanges).await;
        replied.map_err(|stop| self.stop(stop))
    }

    /// Returns the number of chunks of a body that are on their way.
    pub fn chunks_on_way(&self, message: Message) -> usize {
        self.flow(message).on_way()
    }

    /// Returns what may go on after the oldest chunk that is on its way. Not cancel safe.
    ///
    /// # Errors
    ///
    /// A [`Rejection`], which ends the transaction.
    pub async fn next_chunk(&mut self, message: Message) -> Result<PassedChunk, Rejection> {
        let passed = self.take_next(message).await;
        self.counted(passed)
    }

    async fn take_next(&mut self, message: Message) -> Result<PassedChunk, Rejection> {
        self.replied(message).await?;
        let id = self.id;
        let flow = match message {
            Message::Request => &mut self.request,
            Message::Response => &mut self.response,
        };
        let judged = flow
            .next(&self.chain, &mut self.exchanges, id.as_str())
            .await;
        let judged = judged.map_err(|stop| self.stop(stop))?;
        self.take_body_changes(judged)
    }

    /// Asks about a chunk of a body, and returns what may go on.
    ///
    /// # Errors
    ///
    /// A [`Rejection`], which ends the transaction.
    pub async fn judge_chunk(
        &mut self,
        message: Message,
        data: Bytes,
        is_last: bool,
    ) -> Result<PassedChunk, Rejection> {
        self.push_chunk(message, data, is_last).await?;
        self.next_chunk(message).await
    }

    /// Gives the end of a body that does not exist to agents that are undecided.
    pub(super) async fn judge_empty_body(&mut self, message: Message) -> Result<(), Rejection> {
        let passed = self.judge_chunk(message, Bytes::new(), true).await?;
        if passed.data.is_empty() {
            return Ok(());
        }
        Err(message.body_error(BodyError::NoSuchChunk { index: 0 }))
    }

    fn take_body_changes(&mut self, judged: Judged) -> Result<PassedChunk, Rejection> {
        let is_late = self.has_request_head_gone && !judged.request_headers.is_empty()
            || self.has_response_head_gone && !judged.response_headers.is_empty();
        if let Some(agent) = judged.agent.filter(|_| is_late) {
            return Err(Rejection::TooLate(agent));
        }
        self.request_headers.extend(judged.request_headers);
        self.response_headers.extend(judged.response_headers);
        Ok(PassedChunk {
            data: judged.data,
            is_last: judged.is_last,
            is_held: judged.is_held,
        })
    }

    /// Notes bytes of a body that were not given to [`push_chunk`](Self::push_chunk).
    pub fn count_bytes(&mut self, message: Message, bytes: usize) {
        match message {
            Message::Request => self.request.received += bytes,
            Message::Response => self.response.received += bytes,
        }
    }

    /// Returns the number of bytes of a body that have come so far.
    pub fn received_bytes(&self, message: Message) -> usize {
        self.flow(message).received
    }
}
