//! Recorded sessions between the library's own two sides, which inputs start from.

use crate::agent::{Calls, Marks, config, send_notices};
use crate::run::{Checked, eventually, in_virtual_time};
use crate::stream::{connect_unix, socket_path, text};
use crate::units::{Framing, Recorded, Unit, split};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split as halves};
use tokio::net::UnixListener;
use tokio::time::sleep;
use tollgate::{
    AgentConfig, AgentControl, AgentPool, AgentServer, Encoding, ReverseConnectionConfig,
    ReverseConnectionListener,
    control::{ConfigUpdateType, DrainReason},
};

/// Longest time until the recorded connection is open.
const OPENING: Duration = Duration::from_secs(5);

/// Messages that both sides of one connection sent.
#[derive(Debug)]
pub struct Session {
    from_proxy: Vec<Unit>,
    from_agent: Vec<Unit>,
    /// `true` if only the extension's stream ids name the calls of answers.
    pub has_streams: bool,
}

/// One side of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Proxy,
    Agent,
}

impl Session {
    /// Returns what one side sent.
    pub fn units(&self, side: Side) -> &[Unit] {
        match side {
            Side::Proxy => &self.from_proxy,
            Side::Agent => &self.from_agent,
        }
    }
}

type Log = Arc<Mutex<Vec<(Side, Vec<u8>)>>>;

/// Records all sessions, as that cannot be done while an input runs.
pub fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        forward(Framing::Frames);
        forward(Framing::Http2);
        reverse();
    });
}

/// Sessions of forward connections.
pub fn forward(framing: Framing) -> &'static [Session] {
    static FRAMES: OnceLock<Vec<Session>> = OnceLock::new();
    static HTTP2: OnceLock<Vec<Session>> = OnceLock::new();
    let (sessions, encodings): (_, &[Encoding]) = match framing {
        Framing::Frames => (&FRAMES, &[Encoding::MessagePack, Encoding::Json]),
        Framing::Http2 => (&HTTP2, &[Encoding::Protobuf]),
    };
    sessions.get_or_init(|| {
        let variants = encodings
            .iter()
            .flat_map(|&one| [(one, true), (one, false)]);
        variants
            .map(|(encoding, has_streams)| {
                let recorded = in_virtual_time(record_forward(framing, encoding, has_streams));
                session(&recorded.expect("a session"), framing, has_streams)
            })
            .collect()
    })
}

/// Sessions of reverse connections.
pub fn reverse() -> &'static [Session] {
    static SESSIONS: OnceLock<Vec<Session>> = OnceLock::new();
    SESSIONS.get_or_init(|| {
        let variants = [
            (Encoding::MessagePack, true),
            (Encoding::Json, true),
            (Encoding::Json, false),
        ];
        variants
            .map(|(encoding, has_streams)| {
                let recorded = in_virtual_time(record_reverse(encoding, has_streams));
                session(&recorded.expect("a session"), Framing::Frames, has_streams)
            })
            .into()
    })
}

fn session(log: &[(Side, Vec<u8>)], framing: Framing, has_streams: bool) -> Session {
    let side = |side| split(&from(log, side), framing);
    Session {
        from_proxy: side(Side::Proxy),
        from_agent: side(Side::Agent),
        has_streams,
    }
}

/// Returns what one side sent.
fn from(log: &[(Side, Vec<u8>)], side: Side) -> Vec<Recorded> {
    let mut received = 0;
    let mut pieces = Vec::new();
    for (sender, bytes) in log {
        if *sender == side {
            pieces.push(Recorded {
                after: received,
                bytes: bytes.clone(),
            });
        } else {
            received += bytes.len();
        }
    }
    pieces
}

