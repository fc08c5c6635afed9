//! Directives: text inside an event that tells the agent what to do.

use crate::plan::{Answer, PlannedEvent, Wait};

/// Instructions to the agent.
#[derive(Debug, Clone)]
pub struct Directive {
    /// Names the event; no other has the same.
    pub label: String,
    pub wait: Wait,
    pub answer: Answer,
}

impl Directive {
    /// Writes the text of an event.
    pub fn write(label: &str, event: &PlannedEvent) -> String {
        let wait = match event.wait {
            Wait::No => "0".to_owned(),
            Wait::For(ms) => ms.to_string(),
            Wait::Forever => "forever".to_owned(),
        };
        let answer = match event.answer {
            Answer::Allow => "allow",
            Answer::Block => "block",
            Answer::Twice => "twice",
            Answer::Foreign => "foreign",
            Answer::Damaged => "damaged",
        };
        let padding = "x".repeat(event.padding);
        format!("{label};{wait};{answer};{padding}")
    }

    /// Reads what [`write`](Self::write) wrote.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split(';');
        let mut next = || parts.next().expect("a directive");
        Self {
            label: next().to_owned(),
            wait: match next() {
                "0" => Wait::No,
                "forever" => Wait::Forever,
                ms => Wait::For(ms.parse().expect("milliseconds")),
            },
            answer: match next() {
                "block" => Answer::Block,
                "twice" => Answer::Twice,
                "foreign" => Answer::Foreign,
                "damaged" => Answer::Damaged,
                _ => Answer::Allow,
            },
        }
    }
}
