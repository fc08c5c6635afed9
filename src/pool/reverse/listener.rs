use super::config::{Authentication, ReverseConnectionConfig};
use super::gatekeeper::Gatekeeper;
use super::joining::{Holder, Standing};
use super::log::RefusalLog;
use super::pace::Pace;
use super::peer::Peer;
use super::places::{Place, Places};
use super::socket::{Address, Shown, Socket, Visitor};
use crate::connection::link::Link;
use crate::connection::{
    Connection, Origin, Terms, adopt, receive_handshake, run_writer, send_message,
};
use crate::error::{AgentProtocolError, ConnectError, RegistrationError};
use crate::pool::{AgentPool, Inner};
use crate::transport::{Doorway, Endpoint, SocketFile, Visit, tcp};
use crate::wire::{Extension, FrameBuffer, MessageType, RegistrationRequest, RegistrationResponse};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, ToSocketAddrs, lookup_host};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Takes agents that connect to the proxy, for those behind NAT and those that come and go by themselves.
///
/// A registered connection joins its agent in the pool and is used like one that the pool has made; an agent may
/// have both.
///
/// ```no_run
/// # async fn example() -> Result<(), tollgate::AgentProtocolError> {
/// use std::sync::Arc;
/// use tollgate::{AgentPool, ReverseConnectionConfig, ReverseConnectionListener};
///
/// let pool = Arc::new(AgentPool::new());
/// let config = ReverseConnectionConfig {
///     allowed_agents: ["waf".to_owned(), "auth-*".to_owned()].into(),
///     auth_tokens: [std::env::var("AGENT_TOKEN").unwrap_or_default()].into(),
///     ..ReverseConnectionConfig::default()
/// };
/// let listener = Arc::new(ReverseConnectionListener::bind_tcp("10.0.0.1:7000", config).await?);
/// tokio::spawn(Arc::clone(&listener).accept_loop(Arc::clone(&pool)));
/// // Later: no more agents come in; those that are connected stay.
/// listener.stop();
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ReverseConnectionListener {
    /// `None` once it is stopped, so that the system refuses connections.
    socket: Mutex<Option<Arc<Socket>>>,
    address: Address,
    stopped: watch::Sender<bool>,
    rules: Rules,
    gatekeeper: Gatekeeper,
    pace: Pace,
    places: Arc<Places>,
    refusals: RefusalLog,
    registered: AtomicU64,
    registering: AtomicU64,
}

/// What is needed of the configuration beside what others have taken of it.
#[derive(Debug)]
struct Rules {
    handshake_timeout: Duration,
    max_unregistered: usize,
    max_connections: usize,
    grace_time: Duration,
}

impl ReverseConnectionListener {
    /// Listens on a Unix socket. A socket file that nobody listens at is replaced.
    ///
    /// # Errors
    ///
    /// [`InvalidConfiguration`](AgentProtocolError::InvalidConfiguration) if nothing would keep strangers out,
    /// [`InvalidEndpoint`](AgentProtocolError::InvalidEndpoint), or [`Listen`](AgentProtocolError::Listen) if
    /// another process listens there, a file that is no socket is in the way, or the system refuses.
    pub async fn bind_uds(
        path: impl AsRef<Path>,
        config: ReverseConnectionConfig,
    ) -> Result<Self, AgentProtocolError> {
        let path = Endpoint::from_path(path.as_ref())?;
        let address = Address::Unix(path.to_owned());
        check(&address, &config, Authentication::Identity)?;
        let (listener, file) = SocketFile::listen(path, config.socket_mode, config.backlog)
            .await
            .map_err(|cause| listen_error(&address, cause))?;
        let own_uid = Some(file.owner());
        let socket = Socket::Unix {
            listener,
            _file: file,
        };
        Ok(Self::new(socket, address, config, own_uid))
    }

