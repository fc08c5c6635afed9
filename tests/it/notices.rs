//! Notices: messages that agents send on their own reach every listener.

use crate::common::*;
use tollgate::control::{
    AgentNotice, ConfigUpdateRequest, ConfigUpdateType, HealthStatus, MetricsReport,
};

#[tokio::test]
async fn every_listener_gets_every_kind_of_notice_unchanged() {
    for encoding in ALL {
        let agent = serve_for(encoding).await;
        let pool = pool_with(config(encoding), &agent.path).await;
        let (mut first, mut second) = (pool.notices(), pool.notices());
        let report = MetricsReport::new("rule-agent", 1000);
        let request = ConfigUpdateRequest {
            update_type: ConfigUpdateType::RequestReload,
            request_id: "r".to_owned(),
            timestamp_ms: 1,
        };
        let status = HealthStatus::degraded("rule-agent", vec!["ml".to_owned()], 2.5);

        agent.control.report_metrics(report.clone());
        agent.control.request_config_update(request.clone());
        agent.control.report_health(status.clone());

        for listener in [&mut first, &mut second] {
            let agent_id = || "agent".into();
            let metrics = AgentNotice::Metrics {
                agent_id: agent_id(),
                report: report.clone(),
            };
            assert_eq!(listener.recv().await, Ok(metrics));

            let update = AgentNotice::ConfigUpdate {
                agent_id: agent_id(),
                request: request.clone(),
            };
            assert_eq!(listener.recv().await, Ok(update));

            if BOTH.contains(&encoding) {
                // The form of `zentinel-agent-protocol` comes first and holds only the state.
                let published = listener.recv().await;
                assert!(matches!(published, Ok(AgentNotice::Health { .. })));
            }
            let health = AgentNotice::Health {
                agent_id: agent_id(),
                status: status.clone(),
            };
            assert_eq!(listener.recv().await, Ok(health));
        }
    }
}

#[tokio::test]
async fn slow_listener_is_told_how_many_notices_it_lost() {
    let agent = serve().await;
    let pool = pool_with(config(tollgate::Encoding::Json), &agent.path).await;
    let (mut idle, mut busy) = (pool.notices(), pool.notices());

    for interval in 0..300 {
        agent
            .control
            .report_metrics(MetricsReport::new("rule-agent", interval));
        assert!(busy.recv().await.is_ok());
    }

    let missed = idle.recv().await.unwrap_err();
    let expected = format!("the receiver fell behind: {} notices are lost", 300 - 256);
    assert_eq!(missed.to_string(), expected);
    assert!(idle.recv().await.is_ok());
}

#[tokio::test]
async fn listener_to_one_agent_gets_no_notices_of_others() {
    let (one, other) = (serve().await, serve().await);
    let pool = pool_with(config(tollgate::Encoding::Json), &one.path).await;
    let mut notices = pool.agent("agent").unwrap().notices();
    let mut all = pool.notices();
    let config = tollgate::AgentConfig::new("other", other.path.to_str().unwrap());
    pool.add(config).await.unwrap();

    let report = MetricsReport::new("rule-agent", 1);
    other.control.report_metrics(report.clone());
    assert_eq!(all.recv().await.unwrap().agent_id(), "other");
    one.control.report_metrics(report.clone());
    let expected = AgentNotice::Metrics {
        agent_id: "agent".into(),
        report,
    };
    assert_eq!(notices.recv().await.unwrap(), expected);
}
