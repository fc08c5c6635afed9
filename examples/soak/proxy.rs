//! The pool's side of reverse connections.

use crate::agent::TOKEN;
use crate::common::addresses::{Address, Addresses};
use crate::links::{Direction, LINKS, Transport};
use crate::roster::Agent;
use crate::{Failure, certificates};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tollgate::{AgentPool, ReverseConnectionConfig, ReverseConnectionListener};

/// The listeners for agents that dial, one for each transport.
pub(crate) struct Proxy(Vec<(Transport, Address, Arc<ReverseConnectionListener>)>);

impl Proxy {
    pub(crate) async fn listen(
        directory: &Path,
        pool: &AgentPool,
        addresses: &mut Addresses,
    ) -> Result<Self, Failure> {
        let mut listeners = Vec::new();
        for link in LINKS
            .iter()
            .filter(|link| link.direction == Direction::Reverse)
        {
            let address = link.next(addresses);
            let listener = listen(directory, link.transport, &address).await?;
            let listener = Arc::new(listener);
            tokio::spawn(Arc::clone(&listener).accept_loop(Arc::new(pool.clone())));
            listeners.push((link.transport, address, listener));
        }
        Ok(Self(listeners))
    }

    fn address(&self, transport: Transport) -> Option<&Address> {
        let mut listeners = self.0.iter();
        let listener = listeners.find(|(listening, ..)| *listening == transport);
        listener.map(|(_, address, _)| address)
    }

    /// Returns the address that agents dial, if they do over this link.
    pub(crate) fn address_for(&self, agent: &Agent) -> Option<&Address> {
        match agent.link.direction {
            Direction::Forward => None,
            Direction::Reverse => self.address(agent.link.transport),
        }
    }

    pub(crate) fn stop(&self) {
        for (.., listener) in &self.0 {
            listener.stop();
        }
    }
}

async fn listen(
    directory: &Path,
    transport: Transport,
    address: &Address,
) -> Result<ReverseConnectionListener, Failure> {
    let mut config = ReverseConnectionConfig::default()
        // Two instances of a victim that moves, and connections that the pool has not given up yet.
        .max_connections_per_agent(16)
        .grace_time(Duration::from_secs(600));
    Ok(match address {
        Address::Unix(path) => ReverseConnectionListener::bind_uds(path, config).await?,
        Address::Tcp(address) if transport == Transport::Tls => {
            let tls = certificates::server(directory)?;
            ReverseConnectionListener::bind_tls(address, tls, config).await?
        }
        Address::Tcp(address) => {
            config
                .agent_tokens
                .insert("*".to_owned(), [TOKEN.to_owned()].into());
            ReverseConnectionListener::bind_tcp(address, config).await?
        }
    })
}
