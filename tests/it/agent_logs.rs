//! Log lines of agents reach the proxy's log, within limits.

use crate::common::*;
use serde_json::json;
use tokio::time::Instant;
use tollgate::{
    Encoding,
    control::{AgentNotice, LogLevel, LogMessage},
};
use tracing::Level;

#[tokio::test]
async fn log_lines_become_tracing_events_with_fields() {
    let recorder = Recorder::of("tollgate::agent_log");
    let _guard = tracing::subscriber::set_default(recorder.clone());
    for encoding in ALL {
        let agent = serve_for(encoding).await;
        let settings = config(encoding).connections_per_agent(3);
        let pool = pool_with(settings, &agent.path).await;
        let mut notices = pool.notices();

        for (level, expected) in [
            (LogLevel::Debug, Level::DEBUG),
            (LogLevel::Info, Level::INFO),
            (LogLevel::Warn, Level::WARN),
            (LogLevel::Error, Level::ERROR),
        ] {
            let message = LogMessage::new(level, "forged\n\u{1b}[31mline \"\u{e4}\"")
                .about("request-\r7")
                .with_field("rule", json!({"id": 942_100}));
            agent.control.log(message.clone());

            let text = "agent=\"agent\";correlation_id=request-\\r7;fields={\"rule\":{\"id\":942100}};\
                        message=forged\\n\\u{1b}[31mline \"\u{e4}\";";
            let (level, logged) = recorder.next().await;
            assert_eq!(level, expected);
            let mut fields: Vec<_> = logged.split_inclusive(';').collect();
            fields.sort_unstable();
            assert_eq!(fields.concat(), text);

            let agent_id = "agent".into();
            let notice = AgentNotice::Log { agent_id, message };
            assert_eq!(notices.recv().await, Ok(notice));
        }

        let long = LogMessage::new(LogLevel::Info, "x".repeat(10_240))
            .with_field("y", json!("y".repeat(5120)));
        agent.control.log(long);
        let (_, logged) = recorder.next().await;
        let (message, beginning) = ("x".repeat(1024), "{\"y\":\"");
        let fields = format!("{beginning}{}", "y".repeat(512 - beginning.len()));
        let expected =
            format!("message={message}\u{2026};agent=\"agent\";fields={fields}\u{2026};");
        assert_eq!(logged.len(), expected.len());
        assert!(logged.contains(&fields));

        assert_eq!(pool.agent("agent").unwrap().stats().log_messages, 5);
        assert_eq!(recorder.take(), []);
    }
}

#[test]
fn excess_log_lines_are_dropped_and_counted() {
    in_virtual_time(async {
        let recorder = Recorder::of("tollgate::agent_log");
        let _guard = tracing::subscriber::set_default(recorder.clone());
        let agent = serve().await;
        let settings = config(Encoding::MessagePack).max_agent_logs_per_second(5);
        let pool = pool_with(settings, &agent.path).await;

        let count = async || {
            let stats = pool.agent("agent").unwrap().stats();
            (stats.log_messages, stats.log_messages_left_out)
        };

        let started = Instant::now();
        for sent in 1..=1000 {
            agent.control.log(LogMessage::new(LogLevel::Warn, "flood"));
            eventually("the line is processed", async || {
                let (logged, left_out) = count().await;
                logged + left_out == sent
            })
            .await;
        }

        let (logged, left_out) = count().await;
        assert!(logged >= 5 && left_out > 500, "{logged} {left_out}");
        let most = 5.0 + 5.0 * started.elapsed().as_secs_f64();
        assert!(logged as f64 <= most + 1.0, "{logged} of {most}");
        let lines = recorder.take();
        let is_line = |(_, text): &&(Level, String)| text.contains("message=flood");
        assert_eq!(lines.iter().filter(is_line).count() as u64, logged);

        // The number of omitted lines is logged as soon as the rate allows a line.
        let mut sent = 1000;
        loop {
            agent.control.log(LogMessage::new(LogLevel::Warn, "more"));
            sent += 1;
            eventually("the line is processed", async || {
                let (logged, left_out) = count().await;
                logged + left_out == sent
            })
            .await;
            if count().await.0 > logged {
                break;
            }
        }

        let (_, notice) = recorder.next().await;
        assert!(notice.contains("lines were left out"), "{notice}");
    });
}

#[tokio::test]
async fn logging_needs_the_extension_on_both_sides() {
    let agent = serve().await;
    let mut proxy = RawConnection::connect_in(&agent.path, Encoding::Json).await;
    agent
        .control
        .log(LogMessage::new(LogLevel::Info, "unheard"));
    assert!(proxy.sync().await.is_empty());

    let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    let message = json!({"level": "info", "message": "m"});
    connection.send_value(message::LOG, &message).await;
    connection.sync().await;
    assert_eq!(pool.agent("agent").unwrap().stats().log_messages, 0);
    assert_eq!(faults(&pool).await.unexpected_messages, 1);
}
