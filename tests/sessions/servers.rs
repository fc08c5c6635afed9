//! Misbehaving proxies, against an agent's server.

use crate::agent::{Marks, config};
use crate::input::Script;
use crate::recording::{self, Side};
use crate::run::{Checked, eventually, no_task_is_left};
use crate::stream::{
    Carrier, PeerStream, connect_tls, connect_unix, server_tls, socket_path, text,
};
use crate::units::Framing;
use crate::world::{Peers, SOON, close, while_asking};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tollgate::{AgentConfig, AgentControl, AgentPool, AgentServer};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_millis(400);

const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

struct Server {
    address: Address,
    endpoint: String,
    control: AgentControl,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

pub async fn run(carrier: Carrier, framing: Framing, scripts: Vec<Script>) -> Checked {
    let sessions = recording::forward(framing);
    let peers = Peers::new(scripts, sessions, Side::Proxy);
    let server = serve(carrier, framing).await?;
    let pool = AgentPool::with_config(config());
    let agent = AgentConfig::new("agent", server.endpoint.clone());
    let agent = pool.add(agent).await.map_err(text)?;
    for (number, script) in peers.scripts.iter().enumerate() {
        let playing = async {
            let stream = connect(&server.address, framing, script).await?;
            peers.play(number, stream, framing).await
        };
        while_asking(&pool, &agent, playing).await?;
        eventually("the session ends", SOON, async || {
            server.control.connections() == 1
        })
        .await
        .map_err(|error| format!("{error}: {}", server.control.connections()))?;
    }
    peers.check_answers()?;
    close(&pool).await?;
    drop(pool);
    drop(server.stop);
    let served = timeout(SOON, server.served).await;
    served
        .map_err(|_| "the server does not end".to_owned())?
        .map_err(text)?;
    drop(server.control);
    no_task_is_left().await
}

async fn serve(carrier: Carrier, framing: Framing) -> Checked<Server> {
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let path = socket_path("server");
    let listen = match (framing, carrier) {
        (Framing::Frames, _) => path.display().to_string(),
        (_, Carrier::Unix) => format!("grpc+unix://{}", path.display()),
        (_, Carrier::Tls) => "grpcs://127.0.0.1:0".to_owned(),
    };
    let mut server = AgentServer::builder(Marks)
        .listen(&listen)
        .handshake_timeout(HANDSHAKE_TIMEOUT)
        .drain_timeout(DRAIN_TIMEOUT);
    if listen.starts_with("grpcs") {
        server = server.tls(server_tls());
    }
    let bound = server.bind().await.map_err(text)?;
    let (control, endpoint) = (bound.control(), bound.endpoints().remove(0));
    let address = match endpoint.strip_prefix("grpcs://") {
        Some(address) => Address::Tcp(address.parse().map_err(text)?),
        None => Address::Unix(path),
    };
    let served = async move { bound.serve_until(stopped).await.expect("a listener") };
    Ok(Server {
        address,
        endpoint,
        control,
        stop,
        served: tokio::spawn(served),
    })
}

async fn connect(
    address: &Address,
    framing: Framing,
    script: &Script,
) -> Checked<Option<PeerStream>> {
    match address {
        Address::Unix(path) => connect_unix(path).await.map(Some),
        Address::Tcp(address) => connect_tls(*address, framing, script.tls_edit).await,
    }
}
