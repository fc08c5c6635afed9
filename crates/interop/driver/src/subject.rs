use crate::agent::wait_until_listening;
use crate::{ListenAddress, Traffic};
use std::future::Future;

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
}

/// Makes one request after another.
pub trait Caller: Send + 'static {
    /// Sends all events of a request to the agent. Anything but `allow` is an error.
    fn call(&mut self, id: &str) -> impl Future<Output = anyhow::Result<()>> + Send;
}
