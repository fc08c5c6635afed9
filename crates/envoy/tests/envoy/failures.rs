//! Agents that stop, hang or are killed: nothing is let through.

use crate::agent::Agent;
use crate::client::{Call, Version};
use crate::proxy::{Envoy, MODES, ext_proc};
use crate::upstream::Upstream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Sends requests that the agent denies until `stop` is set. Returns how many were answered, and
/// how many of them with something else than a denial or a failure.
async fn hammer(
    envoy: std::net::SocketAddr,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
) -> usize {
    let mut wrong = 0;
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let body = format!("BLOCK {number}");
        let call = match number % 2 {
            0 => Call::get("load", "/deny"),
            _ => Call::post("load", "/body", &body),
        };
        if let Ok(answer) = call.try_send(envoy, Version::Http1).await {
            answered.fetch_add(1, Ordering::Relaxed);
            let status = answer.status.as_u16();
            wrong += usize::from(!matches!(status, 403 | 500..=504));
        }
    }
    wrong
}

async fn nothing_passes_while(end: impl AsyncFnOnce(&mut Agent)) {
    let mut agent = Agent::start().await;
    let upstream = Upstream::start().await;
    let filters = ["BUFFERED", "FULL_DUPLEX_STREAMED"].map(|mode| ext_proc(mode, ""));
    let envoy = Envoy::start(&filters, &agent.address.to_string(), upstream.address).await;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for client in 0..8 {
        let to = envoy.address(client % 2);
        clients.push(tokio::spawn(hammer(
            to,
            Arc::clone(&stop),
            Arc::clone(&answered),
        )));
    }
    let more = async |count: usize| {
        let wanted = answered.load(Ordering::Relaxed) + count;
        while answered.load(Ordering::Relaxed) < wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    more(50).await;
    end(&mut agent).await;
    more(50).await;
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        assert_eq!(
            client.await.unwrap(),
            0,
            "requests were answered by the upstream"
        );
    }
    assert!(upstream.seen("load").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_lets_nothing_through() {
    nothing_passes_while(async |agent| {
        agent.stop();
        agent.stopped().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_lets_nothing_through() {
    nothing_passes_while(async |agent| agent.abort()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_leave_cancel_the_handler() {
    let agent = Agent::start().await;
    let upstream = Upstream::start().await;
    let filters = MODES
        .map(|mode| ext_proc(mode, "message_timeout: 30s").replacen("message_timeout: 1s", "", 1));
    let envoy = Envoy::start(&filters, &agent.address.to_string(), upstream.address).await;
    for (at, mode) in MODES.into_iter().enumerate() {
        let call = Call::get(mode, "/hang");
        let sending = call.try_send(envoy.address(at), Version::Http1);
        let left = tokio::time::timeout(Duration::from_millis(500), sending).await;
        assert!(left.is_err(), "{mode}");
        let log = agent.logs.completed(mode).await;
        assert!(log.events.contains(&"cancel".to_owned()), "{mode}: {log:?}");
        assert!(log.completes[0].3, "{mode}: {log:?}");
        assert!(upstream.seen(mode).is_empty(), "{mode}");
    }
    assert_eq!(agent.counters.get().cancelled, MODES.len() as u64);
}
