//! The parts of a situation: agents, an upstream, a proxy between them, and clients.

mod agent;
mod case;
mod clients;
mod h2_client;
mod http1_client;
mod outcome;
mod process;
mod proxy;
mod request;
mod upstream;
mod wire;

pub(crate) use agent::{AgentSpec, Event, agent};
pub(crate) use case::{Case, run};
pub(crate) use clients::Via;
pub(crate) use h2_client::Http2;
pub(crate) use http1_client::Connection;
pub(crate) use outcome::Outcome;
pub(crate) use process::{ProxyProcess, run_proxy};
pub(crate) use proxy::{Kind, Rig};
pub(crate) use request::{Body, Request, get, post};
pub(crate) use upstream::{Step, reply};

use std::time::Duration;
use tokio::sync::watch;

/// Time limit for any step of a test, far above what it takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// Requests or events that a part of the rig has seen so far. Tests can wait for more of them.
#[derive(Debug)]
pub(crate) struct Record<T>(watch::Sender<Vec<T>>);

impl<T> Clone for Record<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Record<T> {
    fn default() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }
}

impl<T: Clone + std::fmt::Debug> Record<T> {
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Vec<T>) -> R) -> R {
        let mut result = None;
        self.0.send_modify(|seen| result = Some(change(seen)));
        result.unwrap()
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.borrow().clone()
    }

    /// Waits until a condition holds.
    pub(crate) async fn wait(&self, description: &str, holds: impl Fn(&[T]) -> bool) {
        self.wait_at_most(LIMIT, description, holds).await;
    }

    pub(crate) async fn wait_at_most(
        &self,
        limit: Duration,
        description: &str,
        holds: impl Fn(&[T]) -> bool,
    ) {
        let mut changes = self.0.subscribe();
        let waited = tokio::time::timeout(limit, changes.wait_for(|seen| holds(seen))).await;
        assert!(
            waited.is_ok(),
            "waited in vain: {description}; seen: {:?}",
            self.all()
        );
    }
}
