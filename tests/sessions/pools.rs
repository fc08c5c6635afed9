//! Misbehaving agents, against a pool.

use crate::agent::config;
use crate::input::Script;
use crate::recording::{self, Side};
use crate::run::{Checked, no_task_is_left};
use crate::stream::{Carrier, PeerListener, text};
use crate::units::Framing;
use crate::world::{Good, Peers, while_asking};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tollgate::AgentConfig;

/// Time after which calls end if the scripts were not all played. A pool may rightly not connect
/// again for long.
const MAX_TIME: Duration = Duration::from_secs(5);

pub async fn run(carrier: Carrier, framing: Framing, scripts: Vec<Script>) -> Checked {
    let sessions = recording::forward(framing);
    let peers = Peers::new(scripts, sessions, Side::Agent);
    let (listener, endpoint) = PeerListener::listen(carrier, framing, "agent").await;
    let serving = tokio::spawn(Arc::clone(&peers).serve(listener, framing));
    let good = Good::start(config()).await?;
    let pool = Arc::clone(&good.pool);
    let settings = serde_json::json!({"mode": "strict", "limits": [1, 2.5, null]});
    let agent = AgentConfig::new("agent", &endpoint).settings(settings, Some("1".to_owned()));
    let calling = async {
        pool.add(agent).await.map_err(text)?;
        let began = Instant::now();
        loop {
            peers.call(&pool).await?;
            peers.check_answers()?;
            if peers.are_done() || began.elapsed() > MAX_TIME {
                return Ok(());
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    while_asking(&pool, &good.agent, calling).await?;
    drop(pool);
    good.end().await?;
    // The connections of the pool are closed, so the peers end by themselves.
    serving.abort();
    // It was aborted.
    let _ = serving.await;
    no_task_is_left().await
}