    /// Listens on a TCP port, without encryption: for loopback, or a network that is encrypted otherwise.
    ///
    /// # Errors
    ///
    /// [`InvalidConfiguration`](AgentProtocolError::InvalidConfiguration) if nothing would keep strangers out, or
    /// [`Listen`](AgentProtocolError::Listen) if the name has no address or the system refuses.
    pub async fn bind_tcp(
        address: impl ToSocketAddrs,
        config: ReverseConnectionConfig,
    ) -> Result<Self, AgentProtocolError> {
        let (listener, address) = listen_tcp(address, &config, Authentication::None).await?;
        let address = Address::Tcp(address);
        Ok(Self::new(Socket::Tcp(listener), address, config, None))
    }

    /// Listens on a TCP port, with TLS. Where `tls` asks for certificates, an agent may register as the names in its
    /// own alone.
    ///
    /// # Errors
    ///
    /// As for [`bind_tcp`](Self::bind_tcp), and [`InvalidTls`](AgentProtocolError::InvalidTls) if the certificates
    /// cannot be used.
    #[cfg(feature = "tls")]
    pub async fn bind_tls(
        address: impl ToSocketAddrs,
        tls: crate::TlsServerConfig,
        config: ReverseConnectionConfig,
    ) -> Result<Self, AgentProtocolError> {
        let acceptor = Arc::new(tls.acceptor()?);
        let authentication = if tls.asks_for_certificates() {
            Authentication::Identity
        } else {
            Authentication::None
        };
        let (listener, address) = listen_tcp(address, &config, authentication).await?;
        let socket = Socket::Tls { listener, acceptor };
        Ok(Self::new(socket, Address::Tls(address), config, None))
    }

    fn new(
        socket: Socket,
        address: Address,
        config: ReverseConnectionConfig,
        own_uid: Option<u32>,
    ) -> Self {
        tracing::info!(%address, ?config, "agents may connect");
        Self {
            socket: Mutex::new(Some(Arc::new(socket))),
            address,
            stopped: watch::Sender::new(false),
            rules: Rules {
                handshake_timeout: config.handshake_timeout,
                max_unregistered: config.max_unregistered.max(1),
                max_connections: config.max_connections.max(1),
                grace_time: config.grace_time,
            },
            pace: Pace::new(config.max_registrations_per_second),
            places: Arc::new(Places::new(
                config.max_connections,
                config.max_connections_per_agent,
            )),
            gatekeeper: Gatekeeper::new(config, own_uid),
            refusals: RefusalLog::new(),
            registered: AtomicU64::new(0),
            registering: AtomicU64::new(0),
        }
    }

    /// The path of the Unix socket, if it is one.
    pub fn socket_path(&self) -> Option<&Path> {
        match &self.address {
            Address::Unix(path) => Some(path),
            _ => None,
        }
    }

