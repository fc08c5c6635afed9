//! One connection to a proxy that is dialed: connecting, registering, serving and reconnecting.

use super::super::server::sessions::Sessions;
use super::super::session::{SessionParts, serve};
use super::super::session_error::SessionError;
use super::super::session_handle::{Notice, SessionHandle};
use super::DialSettings;
use super::retry::RetryDelays;
use crate::clock;
use crate::connection::link::Link;
use crate::connection::{Offered, Origin, Side};
use crate::error::{BindError, ConnectError, InvalidEndpoint};
use crate::handler::AgentHandler;
use crate::log::{NO_PEER, log_line};
use crate::protocol::{HealthState, HealthStatus};
#[cfg(feature = "tls")]
use crate::transport::tls;
use crate::transport::{self, Endpoint, Peer};
use crate::wire::{
    Dialect, FrameBuffer, MessageType, NotOffered, RegistrationRequest, RegistrationResponse,
};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout, timeout_at};

/// A connection that lasts less than this counts as a failed attempt for the retry delay.
const MIN_USEFUL_LIFETIME: Duration = Duration::from_secs(10);

/// Time limit for telling a proxy that the agent drains, and for a registration that is under way
/// when the server stops.
const DRAIN_ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(1);

/// Silence on a connection after which no caller is expected to still be sending a new exchange on
/// it.
const DRAIN_SILENCE: Duration = Duration::from_millis(100);

/// One of the connections that a server keeps open to a proxy that it dials.
pub(super) struct DialedConnection<H> {
    pub(super) sessions: Arc<Sessions<H>>,
    pub(super) target: Arc<Target>,
    pub(super) settings: Arc<DialSettings>,
    pub(super) stopping: watch::Receiver<bool>,
}

/// A proxy to connect to.
#[derive(Debug)]
pub(super) enum Target {
    Plain(Endpoint),
    #[cfg(feature = "tls")]
    Tls {
        host: String,
        port: u16,
        connector: tls::Connector,
    },
}

/// Source of the token that the agent registers with.
#[derive(Clone)]
pub(in crate::agent) enum Token {
    None,
    Fixed(String),
    /// A file that holds the token.
    File {
        path: Arc<Path>,
        /// Held while the file is read. Clones share this limit of one read at a time.
        permit: Arc<Semaphore>,
    },
}

/// A connection whose registration the proxy has accepted.
struct Registered {
    agent_id: String,
    proxy_id: String,
    connection_id: String,
    link: Link,
    buffer: FrameBuffer,
    dialect: Dialect,
}

impl<H: AgentHandler> DialedConnection<H> {
    /// Connects, serves the connection and reconnects, until the server stops.
    pub(super) async fn run(mut self) {
        let mut retry = RetryDelays::default();
        let mut stopping = self.stopping.clone();
        loop {
            let delay = retry.delay(self.settings.reconnect_interval);
            let Some(dialed) = self.dial(delay, &mut stopping).await else {
                return;
            };
            match dialed {
                Ok(registered) => {
                    let was_useful = self.serve(registered).await;
                    retry.record_loss(was_useful);
                }
                Err(cause) => self.log(retry.record_failure(&cause), &cause),
            }
            if *self.stopping.borrow() {
                return;
            }
        }
    }

    /// Connects and registers. Returns `None` if the server stops first.
    ///
    /// A registration that is under way when the server stops gets [`DRAIN_ANNOUNCE_TIMEOUT`] to
    /// finish: the proxy uses the connection as soon as it has sent its response, so it has to be
    /// told that the agent drains.
    async fn dial(
        &self,
        delay: Duration,
        stopping: &mut watch::Receiver<bool>,
    ) -> Option<Result<Registered, ConnectError>> {
        let connect_timeout = self.settings.connect_timeout;
        let end = tokio::time::Instant::now() + delay + connect_timeout;
        let connected = tokio::select! {
            biased;
            () = stopped(stopping) => return None,
            connected = async {
                sleep(delay).await;
                timeout_at(end, self.target.connect()).await
            } => connected,
        };
        let link = match connected {
            Ok(Ok(link)) => link,
            Ok(Err(cause)) => return Some(Err(cause)),
            Err(_) => return Some(Err(ConnectError::TimedOut(connect_timeout))),
        };
        tokio::select! {
            biased;
            registered = timeout_at(end, self.register(link)) => {
                Some(registered.unwrap_or(Err(ConnectError::TimedOut(connect_timeout))))
            }
            () = async {
                stopped(stopping).await;
                sleep(DRAIN_ANNOUNCE_TIMEOUT).await;
            } => None,
        }
    }

