//! Misbehaving agents that dial a proxy.

use crate::agent::config;
use crate::input::Script;
use crate::recording::{self, Side};
use crate::run::{Checked, eventually, no_task_is_left};
use crate::stream::{Carrier, connect_tls, connect_unix, server_tls, socket_path, text};
use crate::units::Framing;
use crate::world::{Good, Peers, SOON, while_asking};
use std::sync::Arc;
use std::time::Duration;
use tollgate::{ReverseConnectionConfig, ReverseConnectionListener};

pub async fn run(carrier: Carrier, scripts: Vec<Script>) -> Checked {
    let peers = Peers::new(scripts, recording::reverse(), Side::Agent);
    let listening = ReverseConnectionConfig::default()
        .require_auth(false)
        .handshake_timeout(Duration::from_millis(400))
        .grace_time(Duration::from_millis(300));
    let path = socket_path("proxy");
    let bound = match carrier {
        Carrier::Unix => ReverseConnectionListener::bind_uds(&path, listening).await,
        Carrier::Tls => {
            ReverseConnectionListener::bind_tls("127.0.0.1:0", server_tls(), listening).await
        }
    };
    let listener = Arc::new(bound.map_err(text)?);
    // Agents offer the extension. Those that were recorded without it had a pool without it.
    let good = Good::start(config().use_extension(peers.has_streams)).await?;
    let pool = Arc::clone(&good.pool);
    let accepting = tokio::spawn(Arc::clone(&listener).accept_loop(Arc::clone(&pool)));
    for (number, script) in peers.scripts.iter().enumerate() {
        let playing = async {
            let stream = match listener.local_addr() {
                Some(address) => connect_tls(address, Framing::Frames, script.tls_edit).await?,
                None => Some(connect_unix(&path).await?),
            };
            let playing = peers.play(number, stream, Framing::Frames);
            let calling = async {
                // Only registered agents can be called.
                let registered = eventually("", SOON, async || {
                    peers.has_played(number)
                        || pool.agent("agent").is_some_and(|agent| agent.is_healthy())
                });
                let _ = registered.await;
                peers.call(&pool).await
            };
            let (played, called): (Checked, Checked) = tokio::join!(playing, calling);
            played.and(called)
        };
        while_asking(&pool, &good.agent, playing).await?;
        eventually("the connection ends", SOON, async || {
            listener.connections() == 0
        })
        .await?;
    }
    peers.check_answers()?;
    listener.stop();
    drop(pool);
    let accepted = tokio::time::timeout(SOON, accepting).await;
    accepted
        .map_err(|_| "the listener does not end".to_owned())?
        .map_err(text)?;
    drop(listener);
    good.end().await?;
    no_task_is_left().await
}