async fn record_forward(
    framing: Framing,
    encoding: Encoding,
    use_extension: bool,
) -> Checked<Vec<(Side, Vec<u8>)>> {
    let (server, relay) = (socket_path("server"), socket_path("relay"));
    let scheme = match framing {
        Framing::Frames => "unix:",
        Framing::Http2 => "grpc+unix://",
    };
    let relay_endpoint = format!("{scheme}{}", relay.display());
    let listen = format!("{scheme}{}", server.display());
    let bound = AgentServer::builder(Marks).listen(listen).bind().await;
    let bound = bound.expect("a free path");
    let control = bound.control();
    tokio::spawn(bound.serve());
    let log = record(relay, server, Side::Proxy);
    let pool = pool(encoding, use_extension);
    let settings = serde_json::json!({"mode": "strict", "limits": [1, 2.5, null]});
    let version = Some("1".to_owned());
    let agent = AgentConfig::new("agent", relay_endpoint).settings(settings, version);
    pool.add(agent).await.expect("the agent is reachable");
    converse(&pool, &control).await?;
    Ok(take(&log))
}

async fn record_reverse(encoding: Encoding, use_extension: bool) -> Checked<Vec<(Side, Vec<u8>)>> {
    let (proxy, relay) = (socket_path("proxy"), socket_path("relay"));
    let bound = ReverseConnectionListener::bind_uds(&proxy, ReverseConnectionConfig::default());
    let listener = Arc::new(bound.await.expect("a free path"));
    let pool = Arc::new(pool(encoding, use_extension));
    tokio::spawn(listener.accept_loop(Arc::clone(&pool)));
    let log = record(relay.clone(), proxy, Side::Agent);
    let dialer = AgentServer::builder(Marks)
        .dial(relay.display().to_string())
        .encodings(vec![encoding])
        .dial_connections(1);
    let control = dialer.control();
    tokio::spawn(dialer.serve());
    converse(&pool, &control).await?;
    Ok(take(&log))
}

fn pool(encoding: Encoding, use_extension: bool) -> AgentPool {
    AgentPool::with_config(
        config()
            .encodings(vec![encoding])
            .use_extension(use_extension),
    )
}

/// Makes the two sides send all kinds of messages.
async fn converse(pool: &AgentPool, control: &AgentControl) -> Checked {
    eventually("the connection is open", OPENING, async || {
        control.connections() == 1 && pool.agent("agent").is_some_and(|agent| agent.is_healthy())
    })
    .await?;
    let agent = pool.agent("agent").expect("the agent is connected");
    send_notices(control).await;
    let calls = Calls {
        pool,
        agent: &agent,
        check: &|id, mark| match mark {
            Some(mark) if mark == id => Ok(()),
            other => Err(format!("{id} has the mark {other:?}")),
        },
    };
    calls.make().await?;
    let update = ConfigUpdateType::RequestReload;
    let pushed = agent.push_config(update);
    // Agents without the extension accept no updates, and cannot be asked to drain.
    assert_eq!(pushed.is_some(), agent.uses_extension() == Some(true));
    let drained = agent
        .request_drain(Duration::from_millis(1000), DrainReason::Maintenance)
        .await;
    drained.map_err(text)?;
    // Until all of it has passed the relay.
    sleep(Duration::from_millis(20)).await;
    Ok(())
}

fn take(log: &Log) -> Vec<(Side, Vec<u8>)> {
    std::mem::take(&mut log.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Passes one connection on, and records it. `client` is the side that connects.
fn record(from: PathBuf, to: PathBuf, client: Side) -> Log {
    let listener = UnixListener::bind(from).expect("a free path");
    let log = Log::default();
    let recorded = Arc::clone(&log);
    tokio::spawn(async move {
        let (accepted, _) = listener.accept().await.expect("a free descriptor");
        let connected = connect_unix(&to).await.expect("a server");
        let (client_reader, client_writer) = halves(accepted);
        let (server_reader, server_writer) = halves(connected.stream);
        let server = if client == Side::Proxy {
            Side::Agent
        } else {
            Side::Proxy
        };
        tokio::join!(
            pass_on(client_reader, server_writer, client, &recorded),
            pass_on(server_reader, client_writer, server, &recorded),
        );
    });
    log
}

async fn pass_on(
    mut reader: impl AsyncReadExt + Unpin,
    mut writer: impl AsyncWriteExt + Unpin,
    side: Side,
    log: &Log,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = reader.read(&mut buffer).await {
        let bytes = buffer[..count].to_vec();
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((side, bytes));
        if writer.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
