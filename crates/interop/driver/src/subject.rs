use crate::agent::wait_until_listening;
use crate::{ListenAddress, Traffic};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::ops::Sub;

/// Connections between a proxy and its agent, the same for every subject.
pub const CONNECTIONS: usize = 4;

/// Both sides of an engine.
pub trait Subject: Send + Sync + 'static {
    /// The proxy's side.
    type Proxy: Proxy;

    /// Address of the side that listens.
    type Address: ListenAddress;

    /// Serves an agent that allows everything. Returns only if that fails.
    fn serve(&self, address: Self::Address) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Waits until the agent accepts connections. Does nothing if the agent connects to the proxy.
    fn ready(&self, address: &Self::Address) -> impl Future<Output = anyhow::Result<()>> {
        wait_until_listening(address)
    }

    /// Opens [`CONNECTIONS`] connections to the agent, or accepts as many from it.
    fn connect(
        &self,
        address: &Self::Address,
        traffic: &Traffic,
    ) -> impl Future<Output = anyhow::Result<Self::Proxy>>;
}

/// The connected proxy's side of an engine.
pub trait Proxy {
    /// Type of its callers.
    type Caller: Caller;

    /// Returns the encoding of messages on its connections.
    fn encoding(&self) -> &'static str;

    /// Creates a caller with everything that it needs, so that its calls cost only what the engine
    /// costs.
    fn caller(&self, number: usize) -> Self::Caller;

    /// Returns what the links of this side have counted so far, if they count.
    fn link_counts(&self) -> Option<LinkCounts> {
        None
    }
}

/// Events of links through shared memory: numbers, or averages for each request.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct LinkCounts {
    /// Times that the sleeping agent was woken.
    pub doorbells: f64,
    /// Times that the proxy's side went to sleep.
    pub sleeps: f64,
    /// Times that the proxy's side waited without sleeping, and nothing came.
    pub vain_spins: f64,
}

impl LinkCounts {
    pub(crate) fn map(self, change: impl Fn(f64) -> f64) -> Self {
        Self {
            doorbells: change(self.doorbells),
            sleeps: change(self.sleeps),
            vain_spins: change(self.vain_spins),
        }
    }
}

impl Sub for LinkCounts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            doorbells: self.doorbells - earlier.doorbells,
            sleeps: self.sleeps - earlier.sleeps,
            vain_spins: self.vain_spins - earlier.vain_spins,
        }
    }
}

/// Makes one request after another.
pub trait Caller: Send + 'static {
    /// Sends all events of a request to the agent. Anything but `allow` is an error.
    fn call(&mut self, id: &str) -> impl Future<Output = anyhow::Result<()>> + Send;
}
