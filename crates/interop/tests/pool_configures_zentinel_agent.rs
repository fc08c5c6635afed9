//! Tollgate's pool configures the agent server of `zentinel-agent-protocol`, and pushes no updates
//! to it.

use serde_json::json;
use std::time::Duration;
use tollgate::{
    CallError,
    control::{ConfigUpdateType, DrainReason, ShutdownReason},
};
use tollgate_interop::{PoolWithPeer, pairings};

#[tokio::test]
async fn settings_are_accepted_or_rejected() {
    for pairing in pairings() {
        let mut connected = PoolWithPeer::connect(&pairing).await;
        let settings = json!({"mode": "block", "paths": ["/admin"]});
        let version = Some("7".to_owned());
        let result = connected.agent.configure(settings.clone(), version).await;
        assert_eq!(result.unwrap(), 1, "{pairing}");
        let logged = json!({"config": settings, "version": "7"});
        connected.expect_logged("configure", &logged).await;

        let rejected = json!({"reject": true});
        let result = connected.agent.configure(rejected.clone(), None).await;
        let was_rejected = matches!(
            result,
            Err(CallError::SettingsRefused { ref reason, .. })
                if reason == "Configuration rejected"
        );
        assert!(was_rejected, "{pairing}: {result:?}");
        let logged = json!({"config": rejected, "version": null});
        connected.expect_logged("configure", &logged).await;
        connected.end().await;
    }
}

/// The agent would take an update for its settings.
#[tokio::test]
async fn updates_are_not_pushed() {
    for pairing in pairings() {
        let connected = PoolWithPeer::connect(&pairing).await;
        let capabilities = connected.agent.capabilities();
        let takes_pushes = capabilities.is_some_and(|announced| announced.features.config_push);
        assert!(takes_pushes, "{pairing}");
        let rules = ConfigUpdateType::RuleUpdate {
            rule_set: "core".to_owned(),
            rules: Vec::new(),
            remove_rules: vec!["r0".to_owned()],
        };
        for update in [rules, ConfigUpdateType::RequestReload] {
            assert_eq!(connected.agent.push_config(update.clone()), None);
            assert!(
                connected
                    .pool
                    .config_pusher()
                    .push_to_all(update)
                    .is_empty()
            );
        }
        connected.agent.ping().await.unwrap();
        connected.end().await;
    }
}

/// On Unix sockets the protocol of `zentinel-agent-protocol` has no messages for draining and
/// shutdown, so nothing is sent.
#[tokio::test]
async fn drain_and_shutdown_are_not_sent() {
    for pairing in pairings() {
        let connected = PoolWithPeer::connect(&pairing).await;
        let drained = connected
            .agent
            .request_drain(Duration::from_secs(1), DrainReason::Manual);
        assert!(!drained.await.unwrap());
        let shut = connected
            .agent
            .request_shutdown(Duration::from_secs(1), ShutdownReason::Graceful);
        assert!(!shut.await.unwrap());
        connected.agent.ping().await.unwrap();
        connected.end().await;
    }
}
