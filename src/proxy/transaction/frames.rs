//! Frames of a WebSocket connection that a transaction has led to.

use super::Transaction;
use crate::events::IpText;
use crate::protocol::events::WebSocketFrame;
use crate::protocol::{Decision, EventType, WebSocketDecision};
use crate::proxy::rejection::Rejection;

impl Transaction {
    /// Returns whether an agent subscribes to WebSocket frames.
    pub fn watches_frames(&self) -> bool {
        let mut exchanges = self.exchanges.iter();
        exchanges.any(|exchange| exchange.is_subscribed(EventType::WebSocketFrame))
    }

    /// Asks about a frame of a WebSocket connection. The correlation id and the client's address in
    /// `frame` are set by this.
    ///
    /// The first decision that is not [`WebSocketDecision::Allow`] counts. An agent that decides
    /// against the request closes the connection by status code 1008.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] if a call to an agent failed.
    pub async fn judge_frame(
        &mut self,
        frame: WebSocketFrame<'_>,
    ) -> Result<WebSocketDecision, Rejection> {
        let judged = self.ask_about_frame(frame).await;
        self.counted(judged)
    }

    async fn ask_about_frame(
        &mut self,
        frame: WebSocketFrame<'_>,
    ) -> Result<WebSocketDecision, Rejection> {
        self.check_not_over()?;
        let id = self.id;
        let client_ip = self.client.map(|address| IpText::from(address.ip()));
        let frame = WebSocketFrame {
            correlation_id: id.as_str(),
            client_ip: client_ip.as_deref().unwrap_or_default(),
            ..frame
        };
        for at in 0..self.exchanges.len() {
            let exchange = &mut self.exchanges[at];
            if !exchange.is_subscribed(EventType::WebSocketFrame) {
                continue;
            }
            let sent = exchange.send(&frame).await;
            let answer = sent.map_err(|error| self.stop(error.into()))?;
            if answer.decision != Decision::Allow {
                return Ok(WebSocketDecision::Close {
                    code: 1008,
                    reason: String::new(),
                });
            }
            match answer.websocket_decision {
                None | Some(WebSocketDecision::Allow) => {}
                Some(decision) => return Ok(decision),
            }
        }
        Ok(WebSocketDecision::Allow)
    }
}
