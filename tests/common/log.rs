//! Records the lines that the library logs.

use super::eventually;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

/// Lines of one kind that a peer may cause at once.
pub const LINES_AT_ONCE: usize = 5;

/// Records lines with their fields, of targets that begin with a prefix. Leaves out traced calls.
#[derive(Clone)]
pub struct Recorder {
    prefix: &'static str,
    lines: Arc<Mutex<Vec<(Level, String)>>>,
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!("{field}={value:?};");
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let target = metadata.target();
        target.starts_with(self.prefix) && target != "tollgate::call"
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

impl Recorder {
    pub fn of(prefix: &'static str) -> Self {
        Self {
            prefix,
            lines: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Level, String)>> {
        self.lines
            .lock()
            .expect("no thread panics while it holds the lock")
    }

    pub fn take(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut *self.lock())
    }

    /// Takes the lines. Asserts that there are some, of `kinds` kinds at most, and that none is
    /// longer than a peer may make it.
    #[track_caller]
    pub fn expect_few_and_short(&self, kinds: usize) {
        let lines = self.take();
        assert!(!lines.is_empty());
        assert!(
            lines.len() <= kinds * LINES_AT_ONCE,
            "{} lines",
            lines.len()
        );
        for (_, line) in lines {
            assert!(line.len() < 2048, "{} bytes", line.len());
            assert!(
                !line.contains(|c: char| c.is_control() || c == '\u{202e}'),
                "{line}"
            );
        }
    }

    /// Returns the number of lines that contain a text.
    pub fn count(&self, text: &str) -> usize {
        let lines = self.lock();
        lines.iter().filter(|(_, line)| line.contains(text)).count()
    }

    pub async fn next(&self) -> (Level, String) {
        eventually("something is logged", async || !self.lock().is_empty()).await;
        self.lock().remove(0)
    }
}
