//! The head of a transaction's response.

use super::Transaction;
use crate::protocol::EventType;
use crate::protocol::events::ResponseHeaders;
use crate::proxy::ask::ask;
use crate::proxy::content;
use crate::proxy::head::{goes_on_with_websocket, normalise_response};
use crate::proxy::header_ops::{HeaderTarget, apply_header_ops};
use crate::proxy::message::Message;
use crate::proxy::rejection::Rejection;
use http::StatusCode;
use std::sync::Arc;

impl Transaction {
    /// Removes the headers of the upstream's connection, asks about the head of the response, and
    /// applies the changes that agents asked for so far.
    ///
    /// Interim responses are not judged.
    ///
    /// # Errors
    ///
    /// A [`Rejection`], which ends the transaction.
    pub async fn judge_response(
        &mut self,
        status: StatusCode,
        head: &mut impl HeaderTarget,
        has_body: bool,
    ) -> Result<(), Rejection> {
        let judged = self.ask_about_response(status, head, has_body).await;
        self.counted(judged)
    }

    async fn ask_about_response(
        &mut self,
        status: StatusCode,
        head: &mut impl HeaderTarget,
        has_body: bool,
    ) -> Result<(), Rejection> {
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        self.check_not_over()?;
        self.has_request_head_gone = true;
        let settled = self
            .request
            .all_replied(&self.chain, &mut self.exchanges)
            .await;
        settled.map_err(|stop| self.stop(stop))?;
        if status != StatusCode::SWITCHING_PROTOCOLS {
            normalise_response(head).map_err(|_| Rejection::ResponseFraming)?;
        } else if !(self.is_websocket && goes_on_with_websocket(head)) {
            return Err(Rejection::Switched);
        }
        self.response.watch(&self.chain, &self.exchanges);
        if has_body {
            self.response
                .plan_coding(&self.chain, &self.exchanges, head.headers())?;
        }
        apply_header_ops(head, &std::mem::take(&mut self.response_headers))?;
        let chain = Arc::clone(&self.chain);
        let id = self.id;
        for stage in &chain.stages {
            let event = ResponseHeaders {
                correlation_id: id.as_str(),
                status: status.as_u16(),
                headers: head.headers(),
            };
            let kind = EventType::ResponseHeaders;
            let exchanges = &mut self.exchanges[stage.clone()];
            let replies = ask(exchanges, &event, |_, exchange| {
                exchange.is_subscribed(kind)
            })
            .await;
            let replies = replies.map_err(|stop| self.stop(stop))?;
            let ops = self.take_head_replies(stage.start, replies, Message::Response)?;
            apply_header_ops(head, &ops)?;
        }
        if !has_body && self.response.is_undecided() {
            self.judge_empty_body(Message::Response).await?;
            apply_header_ops(head, &std::mem::take(&mut self.response_headers))?;
        }
        Ok(())
    }

    /// Like [`Transaction::settle_request_head`], for the response. `has_body` is `false` if the
    /// response has no body whatever its headers say, as that to `HEAD`.
    ///
    /// # Errors
    ///
    /// [`Rejection::Headers`] if an agent asked for a change that is not permitted.
    pub fn settle_response_head(
        &mut self,
        head: &mut impl HeaderTarget,
        has_body: bool,
    ) -> Result<(), Rejection> {
        let settled = self.apply_to_response(head, has_body);
        self.counted(settled)
    }

    fn apply_to_response(
        &mut self,
        head: &mut impl HeaderTarget,
        has_body: bool,
    ) -> Result<(), Rejection> {
        self.has_response_head_gone = true;
        apply_header_ops(head, &std::mem::take(&mut self.response_headers))?;
        if has_body {
            content::describe(head, &mut self.response)?;
        }
        Ok(())
    }
}
