//! Configuration and metrics over the agent's connection: the proxy pushes a block list to its
//! agent, the agent requests one more entry and receives it, and reports how many requests it
//! blocked.
//!
//! ```sh
//! cargo run --example agent_settings
//! ```

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tollgate::{
    Agent, AgentCapabilities, AgentConfig, AgentControl, AgentHandler, AgentPool, AgentResponse,
    AgentServer, Decision, Metadata, RequestHeaders, RequestHeadersView,
    config_push::ConfigUpdateHandler,
    control::{
        AgentFeatures, ConfigUpdateRequest, ConfigUpdateType, CounterMetric, LogLevel, LogMessage,
        MetricsReport,
    },
    events::Configure,
};

/// An agent that blocks requests from the client addresses on a list.
#[derive(Clone, Default)]
struct Doorman {
    blocked: Arc<Mutex<BTreeSet<String>>>,
    count: Arc<AtomicU64>,
}

impl AgentHandler for Doorman {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("doorman", "Blocks addresses", "1.0.0").with_features(
            AgentFeatures {
                config_push: true,
                metrics_export: true,
                ..AgentFeatures::default()
            },
        )
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        let is_blocked = |blocked: &BTreeSet<_>| blocked.contains(event.metadata.client_ip);
        if !self
            .blocked
            .lock()
            .is_ok_and(|blocked| is_blocked(&blocked))
        {
            return AgentResponse::default_allow();
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        AgentResponse::block(403, None)
    }

    async fn on_configure(&self, event: Configure<'_>) -> Result<(), String> {
        let mut blocked = self.blocked.lock().map_err(|error| error.to_string())?;
        match event.update() {
            Some(ConfigUpdateType::ListUpdate { add, remove, .. }) => {
                blocked.extend(add);
                blocked.retain(|address| !remove.contains(address));
                Ok(())
            }
            Some(_) => Err("only lists can be updated".to_owned()),
            None => {
                let list = event.config().and_then(|config| config.as_array());
                let list = list.ok_or("expected a list of addresses")?;
                *blocked = list
                    .iter()
                    .filter_map(|address| address.as_str().map(str::to_owned))
                    .collect();
                Ok(())
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::temp_dir().join(format!("agent-settings-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    let socket = dir.join("agent.sock");
    let doorman = Doorman::default();
    let server = AgentServer::builder(doorman.clone()).listen(socket.display().to_string());
    let control = server.control();
    tokio::spawn(server.bind().await?.serve());

    let pool = AgentPool::new();
    let config = AgentConfig::new("doorman", format!("unix:{}", socket.display()))
        .require_connection()
        .settings(vec!["192.0.2.1"].into(), Some("1".to_owned()));
    let agent = pool.add(config).await?;
    accept_list_updates(&pool);
    println!("192.0.2.1: {:?}", decide(&agent, "192.0.2.1").await?);
    println!("192.0.2.2: {:?}", decide(&agent, "192.0.2.2").await?);

    request_block(&control, "192.0.2.2").await;
    while pool.config_pusher().pending_count() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("192.0.2.2: {:?}", decide(&agent, "192.0.2.2").await?);

    report(&control, doorman.count.load(Ordering::Relaxed));
    while pool.metrics_collector().series_count() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    println!("\n{}", pool.metrics_collector().export_prometheus());
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Lets the proxy accept every list update that an agent requests, and push it to all agents.
fn accept_list_updates(pool: &AgentPool) {
    let pusher = pool.config_pusher().clone();
    let handler = ConfigUpdateHandler::new().on_list_update(move |list_id, add, remove| {
        let update = ConfigUpdateType::ListUpdate {
            list_id: list_id.to_owned(),
            add: add.to_vec(),
            remove: remove.to_vec(),
        };
        !pusher.push_to_all(update).is_empty()
    });
    pool.set_config_update_handler(handler);
}

/// Lets the agent request one more address on the list. Repeats the request until the proxy
/// answers.
async fn request_block(control: &AgentControl, address: &str) {
    let update = ConfigUpdateType::ListUpdate {
        list_id: "blocked".to_owned(),
        add: vec![address.to_owned()],
        remove: Vec::new(),
    };
    let request = ConfigUpdateRequest::new("update-1", update);
    let response = control
        .confirm_config_update(request, Duration::from_secs(1))
        .await;
    println!(
        "requested to block {address}: accepted = {}",
        response.accepted
    );
}

/// Lets the agent report its counter, and write a message to the proxy's log.
fn report(control: &AgentControl, blocked: u64) {
    let mut report = MetricsReport::new("doorman", 10_000);
    let mut counter = CounterMetric::new("doorman_blocked_total", blocked);
    counter.help = Some("Requests blocked because of the client address.".to_owned());
    report.counters.push(counter);
    control.report_metrics(report);
    control.log(LogMessage::new(LogLevel::Info, "reported").with_field("blocked", blocked));
}

/// Sends the headers of a request from this address to the agent and returns its decision.
async fn decide(agent: &Agent, client_ip: &str) -> Result<Decision, Box<dyn Error>> {
    let headers: [(&str, &str); 0] = [];
    let event = RequestHeaders {
        metadata: Metadata {
            client_ip,
            ..Metadata::default()
        },
        method: "GET",
        uri: "/",
        headers: &headers[..],
    };
    Ok(agent.send(client_ip, &event).await?.decision)
}
