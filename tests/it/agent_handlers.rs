//! Forms of handlers: closures, shared handlers and trait objects; and the reason of a handler that
//! rejects its settings.

use crate::common::{ALL, RuleAgent, config, pool_with, request, serve_handler};
use serde_json::json;
use std::sync::Arc;
use tollgate::{
    AgentCapabilities, AgentHandler, AgentResponse, CallError, Decision, DynAgentHandler,
    RequestHeadersView, events::Configure, handler_fn,
};

fn no_admin() -> impl AgentHandler {
    let capabilities = AgentCapabilities::new("no-admin", "Blocks /admin", "1");
    handler_fn(capabilities, |event: RequestHeadersView<'_>| {
        let is_admin = event.path().starts_with("/admin");
        async move {
            // The closure's future may wait.
            tokio::task::yield_now().await;
            if is_admin {
                return AgentResponse::block(403, None);
            }
            AgentResponse::default_allow()
        }
    })
}

async fn expect_no_admin(handler: impl AgentHandler) {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = serve_handler(ALL[0], &folder, handler).await;
    let pool = pool_with(config(ALL[0]), &path).await;
    let agent = pool.agent("agent").unwrap();
    let allowed = agent.send("1", &request("1", "/")).await.unwrap();
    assert_eq!(allowed.decision, Decision::Allow);
    let denied = agent.send("2", &request("2", "/admin")).await.unwrap();
    assert!(
        matches!(denied.decision, Decision::Block { status: 403, .. }),
        "{denied:?}"
    );
}

#[tokio::test]
async fn closure_decides() {
    expect_no_admin(no_admin()).await;
}

#[tokio::test]
async fn shared_handler_decides() {
    expect_no_admin(Arc::new(no_admin())).await;
}

#[tokio::test]
async fn trait_objects_decide() {
    let boxed: Box<dyn DynAgentHandler> = Box::new(no_admin());
    expect_no_admin(boxed).await;
    let shared: Arc<dyn DynAgentHandler> = Arc::new(no_admin());
    expect_no_admin(shared).await;
}

#[tokio::test]
async fn every_method_of_a_trait_object_reaches_the_handler() {
    let agent = RuleAgent::default();
    let (seen, cancelled) = (agent.seen.clone(), agent.cancelled.clone());
    let handler: Arc<dyn DynAgentHandler> = Arc::new(agent);
    assert_eq!(AgentHandler::capabilities(&*handler).agent_id, "rule-agent");
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = serve_handler(ALL[0], &folder, handler).await;
    let pool = pool_with(config(ALL[0]), &path).await;
    let agent = pool.agent("agent").unwrap();
    let mut exchange = agent.exchange("1").unwrap();
    let event = request("1", "/wait");
    exchange.push(&event).await.unwrap();
    drop(exchange);
    crate::common::eventually("the handler is told", async || {
        cancelled.lock().unwrap().len() == 1
    })
    .await;
    assert_eq!(seen.lock().unwrap().len(), 1);
}

/// Rejects all settings.
struct Picky;

impl AgentHandler for Picky {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("picky", "Picky", "1")
    }

    async fn on_configure(&self, event: Configure<'_>) -> Result<(), String> {
        let mode = event.config().and_then(|config| config["mode"].as_str());
        Err(format!("unknown mode '{}'", mode.unwrap_or_default()))
    }
}

#[tokio::test]
async fn reason_for_rejecting_settings_reaches_the_proxy() {
    for encoding in ALL {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = serve_handler(encoding, &folder, Picky).await;
        let pool = pool_with(config(encoding), &path).await;
        let agent = pool.agent("agent").unwrap();
        let rejected = agent.configure(json!({"mode": "odd"}), None).await;
        let Err(CallError::SettingsRefused { reason, .. }) = &rejected else {
            panic!("{rejected:?}");
        };
        assert_eq!(reason, "unknown mode 'odd'");
    }
}
