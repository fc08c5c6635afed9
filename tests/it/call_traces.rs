//! Tracing spans and events of single calls.

use crate::common::*;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use tollgate::{AgentConfig, AgentPool};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

type Fields = BTreeMap<&'static str, String>;

/// Records the spans of calls, and the events in them.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Recorded>>);

#[derive(Default)]
struct Recorded {
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

impl Recorder {
    fn lock(&self) -> MutexGuard<'_, Recorded> {
        self.0
            .lock()
            .expect("no thread panics while it holds the lock")
    }

    /// Returns the one span and the one event since the last call.
    fn take(&self) -> (Fields, Fields) {
        let Recorded { spans, events } = std::mem::take(&mut *self.lock());
        let ([span], [event]) = (spans.as_slice(), events.as_slice()) else {
            panic!("{spans:?}, {events:?}");
        };
        (span.clone(), event.clone())
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "tollgate::call" && *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        assert_eq!(attributes.metadata().name(), "agent_call");
        let mut fields = Fields::new();
        attributes.record(&mut Reader(&mut fields));
        let mut recorded = self.lock();
        recorded.spans.push(fields);
        Id::from_u64(recorded.spans.len() as u64)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut recorded = self.lock();
        let at = span.into_u64() as usize - 1;
        values.record(&mut Reader(&mut recorded.spans[at]));
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

fn check(recorded: (Fields, Fields), expected: &[(&'static str, &str)]) {
    let (mut span, event) = recorded;

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
async fn call_is_a_span_with_its_decision() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());
    let agent = serve().await;
    let pool = pool_with(config(BOTH[0]), &agent.path).await;
    let handle = pool.agent("agent").unwrap();

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
        handle.send("c-1", &event).await.unwrap();
        check(recorder.take(), &expected);

        let mut exchange = handle.exchange("c-1").unwrap();
        exchange.send(&event).await.unwrap();
        check(recorder.take(), &expected);
        pool.unpin("c-1");
    }
}

#[tokio::test]
async fn failed_call_is_traced_with_the_kind_of_its_error() {
    let recorder = Recorder::default();
    let _guard = tracing::subscriber::set_default(recorder.clone());

    let pool = AgentPool::new();
    let agent = pool.add(AgentConfig::reverse("waf")).await.unwrap();
    let event = request("c-2", "/");
    let unavailable = agent.send("c-2", &event).await.unwrap_err();
    check(recorder.take(), &failed_with("unavailable"));
    assert_eq!(unavailable.kind(), "unavailable");

    agent.remove().unwrap();
    let removed = agent.send("c-2", &event).await.unwrap_err();
    check(recorder.take(), &failed_with("removed"));
    assert_eq!(removed.kind(), "removed");
}

fn failed_with(kind: &'static str) -> [(&'static str, &'static str); 3] {
    [("agent", "waf"), ("correlation_id", "c-2"), ("error", kind)]
}
