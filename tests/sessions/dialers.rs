//! Misbehaving proxies that an agent dials.

use crate::agent::{Marks, config};
use crate::input::Script;
use crate::recording::{self, Side};
use crate::run::{Checked, eventually, no_task_is_left};
use crate::stream::{Carrier, PeerListener, client_tls, socket_path, text};
use crate::units::Framing;
use crate::world::{Peers, SOON, close, while_asking};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tollgate::{AgentPool, AgentServer, ReverseConnectionConfig, ReverseConnectionListener};

/// Time after which a dialer has connected to each proxy, whatever the proxies did before.
const MAX_TIME: Duration = Duration::from_secs(20);

pub async fn run(carrier: Carrier, scripts: Vec<Script>) -> Checked {
    let peers = Peers::new(scripts, recording::reverse(), Side::Proxy);
    let (bad, bad_endpoint) = PeerListener::listen(carrier, Framing::Frames, "bad").await;
    let serving = tokio::spawn(Arc::clone(&peers).serve(bad, Framing::Frames));
    let path = socket_path("proxy");
    let bound = ReverseConnectionListener::bind_uds(&path, ReverseConnectionConfig::default());
    let listener = Arc::new(bound.await.map_err(text)?);
    let pool = Arc::new(AgentPool::with_config(config()));
    let accepting = tokio::spawn(Arc::clone(&listener).accept_loop(Arc::clone(&pool)));
    let dialer = AgentServer::builder(Marks)
        .dial(path.display().to_string())
        .dial(bad_endpoint)
        .dial_tls(client_tls())
        .dial_connections(1)
        .connect_timeout(Duration::from_millis(400))
        .reconnect_interval(Duration::from_millis(20))
        .keepalive(Duration::from_millis(300), Duration::from_millis(300))
        .drain_timeout(Duration::from_millis(200));
    let (stop, stopped) = oneshot::channel::<()>();
    let dialing = tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        dialer.serve_until(stopped).await.expect("valid endpoints");
    });
    eventually("the agent registers", SOON, async || {
        pool.agent("agent").is_some_and(|agent| agent.is_healthy())
    })
    .await?;
    let agent = pool.agent("agent").expect("it has registered");
    let playing = eventually("the agent dials each proxy", MAX_TIME, async || {
        peers.are_done()
    });
    while_asking(&pool, &agent, playing).await?;
    peers.check_answers()?;
    drop(stop);
    let dialed = timeout(SOON, dialing).await;
    dialed
        .map_err(|_| "the dialer does not end".to_owned())?
        .map_err(text)?;
    serving.abort();
    // It was aborted.
    let _ = serving.await;
    listener.stop();
    let accepted = timeout(SOON, accepting).await;
    accepted
        .map_err(|_| "the listener does not end".to_owned())?
        .map_err(text)?;
    drop(listener);
    close(&pool).await?;
    drop(pool);
    no_task_is_left().await
}