    async fn register(&self, mut link: Link) -> Result<Registered, ConnectError> {
        let capabilities = self.sessions.handler.capabilities();
        let settings = &self.settings;
        let agent_id = settings.agent_id.as_ref().unwrap_or(&capabilities.agent_id);
        let token = settings.token.read().await?;
        let encodings = &self.sessions.limits.encodings;
        let offered = link.offer_shared_memory(self.sessions.limits.shared_memory);
        let mut request =
            RegistrationRequest::new(agent_id, &capabilities, token.as_deref(), encodings);
        request.tollgate.set_shared_memory(Offered::offer(&offered));
        link.send_handshake(MessageType::HandshakeRequest, &request.encode())
            .await?;

        let mut buffer = FrameBuffer::default();
        let (expected, name) = (
            MessageType::HandshakeResponse,
            "the response to the registration",
        );
        let payload = link.receive_handshake(&mut buffer, expected, name).await?;
        let response = RegistrationResponse::decode(&payload)?;
        if !response.success {
            let reason = response
                .error
                .unwrap_or_else(|| "no reason given".to_owned());
            return Err(ConnectError::HandshakeRefused(reason));
        }
        let dialect = response.dialect(encodings).map_err(|what| match what {
            NotOffered::Encoding => ConnectError::EncodingNotOffered,
            NotOffered::Extension => ConnectError::ExtensionNotOffered,
        })?;
        let (peer, memory) = (
            response.tollgate.shared_memory(),
            self.sessions.control.memory(),
        );
        let upgraded = link.upgrade(offered, peer, &mut buffer, Side::Agent, memory);
        upgraded.await?;
        Ok(Registered {
            agent_id: agent_id.clone(),
            proxy_id: response.proxy_id,
            connection_id: response.connection_id,
            link,
            buffer,
            dialect,
        })
    }

    /// Serves a connection until it ends. Returns whether it lasted at least
    /// [`MIN_USEFUL_LIFETIME`].
    async fn serve(&mut self, registered: Registered) -> bool {
        let began = clock::now();
        let proxy = &self.target;
        let connection = &*registered.connection_id;
        let peer = &*proxy.to_string();
        log_line!(info, peer, { proxy, connection }, "connected to the proxy");
        let control = &self.sessions.control;
        let handle = control.register(Origin::Reverse, Peer::named(peer));
        let answers_pings = registered.dialect.has_streams();
        if answers_pings {
            handle.set_proxy_id(registered.proxy_id);
        }
        let parts = SessionParts {
            handler: Arc::clone(&self.sessions.handler),
            link: registered.link,
            buffer: registered.buffer,
            dialect: registered.dialect,
            handle: Arc::clone(&handle),
            memory: handle.open_account(),
            max_concurrent: self.sessions.limits.max_concurrent,
            frame_timeout: self.sessions.limits.frame_timeout,
        };
        // A separate task, so that a panicking handler ends this connection but not the
        // reconnecting.
        let mut session = JoinSet::new();
        session.spawn(serve(parts));
        let settings = Arc::clone(&self.settings);
        tokio::select! {
            biased;
            ended = session.join_next() => log_end(proxy, connection, ended),
            () = keepalive_expired(&handle, &settings), if answers_pings => {
                log_line!(warn, peer, { proxy, connection }, "the proxy does not answer pings");
            }
            () = stopped(&mut self.stopping) => {
                if answers_pings {
                    announce_drain(&handle, &registered.agent_id).await;
                }
                handle.drain();
                log_end(proxy, connection, session.join_next().await);
            }
        }
        clock::elapsed(began) >= MIN_USEFUL_LIFETIME
    }

    /// Logs the 1st, 2nd, 4th, 8th … failure in a row, so that an absent proxy does not flood the
    /// log.
    fn log(&self, failures: u32, cause: &ConnectError) {
        let proxy = &*self.target.to_string();
        if failures.is_power_of_two() {
            log_line!(
                warn,
                proxy,
                { proxy }(failures),
                "cannot connect to a proxy: {cause}"
            );
        }
    }
}

impl Target {
    async fn connect(&self) -> Result<Link, ConnectError> {
        match self {
            Self::Plain(Endpoint::Unix(path)) => transport::connect_to_proxy(path).await,
            Self::Plain(endpoint) => {
                transport::connect(endpoint, &transport::LinkConfig::default()).await
            }
            #[cfg(feature = "tls")]
            Self::Tls {
                host,
                port,
                connector,
            } => connector.connect(host, *port).await,
        }
    }

