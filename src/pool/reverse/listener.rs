//! The listener for agents that dial the proxy.

use super::config::ReverseConnectionConfig;
use super::connection_quota::{ConnectionQuota, QuotaPermit};
use super::owner::{IdOwner, Registration};
use super::peer::Peer;
use super::rate_limit::RateLimiter;
use super::registration_policy::RegistrationPolicy;
use super::socket::{IncomingConnection, ListenAddress, Socket, TlsIdentity};
use crate::connection::link::Link;
use crate::connection::{
    Connection, NegotiatedParams, Offered, Origin, Side, connection_over_link, run_writer,
};
use crate::error::{AcceptError, ConnectError, RegistrationError};
use crate::lock::lock;
use crate::log::{NO_PEER, log_line};
use crate::pool::member::Member;
use crate::pool::{Agent, AgentPool};
use crate::transport::{self, HandshakeLimiter, HandshakeSlot};
use crate::wire::{FrameBuffer, MessageType, RegistrationRequest, RegistrationResponse};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Accepts agents that connect to the proxy: agents behind NAT, and agents that are started and
/// stopped independently of it.
///
/// A registered connection joins its agent in the pool and is used like one that the pool has
/// opened. An agent may have both kinds.
///
/// ```no_run
/// # async fn example() -> Result<(), tollgate::error::BindError> {
/// use std::sync::Arc;
/// use tollgate::{AgentPool, ReverseConnectionConfig, ReverseConnectionListener};
///
/// let pool = Arc::new(AgentPool::new());
/// let config = ReverseConnectionConfig::default()
///     .allowed_agents(["waf".to_owned(), "auth-*".to_owned()].into())
///     .auth_tokens([std::env::var("AGENT_TOKEN").unwrap_or_default()].into());
/// let listener = Arc::new(ReverseConnectionListener::bind_tcp("10.0.0.1:7000", config).await?);
/// tokio::spawn(Arc::clone(&listener).accept_loop(Arc::clone(&pool)));
/// // Later: accept no more agents. Connected ones stay.
/// listener.stop();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReverseConnectionListener {
    /// `None` once it is stopped. Dropping the socket makes the system refuse further connections.
    socket: Mutex<Option<Arc<Socket>>>,
    address: ListenAddress,
    stopped: watch::Sender<bool>,
    limits: ListenerLimits,
    policy: RegistrationPolicy,
    rate_limiter: RateLimiter,
    quota: Arc<ConnectionQuota>,
    registered: AtomicU64,
    rejected: AtomicU64,
    /// Makes the ids of connections unique.
    next_connection: AtomicU64,
}

/// The settings that the listener itself needs.
#[derive(Debug)]
struct ListenerLimits {
    handshake_timeout: Duration,
    max_unregistered: usize,
    max_connections: usize,
    grace_time: Duration,
}

impl ReverseConnectionListener {
    pub(super) fn new(
        socket: Socket,
        address: ListenAddress,
        config: ReverseConnectionConfig,
        own_uid: Option<u32>,
    ) -> Self {
        log_line!(
            info,
            NO_PEER,
            { address },
            "listening for agents: {config:?}"
        );
        Self {
            socket: Mutex::new(Some(Arc::new(socket))),
            address,
            stopped: watch::Sender::new(false),
            limits: ListenerLimits {
                handshake_timeout: config.handshake_timeout,
                max_unregistered: config.max_unregistered.max(1),
                max_connections: config.max_connections.max(1),
                grace_time: config.grace_time,
            },
            rate_limiter: RateLimiter::new(config.max_registrations_per_second),
            quota: Arc::new(ConnectionQuota::new(
                config.max_connections,
                config.max_connections_per_agent,
            )),
            policy: RegistrationPolicy::new(config, own_uid),
            registered: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            next_connection: AtomicU64::new(0),
        }
    }

    /// Returns the path of the Unix socket, or `None` for a TCP port.
    pub fn socket_path(&self) -> Option<&Path> {
        match &self.address {
            ListenAddress::Unix(path) => Some(path),
            _ => None,
        }
    }

