//! Auto traits that users rely on: what they keep in their own types and move between tasks.

use crate::common::request;
use std::sync::Arc;
use tollgate::{
    Agent, AgentCapabilities, AgentConfig, AgentControl, AgentPool, AgentPoolConfig, AgentResponse,
    AgentServer, AgentServerBuilder, DynAgentHandler, Exchange, ReverseConnectionConfig,
    ReverseConnectionListener, codec, config_push, control, error, events, listener, metrics,
    stats::{AgentPoolStats, ProtocolMetrics},
};

fn is_shared<T: Send + Sync + 'static>() {}

fn is_sent<T: Send>(_: &T) {}

struct Handler;

impl tollgate::AgentHandler for Handler {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("handler", "Allows all", "1.0.0")
    }
}

#[test]
fn types_are_shared_between_threads() {
    is_shared::<Agent>();
    is_shared::<AgentConfig>();
    is_shared::<AgentPool>();
    is_shared::<AgentPoolConfig>();
    is_shared::<AgentPoolStats>();
    is_shared::<Exchange>();
    is_shared::<ProtocolMetrics>();
    is_shared::<ReverseConnectionConfig>();
    is_shared::<ReverseConnectionListener>();

    is_shared::<AgentControl>();
    is_shared::<AgentResponse>();
    is_shared::<AgentServer<Handler>>();
    is_shared::<AgentServerBuilder<Handler>>();
    is_shared::<Box<dyn DynAgentHandler>>();
    is_shared::<listener::OtherSession>();

    is_shared::<codec::Codec>();
    is_shared::<codec::Decoder>();
    is_shared::<config_push::ConfigPusher>();
    is_shared::<config_push::ConfigUpdateHandler>();
    is_shared::<control::AgentNotice>();
    is_shared::<control::Notices>();
    is_shared::<events::RequestHeadersEvent>();
    is_shared::<metrics::MetricsCollector>();
    is_shared::<metrics::UnifiedMetricsAggregator>();

    is_shared::<error::AcceptError>();
    is_shared::<error::AddError>();
    is_shared::<error::BindError>();
    is_shared::<error::CallError>();
    is_shared::<error::ConnectError>();
    is_shared::<error::RegistrationError>();
    is_shared::<codec::Undecodable>();
}

#[cfg(feature = "tls")]
#[test]
fn tls_settings_are_shared_between_threads() {
    is_shared::<tollgate::TlsConfig>();
    is_shared::<tollgate::TlsServerConfig>();
    is_shared::<error::TlsFailure>();
}

#[cfg(feature = "http")]
#[test]
fn verdicts_are_shared_between_threads() {
    is_shared::<tollgate::proxy::HeldBody>();
    is_shared::<tollgate::proxy::Verdict>();
}

#[tokio::test]
async fn futures_move_between_threads() {
    let pool = AgentPool::new();
    let config = AgentConfig::reverse("agent");
    is_sent(&pool.add(config.clone()));
    let agent = pool.add(config).await.unwrap();
    let event = request("id", "/");
    is_sent(&agent.send("id", &event));
    // Compiled, which is what matters; an exchange needs a connection.
    let _ = |exchange: &mut Exchange| {
        is_sent(&exchange.send(&event));
        is_sent(&exchange.next_answer());
    };
    let _ = |server: AgentServer<Handler>| is_sent(&server.serve_until(std::future::pending()));
    let _ = |listener: Arc<ReverseConnectionListener>, pool| is_sent(&listener.accept_loop(pool));
}
