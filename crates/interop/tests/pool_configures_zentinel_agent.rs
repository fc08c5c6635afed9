//! Tollgate's pool configures the agent server of `zentinel-agent-protocol` and pushes updates to
//! it.

use serde_json::json;
use std::time::Duration;
use tollgate::{
    CallError,
    config_push::PushStatus,
    control::{ConfigUpdateType, DrainReason, RuleDefinition, ShutdownReason},
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

#[tokio::test]
async fn updates_are_pushed_and_acknowledged() {
    for pairing in pairings() {
        let mut connected = PoolWithPeer::connect(&pairing).await;
        let rule = RuleDefinition {
            id: "r1".to_owned(),
            priority: -1,
            definition: json!({"match": {"path": "/admin"}}),
            enabled: true,
            description: None,
            tags: vec!["t".to_owned()],
        };
        let update = ConfigUpdateType::RuleUpdate {
            rule_set: "core".to_owned(),
            rules: vec![rule],
            remove_rules: vec!["r0".to_owned()],
        };
        let pushed = connected.agent.push_config(update.clone());
        let id = pushed.expect("the agent accepts pushes");
        let logged = json!({"config": update, "version": null});
        connected.expect_logged("configure", &logged).await;
        let pusher = connected.pool.config_pusher();
        while pusher.pending_count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let results = pusher.get_results();
        assert_eq!(results.len(), 1, "{pairing}");
        assert_eq!(results[0].push_id, id);
        assert_eq!(results[0].status, PushStatus::Acknowledged);
        assert_eq!(results[0].attempts, 1);
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
