use super::attempts::Attempts;
use super::control::{AgentControl, Mailbox, Notice};
use super::dialer::DialSettings;
use super::handler::AgentHandler;
use super::session::{SessionParts, serve};
use super::session_error::SessionError;
use crate::connection::link::Link;
use crate::connection::{receive_handshake, send_message};
use crate::error::{AgentProtocolError, ConnectError};
use crate::protocol::{HealthState, HealthStatus};
#[cfg(feature = "tls")]
use crate::transport::tls;
use crate::transport::{self, Endpoint};
use crate::wire::{
    Dialect, FrameBuffer, MessageType, NotOffered, RegistrationRequest, RegistrationResponse,
};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};

/// A connection that ended sooner was in vain.
const PROOF: Duration = Duration::from_secs(10);

/// How long a proxy may take to notice that the agent is about to leave.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(1);

/// How long nothing may come from a proxy until no caller is taken to be about to send.
const FAREWELL_SILENCE: Duration = Duration::from_millis(100);

/// One of the connections that a dialer keeps.
pub(super) struct Line<H> {
    pub(super) handler: Arc<H>,
    pub(super) control: AgentControl,
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

/// What the agent shows that it may come in.
#[derive(Clone)]
pub(super) enum Token {
    None,
    Fixed(String),
    File(PathBuf),
}

/// A connection that a proxy has registered.
struct Registered {
    agent_id: String,
    proxy_id: String,
    connection_id: String,
    link: Link,
    buffer: FrameBuffer,
    dialect: Dialect,
}

impl<H: AgentHandler> Line<H> {
    /// Keeps the connection up until the dialer stops.
    pub(super) async fn keep(mut self) {
        let mut attempts = Attempts::default();
        let mut stopping = self.stopping.clone();
        loop {
            let pause = attempts.pause(self.settings.reconnect_interval);
            let Some(dialled) = self.dial(pause, &mut stopping).await else {
                return;
            };
            match dialled {
                Ok(registered) => {
                    let was_of_use = self.serve(registered).await;
                    attempts.lost(was_of_use);
                }
                Err(cause) => self.log(attempts.failed(&cause), &cause),
            }
            if *self.stopping.borrow() {
                return;
            }
        }
    }

    /// Connects and registers, unless the dialer stops before. A registration that has begun gets a moment to come to
    /// its end even so: the proxy counts on the connection as soon as it has answered, and has to be told.
    async fn dial(
        &self,
        pause: Duration,
        stopping: &mut watch::Receiver<bool>,
    ) -> Option<Result<Registered, ConnectError>> {
        let patience = self.settings.connect_timeout;
        let end = tokio::time::Instant::now() + pause + patience;
        let connected = tokio::select! {
            () = stopped(stopping) => return None,
            connected = async {
                sleep(pause).await;
                timeout_at(end, self.target.connect()).await
            } => connected,
        };
        let link = match connected {
            Ok(Ok(link)) => link,
            Ok(Err(cause)) => return Some(Err(cause)),
            Err(_) => return Some(Err(ConnectError::TimedOut(patience))),
        };
        tokio::select! {
            registered = timeout_at(end, self.register(link)) => {
                Some(registered.unwrap_or(Err(ConnectError::TimedOut(patience))))
            }
            () = async {
                stopped(stopping).await;
                sleep(FAREWELL_PATIENCE).await;
            } => None,
        }
    }

    async fn register(&self, mut link: Link) -> Result<Registered, ConnectError> {
        let capabilities = self.handler.capabilities();
        let settings = &self.settings;
        let agent_id = settings.agent_id.as_ref().unwrap_or(&capabilities.agent_id);
        let token = settings.token.read()?;
        let encodings = &settings.encodings;
        let request =
            RegistrationRequest::new(agent_id, &capabilities, token.as_deref(), encodings);
        send_message(
            &*link.sender,
            MessageType::HandshakeRequest,
            &request.encode(),
        )
        .await?;

        let mut buffer = FrameBuffer::default();
        let (message, payload) = receive_handshake(&mut *link.receiver, &mut buffer).await?;
        if message != MessageType::HandshakeResponse as u8 {
            return Err(ConnectError::InvalidHandshake(format!(
                "message type {message:#04x} where the answer to the registration should be"
            )));
        }
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
        Ok(Registered {
            agent_id: agent_id.clone(),
            proxy_id: response.proxy_id,
            connection_id: response.connection_id,
            link,
            buffer,
            dialect,
        })
    }

