//! Tollgate's pool gives the agent server of the published crate its settings and pushes updates to it.

use serde_json::json;
use std::time::Duration;
use tollgate::{
    AgentProtocolError, ConfigUpdateType, DrainReason, PushStatus, RuleDefinition, ShutdownReason,
};
use tollgate_interop::{AGENT, Meeting, pairings};

#[tokio::test]
async fn settings_are_taken_or_refused() {
    for pairing in pairings() {
        let mut meeting = Meeting::of(&pairing).await;
        let settings = json!({"mode": "block", "paths": ["/admin"]});
        let version = Some("7".to_owned());
        let told = meeting
            .pool
            .configure_agent(AGENT, settings.clone(), version)
            .await;
        assert_eq!(told.unwrap(), 1, "{pairing}");
        let logged = json!({"config": settings, "version": "7"});
        meeting.expect_logged("configure", &logged).await;

        let refused = json!({"reject": true});
        let told = meeting
            .pool
            .configure_agent(AGENT, refused.clone(), None)
            .await;
        let was_refused = matches!(
            told,
            Err(AgentProtocolError::SettingsRefused { ref reason, .. })
                if reason == "Configuration rejected"
        );
        assert!(was_refused, "{pairing}: {told:?}");
        let logged = json!({"config": refused, "version": null});
        meeting.expect_logged("configure", &logged).await;
        meeting.end().await;
    }
}

#[tokio::test]
async fn updates_are_pushed_and_acknowledged() {
    for pairing in pairings() {
        let mut meeting = Meeting::of(&pairing).await;
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
        let pushed = meeting.pool.push_config_to_agent(AGENT, update.clone());
        let id = pushed.expect("the agent takes pushes");
        let logged = json!({"config": update, "version": null});
        meeting.expect_logged("configure", &logged).await;
        let pusher = meeting.pool.config_pusher();
        while pusher.pending_count() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let results = pusher.get_results();
        assert_eq!(results.len(), 1, "{pairing}");
        assert_eq!(results[0].push_id, id);
        assert_eq!(results[0].status, PushStatus::Acknowledged);
        assert_eq!(results[0].attempts, 1);
        meeting.end().await;
    }
}

/// The published protocol has no words for these on a Unix socket, so nothing is sent that would confuse the agent.
#[tokio::test]
async fn what_there_are_no_words_for_is_not_sent() {
    for pairing in pairings() {
        let meeting = Meeting::of(&pairing).await;
        let drained = meeting.pool.send_drain(AGENT, 1000, DrainReason::Manual);
        assert!(!drained.await.unwrap());
        let shut = meeting
            .pool
            .send_shutdown(AGENT, ShutdownReason::Graceful, 1000);
        assert!(!shut.await.unwrap());
        meeting.pool.ping(AGENT).await.unwrap();
        meeting.end().await;
    }
}
