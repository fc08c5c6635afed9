use super::control::Mailbox;
use super::handler::AgentHandler;
use super::session::{Admitted, SessionParts, serve, shake_hands};
use crate::connection::link::{Link, Why};
use crate::error::ConnectError;
use crate::transport::Visit;
use crate::wire::{Encoding, FrameBuffer};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// What every server that listens can be told.
#[derive(Debug, Clone)]
pub(super) struct ServerSettings {
    /// That of the socket file, if there is one.
    pub(super) mode: u32,
    pub(super) max_connections: usize,
    pub(super) max_concurrent_per_connection: usize,
    pub(super) handshake_timeout: Duration,
    pub(super) drain_timeout: Duration,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            mode: 0o600,
            max_connections: 1024,
            max_concurrent_per_connection: 1024,
            handshake_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl ServerSettings {
    pub(super) fn reception(&self, encodings: Vec<Encoding>) -> Reception {
        Reception {
            encodings,
            max_concurrent: self.max_concurrent_per_connection,
            handshake_timeout: self.handshake_timeout,
            places: Arc::new(Semaphore::new(self.max_connections)),
        }
    }
}

/// How a server treats its connections, whatever they travel over.
#[derive(Debug, Clone)]
pub(super) struct Reception {
    pub(super) encodings: Vec<Encoding>,
    pub(super) max_concurrent: usize,
    pub(super) handshake_timeout: Duration,
    /// Connections that are served at once.
    pub(super) places: Arc<Semaphore>,
}

impl Reception {
    /// The whole life of one connection.
    pub(super) async fn attend<H: AgentHandler>(
        self,
        handler: Arc<H>,
        mut link: Link,
        mailbox: Arc<Mailbox>,
        mut visit: Visit,
    ) {
        let mut buffer = FrameBuffer::default();
        let shaken = timeout(
            self.handshake_timeout,
            shake_hands(
                &*handler,
                &self.encodings,
                &mut link,
                &mut buffer,
                &self.places,
            ),
        );
        let shaken = tokio::select! {
            shaken = shaken => shaken,
            () = visit.turned_away() => {
                return turn_away(&link, Why::TooMuch, &"too many connections shake hands");
            }
            () = mailbox.drained() => return link.sender.say_why(Why::Stopping, &"the agent stops"),
        };
        drop(visit);
        let Admitted {
            dialect,
            place: _place,
            proxy_id,
        } = match shaken {
            Ok(Ok(admitted)) => admitted,
            Ok(Err(error)) => return turn_away(&link, Why::Invalid, &error),
            Err(_) => {
                let error = ConnectError::TimedOut(self.handshake_timeout);
                return turn_away(&link, Why::TooSlow, &error);
            }
        };
        if dialect.has_streams() {
            mailbox.belongs_to(proxy_id);
        }
        let parts = SessionParts {
            handler,
            buffer,
            dialect: dialect.within(link.max_frame),
            link,
            mailbox,
            max_concurrent: self.max_concurrent,
        };
        if let Err(error) = serve(parts).await {
            tracing::warn!(%error, "a proxy's connection ended");
        }
    }
}

fn turn_away(link: &Link, why: Why, error: &dyn Display) {
    tracing::warn!(%error, "a proxy was turned away");
    link.sender.say_why(why, error);
}