    /// Returns the address of the TCP port, or `None` for a Unix socket. If port 0 was bound, this
    /// is the port that the system chose.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.address {
            ListenAddress::Unix(_) => None,
            #[cfg(feature = "__sim")]
            ListenAddress::Simulated => None,
            ListenAddress::Tcp(address) => Some(*address),
            #[cfg(feature = "tls")]
            ListenAddress::Tls(address) => Some(*address),
        }
    }

    /// Returns the number of registered connections that are open.
    pub fn connections(&self) -> usize {
        self.quota.total()
    }

    /// Returns the number of connections that were registered so far.
    pub fn registered(&self) -> u64 {
        self.registered.load(Ordering::Relaxed)
    }

    /// Returns the number of connections that were rejected so far, for whatever reason. The log
    /// has the reasons.
    pub fn refused(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Accepts one connection and registers it. Returns the agent.
    ///
    /// # Errors
    ///
    /// [`Registration`](AcceptError::Registration) if the agent is rejected or does not register in
    /// time, or [`Listen`](AcceptError::Listen) if no connection can be accepted or the listener is
    /// stopped.
    pub async fn accept_one(&self, pool: &AgentPool) -> Result<Agent, AcceptError> {
        let incoming = self
            .accept()
            .await
            .and_then(|incoming| {
                incoming.ok_or_else(|| io::Error::other("the listener is stopped"))
            })
            .map_err(|source| AcceptError::Listen {
                endpoint: self.address.to_string(),
                source,
            })?;
        let peer = incoming.peer.clone();
        let registered = self.register(incoming, pool).await;
        registered.map_err(|source| AcceptError::Registration {
            peer: peer.to_string(),
            source,
        })
    }

    /// Accepts and registers connections, many at once, until [`stop`](Self::stop) is called. Keeps
    /// the pool alive until then.
    pub async fn accept_loop(self: Arc<Self>, pool: Arc<AgentPool>) {
        let limiter = Mutex::new(HandshakeLimiter::new(self.limits.max_unregistered));
        let mut registering = JoinSet::new();
        loop {
            tokio::select! {
                // Finished registrations are collected first. There are never more of them than
                // were accepted, so they cannot keep new connections from being accepted.
                biased;
                Some(_) = registering.join_next() => {}
                incoming = transport::accept(&limiter, || self.accept()) => {
                    let Some(incoming) = incoming else { return };
                    let (listener, pool) = (Arc::clone(&self), Arc::clone(&pool));
                    let slot = lock(&limiter).enter(incoming.peer.key);
                    registering.spawn(listener.handle_incoming(incoming, slot, pool));
                }
            }
        }
    }

    /// Stops accepting connections. Registered ones stay with the pool; those that are registering
    /// are closed.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
        lock(&self.socket).take();
    }

    /// Accepts the next connection. Returns `None` once the listener is stopped.
    async fn accept(&self) -> io::Result<Option<IncomingConnection>> {
        let Some(socket) = lock(&self.socket).clone() else {
            return Ok(None);
        };
        let mut stopped = self.stopped.subscribe();
        tokio::select! {
            biased;
            // Cannot fail: `self` holds the sender.
            _ = stopped.wait_for(|is_stopped| *is_stopped) => Ok(None),
            incoming = socket.accept() => incoming.map(Some),
        }
    }

    async fn handle_incoming(
        self: Arc<Self>,
        incoming: IncomingConnection,
        mut slot: HandshakeSlot,
        pool: Arc<AgentPool>,
    ) {
        let peer = incoming.peer.clone();
        tokio::select! {
            biased;
            // `register` logs the outcome.
            _ = self.register(incoming, &pool) => {}
            () = slot.evicted() => {
                let reason = RegistrationError::TooManyUnregistered;
                self.record_rejection(&peer, None, &reason);
            }
        }
    }

    /// Registers a connection within the time limit. Logs a rejection.
    async fn register(
        &self,
        incoming: IncomingConnection,
        pool: &AgentPool,
    ) -> Result<Agent, RegistrationError> {
        let peer = incoming.peer.clone();
        let mut agent_id = None;
        let time_limit = self.limits.handshake_timeout;
        let registered = timeout(time_limit, self.try_register(incoming, pool, &mut agent_id));
        let registered = registered
            .await
            .unwrap_or_else(|_| Err(ConnectError::TimedOut(time_limit).into()));
        registered.inspect_err(|reason| {
            self.record_rejection(&peer, agent_id.as_deref(), reason);
        })
    }

    fn record_rejection(&self, peer: &Peer, agent_id: Option<&str>, reason: &RegistrationError) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        let agent = agent_id.unwrap_or_default();
        log_line!(warn, &peer.key.to_string(), { peer, agent }, "rejected an agent: {reason}");
    }

    async fn try_register(
        &self,
        incoming: IncomingConnection,
        pool: &AgentPool,
        agent_id: &mut Option<String>,
    ) -> Result<Agent, RegistrationError> {
        let peer = incoming.peer.clone();
        if !self.rate_limiter.try_acquire(peer.key) {
            return Err(RegistrationError::TooFast);
        }
        self.policy.check_peer(&peer)?;
        let (mut link, identity) = incoming.established.await?;
        let mut buffer = FrameBuffer::default();
        let (expected, name) = (MessageType::HandshakeRequest, "a registration");
        let payload = link.receive_handshake(&mut buffer, expected, name);
        let request = RegistrationRequest::decode(&payload.await?).map_err(ConnectError::from)?;
        *agent_id = Some(request.agent_id.clone());
        match self.authorize(&request, &peer, &identity, pool) {
            Ok((owner, permit)) => {
                self.accept_registration(request, owner, permit, link, buffer, pool)
                    .await
            }
            Err(reason) => {
                let rejection = RegistrationResponse::reject().encode();
                link.send_handshake(MessageType::HandshakeResponse, &rejection)
                    .await?;
                Err(reason)
            }
        }
    }

    fn authorize(
        &self,
        request: &RegistrationRequest,
        peer: &Peer,
        identity: &TlsIdentity,
        pool: &AgentPool,
    ) -> Result<(IdOwner, QuotaPermit), RegistrationError> {
        let owner = self.policy.check_registration(
            request,
            peer,
            identity.is_valid_for(&request.agent_id),
        )?;
        pool.inner.check_owner(&request.agent_id, owner)?;
        let permit = self.quota.try_acquire(&request.agent_id)?;
        Ok((owner, permit))
    }

    /// Accepts a registration: sends the response and adds the connection to the pool.
    async fn accept_registration(
        &self,
        request: RegistrationRequest,
        owner: IdOwner,
        permit: QuotaPermit,
        mut link: Link,
        mut buffer: FrameBuffer,
        pool: &AgentPool,
    ) -> Result<Agent, RegistrationError> {
        let known = pool.inner.agents.load().get(&*request.agent_id).cloned();
        let known = known.as_ref();
        let config = known.map_or(&pool.inner.defaults, |agent| &agent.config);
        let dialect = request.negotiate(&config.encodings, config.extensions());
        let number = self.next_connection.fetch_add(1, Ordering::Relaxed);
        let peer = request.tollgate.shared_memory();
        let offered = link.accept_shared_memory(config.shared_memory(), peer);
        let mut response = RegistrationResponse::accept(
            pool.inner.settings.proxy_id(),
            format!("{}-{number}", request.agent_id),
            dialect,
        );
        response
            .tollgate
            .set_shared_memory(Offered::offer(&offered));
        link.send_handshake(MessageType::HandshakeResponse, &response.encode())
            .await?;

        let peer = peer.filter(|_| dialect.has_streams());
        let memory = &pool.inner.memory;
        let upgraded = link.upgrade(offered, peer, &mut buffer, Side::Proxy, memory);
        let link_kind = upgraded.await?;
        let agent_id = request.agent_id;
        let negotiated = NegotiatedParams {
            capabilities: request.capabilities.into(),
            dialect,
            origin: Origin::Reverse,
            link_kind,
        };
        let registration = Registration {
            owner,
            grace: self.limits.grace_time,
        };
        let max_agents = self.limits.max_connections;
        let (agent, connection, inbound) =
            pool.inner
                .join_reverse(&agent_id, registration, max_agents, |agent| {
                    let shared = Arc::clone(&agent.state.shared);
                    let config = agent.config.connection();
                    connection_over_link(shared, link, buffer, negotiated, &config)
                })?;
        tokio::spawn(run_writer(Arc::clone(&connection)));
        let receiving = Arc::clone(&agent.state).receive(inbound);
        tokio::spawn(async move {
            receiving.await;
            drop(permit);
        });
        pool.inner.start_maintenance();
        tokio::spawn(configure_connection(Arc::clone(&agent), connection));
        self.registered.fetch_add(1, Ordering::Relaxed);
        let connection = &response.connection_id;
        log_line!(info, &agent_id, { agent = agent_id, connection }, "an agent connected");
        Ok(Agent(agent))
    }
}

/// Sends the agent its settings on a new connection. Runs in a task, since the agent may take any
/// time to answer.
async fn configure_connection(agent: Arc<Member>, connection: Arc<Connection>) {
    if let Err(error) = agent.prepare_connection(&connection).await {
        let agent = &**agent.id();
        log_line!(warn, agent, { agent, error }, "cannot use the connection of an agent");
    }
}
