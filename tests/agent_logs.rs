//! What agents log comes to the proxy's log, within limits.

mod common;

use common::*;
use serde_json::json;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use tollgate::{AgentNotice, AgentPoolConfig, Encoding, LogLevel, LogMessage};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

/// Keeps the events that agents cause.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<(Level, String)>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!("{field}={value:?};");
    }
}

impl Subscriber for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "tollgate::agent_log" || metadata.target().ends_with("::logs")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.lock().push((*event.metadata().level(), text.0));
    }

    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Vec<(Level, String)>> {
        self.0.lock().expect("nobody panics with it")
    }

    fn take(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut *self.lock())
    }

    async fn next(&self) -> (Level, String) {
        eventually("something is logged", async || !self.lock().is_empty()).await;
        self.lock().remove(0)
    }
}

#[tokio::test]
async fn lines_become_events_with_their_fields() {
    let kept = Kept::default();
    let _guard = tracing::subscriber::set_default(kept.clone());
    for encoding in ALL {
        let agent = serve_speaking(encoding).await;
        let settings = AgentPoolConfig {
            connections_per_agent: 3,
            ..config(encoding)
        };
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
            let (level, logged) = kept.next().await;
            assert_eq!(level, expected);
            let mut fields: Vec<_> = logged.split_inclusive(';').collect();
            fields.sort_unstable();
            assert_eq!(fields.concat(), text);
            let agent_id = "agent".into();
            let notice = AgentNotice::Log { agent_id, message };
            assert_eq!(notices.recv().await, Ok(notice));
        }
        agent
            .control
            .log(LogMessage::new(LogLevel::Info, "x".repeat(10_000)));
        let (_, logged) = kept.next().await;
        let expected = format!("message={}\u{2026};agent=\"agent\";", "x".repeat(4096));
        assert_eq!(logged.len(), expected.len());
        assert_eq!(pool.agent_stats("agent").await.unwrap().log_messages, 5);
        assert_eq!(kept.take(), []);
    }
}

#[tokio::test]
async fn a_flood_is_cut_and_counted() {
    let kept = Kept::default();
    let _guard = tracing::subscriber::set_default(kept.clone());
    let agent = serve().await;
    let settings = AgentPoolConfig {
        max_agent_logs_per_second: 5,
        ..config(Encoding::MessagePack)
    };
    let pool = pool_with(settings, &agent.path).await;
    let count = async || {
        let stats = pool.agent_stats("agent").await.unwrap();
        (stats.log_messages, stats.log_messages_left_out)
    };
    for sent in 1..=1000 {
        agent.control.log(LogMessage::new(LogLevel::Warn, "flood"));
        eventually("it is taken notice of", async || {
            let (logged, left_out) = count().await;
            logged + left_out == sent
        })
        .await;
    }
    let (logged, left_out) = count().await;
    assert!(logged >= 5 && left_out > 500, "{logged} {left_out}");
    let lines = kept.take();
    let is_line = |(_, text): &&(Level, String)| text.contains("message=flood");
    assert_eq!(lines.iter().filter(is_line).count() as u64, logged);
    // Somebody reads of it as soon as there is room.
    let mut sent = 1000;
    loop {
        agent.control.log(LogMessage::new(LogLevel::Warn, "more"));
        sent += 1;
        eventually("it is taken notice of", async || {
            let (logged, left_out) = count().await;
            logged + left_out == sent
        })
        .await;
        if count().await.0 > logged {
            break;
        }
    }
    let (_, notice) = kept.next().await;
    assert!(notice.contains("lines were left out"), "{notice}");
}

#[tokio::test]
async fn peers_without_the_extension_neither_log_nor_are_logged() {
    let agent = serve().await;
    let mut proxy = RawConnection::connect_in(&agent.path, Encoding::Json).await;
    agent
        .control
        .log(LogMessage::new(LogLevel::Info, "unheard"));
    assert!(proxy.sync().await.is_empty());

    let (_agent, pool, mut connection) = raw_pool(config(Encoding::Json)).await;
    let message = json!({"level": "info", "message": "m"});
    connection.send_value(0x63, &message).await;
    connection.sync().await;
    assert_eq!(pool.agent_stats("agent").await.unwrap().log_messages, 0);
    assert_eq!(faults(&pool).await.unexpected_messages, 1);
}
