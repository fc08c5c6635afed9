use crate::agent::listening;
use crate::{Place, Traffic};
use std::future::Future;

/// Connections between a proxy and its agent, the same for every subject.
pub const CONNECTIONS: usize = 4;

/// An engine: both sides of it.
pub trait Subject: Send + Sync + 'static {
    /// The proxy's side.
    type Proxy: Proxy;

    /// What the side that listens is found by.
    type Place: Place;

    /// Serves an agent that allows everything; returns only if it cannot.
    fn serve(&self, place: Self::Place) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Waits until the agent can be connected to. Where it connects to the proxy there is nothing to wait for.
    fn ready(&self, place: &Self::Place) -> impl Future<Output = anyhow::Result<()>> {
        listening(place)
    }

    /// Opens [`CONNECTIONS`] connections to the agent, or takes as many from it.
    fn connect(
        &self,
        place: &Self::Place,
        traffic: &Traffic,
    ) -> impl Future<Output = anyhow::Result<Self::Proxy>>;
}

/// The proxy's side of an engine, connected.
pub trait Proxy {
    /// What makes its requests.
    type Caller: Caller;

    /// How messages are written on its connections.
    fn encoding(&self) -> &'static str;

    /// A caller with everything it needs, so that its calls cost what the engine costs.
    fn caller(&self, number: usize) -> Self::Caller;
}

/// Makes one request after another.
pub trait Caller: Send + 'static {
    /// Puts a whole request to the agent. Anything but an allow is an error.
    fn call(&mut self, id: &str) -> impl Future<Output = anyhow::Result<()>> + Send;
}