    /// Parses an endpoint, which may also be `tls://host:port`.
    #[cfg_attr(
        not(feature = "tls"),
        allow(unused_variables, reason = "only TLS has settings")
    )]
    pub(super) fn parse(endpoint: &str, settings: &DialSettings) -> Result<Self, BindError> {
        let invalid = |reason| InvalidEndpoint::new(endpoint, reason);
        if let Some(address) = endpoint.strip_prefix("tls://") {
            #[cfg(not(feature = "tls"))]
            return Err(invalid("built without `tls`").into());
            #[cfg(feature = "tls")]
            {
                let Some(Endpoint::Tcp { host, port }) = Endpoint::from_address(address) else {
                    return Err(invalid("expected tls://host:port").into());
                };
                let connector = settings.tls.connector()?;
                return Ok(Self::Tls {
                    host,
                    port,
                    connector,
                });
            }
        }
        match endpoint.parse()? {
            // In gRPC the connecting side is the client, but agents are gRPC servers.
            #[cfg(feature = "grpc")]
            Endpoint::Grpc(_) => Err(invalid(
                "agents cannot dial over gRPC; expected /path, tcp:// or tls://",
            )
            .into()),
            endpoint => Ok(Self::Plain(endpoint)),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(endpoint) => endpoint.fmt(f),
            #[cfg(feature = "tls")]
            Self::Tls { host, port, .. } => write!(f, "tls://{host}:{port}"),
        }
    }
}

impl Token {
    pub(in crate::agent) fn from_file(path: PathBuf) -> Self {
        Self::File {
            path: path.into(),
            permit: Arc::new(Semaphore::new(1)),
        }
    }

    async fn read(&self) -> Result<Option<String>, ConnectError> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(token) => Ok(Some(token.clone())),
            Self::File { path, permit } => {
                let token = read_file(path, permit).await.map_err(ConnectError::Token)?;
                Ok(Some(token.trim().to_owned()))
            }
        }
    }
}

/// Reads a file on a thread for blocking tasks, as it may be on a network file system.
///
/// A read that hangs outlives the registration that began it. The permit, which moves to the
/// blocking task, keeps further registrations from occupying more threads.
async fn read_file(path: &Arc<Path>, permit: &Arc<Semaphore>) -> io::Result<String> {
    let permit = Arc::clone(permit).acquire_owned().await;
    let permit = permit.map_err(io::Error::other)?;
    let path = Arc::clone(path);
    let reading = spawn_blocking(move || {
        let text = read_secret(&path);
        drop(permit);
        text
    });
    reading.await.map_err(io::Error::other)?
}

/// Reads a file that only its owner and group should be able to read. Logs if others can.
fn read_secret(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o006 != 0 {
        let (file, mode) = (path.display(), format_args!("{mode:04o}"));
        log_line!(
            warn, NO_PEER, { file, mode },
            "all users may read or change the token file; remove their permissions (`chmod o=`)"
        );
    }
    let mut secret = String::new();
    file.read_to_string(&mut secret)?;
    Ok(secret)
}

/// Leaves out the token.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Fixed(_) => f.write_str("Fixed"),
            Self::File { path, .. } => f.debug_tuple("File").field(path).finish(),
        }
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the server was dropped, which stops the connection as well.
    let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
}

/// Completes when the proxy has answered no ping and sent nothing else for a keepalive interval and
/// timeout.
async fn keepalive_expired(handle: &SessionHandle, settings: &DialSettings) {
    for sequence in 0.. {
        sleep(settings.keepalive_interval).await;
        if handle.take_received() {
            continue;
        }
        // The result does not matter: if the queue is full because the proxy does not read, the
        // check below reports it.
        handle.notify(Notice::Ping(sequence));
        sleep(settings.keepalive_timeout).await;
        if !handle.take_received() {
            return;
        }
    }
}

/// Announces draining, so that the proxy sends no new exchanges on the connection.
///
/// The pong proves that all exchanges sent before it have arrived. Callers that chose the
/// connection earlier may still send after the pong; the loop waits until nothing has been received
/// for [`DRAIN_SILENCE`].
async fn announce_drain(handle: &SessionHandle, agent_id: &str) {
    let leaving = HealthStatus::new(agent_id, HealthState::Draining { eta_ms: None });
    handle.notify(Notice::Health(Arc::new(leaving)));
    handle.notify(Notice::Ping(u64::MAX));
    // A proxy that does not answer in time is not waited for any longer.
    let _ = timeout(DRAIN_ANNOUNCE_TIMEOUT, async {
        handle.pong_received().await;
        loop {
            handle.take_received();
            sleep(DRAIN_SILENCE).await;
            if !handle.take_received() {
                return;
            }
        }
    })
    .await;
}

fn log_end(
    proxy: &Target,
    connection: &str,
    ended: Option<Result<Result<(), SessionError>, tokio::task::JoinError>>,
) {
    let peer = &*proxy.to_string();
    match ended {
        Some(Ok(Err(error))) => {
            log_line!(warn, peer, { proxy, connection, error }, "the connection to the proxy failed");
        }
        Some(Err(error)) => {
            log_line!(error, peer, { proxy, connection, error }, "connection closed: a handler panicked");
        }
        _ => log_line!(info, peer, { proxy, connection }, "the connection to the proxy ended"),
    }
}