    /// The address of the port, if it is one: with the port's number where the system has chosen it.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.address {
            Address::Unix(_) => None,
            Address::Tcp(address) => Some(*address),
            #[cfg(feature = "tls")]
            Address::Tls(address) => Some(*address),
        }
    }

    /// Connections that are registered and open.
    pub fn connections(&self) -> usize {
        self.places.total()
    }

    /// Connections that were registered so far.
    pub fn registered(&self) -> u64 {
        self.registered.load(Ordering::Relaxed)
    }

    /// Connections that were turned away so far, for whatever reason. The log says why.
    pub fn refused(&self) -> u64 {
        self.refusals.refused()
    }

    /// Waits for one connection and registers it. Returns the agent's id.
    ///
    /// # Errors
    ///
    /// [`RegistrationRefused`](AgentProtocolError::RegistrationRefused) if it may not come in or does not
    /// register in time, [`Listen`](AgentProtocolError::Listen) if none can be accepted or the listener is
    /// stopped.
    pub async fn accept_one(&self, pool: &AgentPool) -> Result<String, AgentProtocolError> {
        let stopped = || io::Error::other("the listener is stopped");
        let visitor = self
            .accept()
            .await
            .unwrap_or_else(|| Err(stopped()))
            .map_err(|cause| listen_error(&self.address, cause))?;
        let peer = visitor.peer.clone();
        self.admit(visitor, pool)
            .await
            .map_err(|cause| AgentProtocolError::RegistrationRefused {
                peer: peer.to_string(),
                cause,
            })
    }

    /// Takes connections until [`stop`](Self::stop) is called, many at once. The pool lives as long as this does.
    pub async fn accept_loop(self: Arc<Self>, pool: Arc<AgentPool>) {
        let mut doorway = Doorway::new(self.rules.max_unregistered);
        let mut registering = JoinSet::new();
        loop {
            tokio::select! {
                visitor = self.accept() => match visitor {
                    None => return,
                    Some(Ok(visitor)) => {
                        let (listener, pool) = (Arc::clone(&self), Arc::clone(&pool));
                        registering.spawn(listener.receive(visitor, doorway.enter(), pool));
                    }
                    Some(Err(error)) => {
                        tracing::warn!(%error, "could not accept a connection");
                        sleep(ACCEPT_RETRY_DELAY).await;
                    }
                },
                Some(_) = registering.join_next() => {}
            }
        }
    }

    /// Takes no more connections. Those that are registered stay with the pool; those that are about to register are
    /// closed.
    pub fn stop(&self) {
        self.stopped.send_replace(true);
        self.socket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// The next connection; `None` once the listener is stopped.
    async fn accept(&self) -> Option<io::Result<Visitor>> {
        let socket = self
            .socket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()?;
        let mut stopped = self.stopped.subscribe();
        tokio::select! {
            // An error would mean that the sender is gone, which `self` holds.
            _ = stopped.wait_for(|is_stopped| *is_stopped) => None,
            visitor = socket.accept() => Some(visitor),
        }
    }

    async fn receive(self: Arc<Self>, visitor: Visitor, mut visit: Visit, pool: Arc<AgentPool>) {
        let peer = visitor.peer.clone();
        tokio::select! {
            // Either way the log has it.
            _ = self.admit(visitor, &pool) => {}
            () = visit.turned_away() => {
                let reason = RegistrationError::TooManyUnregistered;
                self.refusals.note(&peer, None, &reason);
            }
        }
    }

    /// Registers a connection, or says in the log why not.
    async fn admit(&self, visitor: Visitor, pool: &AgentPool) -> Result<String, RegistrationError> {
        let peer = visitor.peer.clone();
        let mut agent_id = None;
        let patience = self.rules.handshake_timeout;
        let registered = timeout(patience, self.register(visitor, pool, &mut agent_id));
        let registered = registered
            .await
            .unwrap_or_else(|_| Err(ConnectError::TimedOut(patience).into()));
        match registered {
            Ok(agent_id) => Ok(agent_id),
            Err(reason) => {
                self.refusals.note(&peer, agent_id.as_deref(), &reason);
                Err(reason)
            }
        }
    }

    async fn register(
        &self,
        visitor: Visitor,
        pool: &AgentPool,
        agent_id: &mut Option<String>,
    ) -> Result<String, RegistrationError> {
        let peer = visitor.peer.clone();
        if !self.pace.admits(peer.key) {
            return Err(RegistrationError::TooFast);
        }
        self.gatekeeper.check_peer(&peer)?;
        let (mut link, shown) = visitor.meet().await?;
        let mut buffer = FrameBuffer::default();
        let request = receive_registration(&mut link, &mut buffer).await?;
        *agent_id = Some(request.agent_id.clone());
        match self.judge(&request, &peer, &shown, pool) {
            Ok((holder, place)) => {
                self.welcome(request, holder, place, link, buffer, pool)
                    .await
            }
            Err(reason) => {
                let rejection = RegistrationResponse::reject().encode();
                send_message(&*link.sender, MessageType::HandshakeResponse, &rejection).await?;
                Err(reason)
            }
        }
    }

    fn judge(
        &self,
        request: &RegistrationRequest,
        peer: &Peer,
        shown: &Shown,
        pool: &AgentPool,
    ) -> Result<(Holder, Place), RegistrationError> {
        let holder = self
            .gatekeeper
            .admit(request, peer, shown.is_named(&request.agent_id))?;
        pool.inner.check_holder(&request.agent_id, holder)?;
        let place = self.places.take(&request.agent_id)?;
        Ok((holder, place))
    }

    /// Tells the agent that it is registered, and has the pool use the connection.
    async fn welcome(
        &self,
        request: RegistrationRequest,
        holder: Holder,
        place: Place,
        link: Link,
        buffer: FrameBuffer,
        pool: &AgentPool,
    ) -> Result<String, RegistrationError> {
        let config = &pool.inner.config;
        let extension = config.use_extension.then_some(Extension::V1);
        let dialect = request.negotiate(&config.encodings, extension);
        let number = self.registering.fetch_add(1, Ordering::Relaxed);
        let response = RegistrationResponse::accept(
            pool.inner.settings.proxy_id(),
            format!("{}-{number}", request.agent_id),
            dialect,
        );
        send_message(
            &*link.sender,
            MessageType::HandshakeResponse,
            &response.encode(),
        )
        .await?;

        let agent_id = request.agent_id;
        let terms = Terms {
            capabilities: request.capabilities.into(),
            dialect,
            origin: Origin::Reverse,
        };
        let standing = Standing {
            holder,
            grace: self.rules.grace_time,
        };
        let max_known = self.rules.max_connections;
        let (connection, inbound) =
            pool.inner
                .join_reverse(&agent_id, standing, max_known, |record| {
                    let record = Arc::clone(record);
                    let config = config.connection();
                    adopt(record, link, buffer, terms, &config)
                })?;
        tokio::spawn(run_writer(Arc::clone(&connection)));
        tokio::spawn(async move {
            inbound.run().await;
            drop(place);
        });
        pool.start_upkeep();
        tokio::spawn(introduce(Arc::clone(&pool.inner), connection));
        self.registered.fetch_add(1, Ordering::Relaxed);
        tracing::info!(
            agent = agent_id,
            connection = response.connection_id,
            "an agent connected"
        );
        Ok(agent_id)
    }
}