    /// Serves a connection until it ends. Says whether it was of use.
    async fn serve(&mut self, registered: Registered) -> bool {
        let began = Instant::now();
        let proxy = &self.target;
        let connection = &*registered.connection_id;
        tracing::info!(%proxy, connection, "connected to a proxy");
        let mailbox = self.control.join();
        let answers_pings = registered.dialect.has_streams();
        if answers_pings {
            mailbox.belongs_to(registered.proxy_id);
        }
        let parts = SessionParts {
            handler: Arc::clone(&self.handler),
            link: registered.link,
            buffer: registered.buffer,
            dialect: registered.dialect,
            mailbox: Arc::clone(&mailbox),
            max_concurrent: self.settings.max_concurrent,
        };
        // A task of its own, so that a handler that panics ends this connection and not the line.
        let mut session = JoinSet::new();
        session.spawn(serve(parts));
        let settings = Arc::clone(&self.settings);
        tokio::select! {
            ended = session.join_next() => log_end(proxy, connection, ended),
            () = silence(&mailbox, &settings), if answers_pings => {
                tracing::warn!(%proxy, connection, "no sign of life from a proxy");
            }
            () = stopped(&mut self.stopping) => {
                if answers_pings {
                    say_farewell(&mailbox, &registered.agent_id).await;
                }
                mailbox.drain();
                log_end(proxy, connection, session.join_next().await);
            }
        }
        began.elapsed() >= PROOF
    }

    /// Says so at the 1st, 2nd, 4th, 8th … time in a row.
    fn log(&self, failures: u32, cause: &ConnectError) {
        if failures.is_power_of_two() {
            tracing::warn!(proxy = %self.target, failures, "cannot connect to a proxy: {cause}");
        }
    }
}

impl Target {
    async fn connect(&self) -> Result<Link, ConnectError> {
        match self {
            Self::Plain(Endpoint::Unix(path)) => transport::connect_agent(path).await,
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

    /// Reads an endpoint; `tls://host:port` is one too.
    #[cfg(feature = "tls")]
    pub(super) fn with_tls(
        endpoint: &str,
        config: &tls::TlsConfig,
    ) -> Result<Self, AgentProtocolError> {
        let Some(address) = endpoint.strip_prefix("tls://") else {
            return endpoint.parse();
        };
        let Some(Endpoint::Tcp { host, port }) = Endpoint::from_address(address) else {
            return Err(AgentProtocolError::InvalidEndpoint {
                endpoint: endpoint.to_owned(),
                reason: "expected tls://host:port",
            });
        };
        let connector = config.connector()?;
        Ok(Self::Tls {
            host,
            port,
            connector,
        })
    }
}

impl FromStr for Target {
    type Err = AgentProtocolError;

    fn from_str(endpoint: &str) -> Result<Self, Self::Err> {
        match endpoint.parse()? {
            // The side that connects is the client there, and agents are servers.
            #[cfg(feature = "grpc")]
            Endpoint::Grpc(_) => Err(AgentProtocolError::InvalidEndpoint {
                endpoint: endpoint.to_owned(),
                reason: "agents do not connect to proxies over gRPC",
            }),
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
    fn read(&self) -> Result<Option<String>, ConnectError> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(token) => Ok(Some(token.clone())),
            Self::File(path) => {
                let token = std::fs::read_to_string(path).map_err(ConnectError::Token)?;
                Ok(Some(token.trim().to_owned()))
            }
        }
    }
}

/// Without the token.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Fixed(_) => f.write_str("Fixed"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the dialer is gone, which stops it as well.
    let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
}

/// Completes when the proxy gives no sign of life.
async fn silence(mailbox: &Mailbox, settings: &DialSettings) {
    for sequence in 0.. {
        sleep(settings.keepalive_interval).await;
        if mailbox.has_heard() {
            continue;
        }
        // A mailbox that is full shows as well that the proxy takes nothing.
        mailbox.tell(Notice::Ping(sequence));
        sleep(settings.keepalive_timeout).await;
        if !mailbox.has_heard() {
            return;
        }
    }
}

/// Has the proxy send no new exchanges. Once it has answered the ping, those that it sent before are here; callers that
/// had chosen the connection then and send behind the answer are waited for until nothing comes for a while.
async fn say_farewell(mailbox: &Mailbox, agent_id: &str) {
    let leaving = HealthStatus::new(agent_id, HealthState::Draining { eta_ms: None });
    mailbox.tell(Notice::Health(Arc::new(leaving)));
    mailbox.tell(Notice::Ping(u64::MAX));
    // One that does not answer in time gets no more of it.
    let _ = timeout(FAREWELL_PATIENCE, async {
        mailbox.pong().await;
        loop {
            mailbox.has_heard();
            sleep(FAREWELL_SILENCE).await;
            if !mailbox.has_heard() {
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
    match ended {
        Some(Ok(Err(error))) => {
            tracing::warn!(%proxy, connection, %error, "the connection to a proxy ended");
        }
        Some(Err(error)) => {
            tracing::error!(%proxy, connection, %error, "a handler panicked");
        }
        _ => tracing::info!(%proxy, connection, "the connection to a proxy ended"),
    }
}
