//! What is told of single calls to whoever listens.

mod common;

use common::*;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use tollgate::{AgentPool, AgentProtocolError};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

type Fields = BTreeMap<&'static str, String>;

/// Keeps the spans of calls, and the events in them.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    spans: Vec<Fields>,
    events: Vec<Fields>,
}

struct Reader<'f>(&'f mut Fields);

impl Visit for Reader<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(
            field.name(),
            format!("{value:?}").trim_matches('"').to_owned(),
        );
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().expect("nobody panics with it")
    }

    /// The one span and the one event since this was last asked.
    fn take(&self) -> (Fields, Fields) {
        let Told { spans, events } = std::mem::take(&mut *self.lock());
        let ([span], [event]) = (spans.as_slice(), events.as_slice()) else {
            panic!("{spans:?}, {events:?}");
        };
        (span.clone(), event.clone())
    }
}

impl Subscriber for Kept {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "tollgate::call" && *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        assert_eq!(attributes.metadata().name(), "agent_call");
        let mut fields = Fields::new();
        attributes.record(&mut Reader(&mut fields));
        let mut told = self.lock();
        told.spans.push(fields);
        Id::from_u64(told.spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut told = self.lock();
        let at = span.into_u64() as usize - 1;
        values.record(&mut Reader(&mut told.spans[at]));
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        event.record(&mut Reader(&mut fields));
        self.lock().events.push(fields);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn check(told: (Fields, Fields), expected: &[(&'static str, &str)]) {
    let (mut span, event) = told;
    assert_eq!(span.remove("traceparent"), metadata("c").traceparent);
    assert_eq!(span.remove("event").as_deref(), Some("request_headers"));
    let expected: Fields = expected
        .iter()
        .map(|(name, value)| (*name, (*value).to_owned()))
        .collect();
    assert_eq!(span, expected);
    assert!(event["duration_us"].parse::<u64>().is_ok());
    for (name, value) in expected {
        assert_eq!(event[name], value);
    }
}

#[tokio::test]
async fn a_call_is_a_span_that_says_how_it_ended() {
    let kept = Kept::default();
    let _guard = tracing::subscriber::set_default(kept.clone());
    let agent = serve().await;
    let pool = pool_with(config(BOTH[0]), &agent.path).await;
    for (uri, decision) in [
        ("/", "allow"),
        ("/block", "block"),
        ("/redirect", "redirect"),
    ] {
        let event = request("c-1", uri);
        let expected = [
            ("agent", "agent"),
            ("correlation_id", "c-1"),
            ("decision", decision),
        ];
        pool.send("agent", "c-1", &event).await.unwrap();
        check(kept.take(), &expected);
        let mut exchange = pool.exchange("agent", "c-1").unwrap();
        exchange.send(&event).await.unwrap();
        check(kept.take(), &expected);
        pool.clear_correlation_affinity("c-1");
    }
}

#[tokio::test]
async fn a_failure_has_the_name_of_its_kind() {
    let kept = Kept::default();
    let _guard = tracing::subscriber::set_default(kept.clone());
    let pool = AgentPool::new();
    let error = pool
        .send("waf", "c-2", &request("c-2", "/"))
        .await
        .unwrap_err();
    assert!(matches!(error, AgentProtocolError::UnknownAgent { .. }));
    let expected = [
        ("agent", "waf"),
        ("correlation_id", "c-2"),
        ("error", "unknown_agent"),
    ];
    check(kept.take(), &expected);
    assert_eq!(error.kind(), "unknown_agent");
}