/// Gives the agent its settings, however long that takes after it is registered.
async fn introduce(pool: Arc<Inner>, connection: Arc<Connection>) {
    if let Err(error) = pool.welcome(&connection).await {
        let agent = &*connection.agent().id;
        tracing::warn!(agent, %error, "a connection that an agent made is not used");
    }
}

/// Accepting fails for want of file descriptors, mostly; trying again at once would only burn time.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

async fn receive_registration(
    link: &mut Link,
    buffer: &mut FrameBuffer,
) -> Result<RegistrationRequest, ConnectError> {
    let (message, payload) = receive_handshake(&mut *link.receiver, buffer).await?;
    if message != MessageType::HandshakeRequest as u8 {
        return Err(ConnectError::InvalidHandshake(format!(
            "message type {message:#04x} where the registration should be"
        )));
    }
    Ok(RegistrationRequest::decode(&payload)?)
}

async fn listen_tcp(
    address: impl ToSocketAddrs,
    config: &ReverseConnectionConfig,
    authentication: Authentication,
) -> Result<(TcpListener, SocketAddr), AgentProtocolError> {
    let unknown = |cause| AgentProtocolError::Listen {
        endpoint: "tcp".to_owned(),
        cause,
    };
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(address).await.map_err(unknown)? {
        check(&Address::Tcp(address), config, authentication)?;
        let listening = tcp::listen(address, config.backlog)
            .and_then(|listener| Ok((listener.local_addr()?, listener)));
        match listening {
            Ok((address, listener)) => return Ok((listener, address)),
            Err(error) => failure = error,
        }
    }
    Err(unknown(failure))
}

fn check(
    address: &Address,
    config: &ReverseConnectionConfig,
    authentication: Authentication,
) -> Result<(), AgentProtocolError> {
    match config.fault(authentication) {
        None => Ok(()),
        Some(reason) => Err(AgentProtocolError::InvalidConfiguration {
            endpoint: address.to_string(),
            reason,
        }),
    }
}

fn listen_error(address: &Address, cause: io::Error) -> AgentProtocolError {
    AgentProtocolError::Listen {
        endpoint: address.to_string(),
        cause,
    }
}
