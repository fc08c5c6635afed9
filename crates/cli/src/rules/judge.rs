//! Tries rules on an event and adds up the effects of those that apply.

use super::exchanges::{Body, Exchange};
use super::rule::{Fact, Phase, Rule, Unknown};
use bytes::Bytes;
use memchr::memmem::Finder;
use std::time::Duration;
use tollgate::{
    AgentResponse, BodyChunk, Decision,
    response::{AuditMetadata, BodyMutation},
};

/// Limit of what is withheld of a body, in bytes.
const MAX_WITHHELD: usize = 1024 * 1024;

/// The answer to an event.
#[derive(Default)]
pub(super) struct Answer {
    pub(super) response: AgentResponse,
    pub(super) delay: Duration,
    pub(super) panics: bool,
}

/// Judges the head of a request or response.
pub(super) fn judge_head(rules: &[Rule], phase: Phase, exchange: &Exchange) -> Answer {
    let mut answer = Answer::default();
    for (at, rule) in rules.iter().enumerate() {
        if rule.on != phase {
            continue;
        }
        match exchange.fact(at, rule) {
            Fact::Fails => continue,
            Fact::Unknown(unknown) => return answer.failing(unknown),
            Fact::Holds if rule.hold => answer.response.needs_more = true,
            Fact::Holds => {
                answer.add_changes(rule);
                answer.add(rule);
            }
        }
        if answer.is_denial() {
            break;
        }
    }
    answer
}

/// Judges a chunk of a body. `tail_len` is how many bytes of a body may be the beginning of a text.
pub(super) fn judge_chunk(
    rules: &[Rule],
    phase: Phase,
    exchange: &Exchange,
    chunk: &BodyChunk<'_>,
    body: &mut Body,
    tail_len: usize,
) -> Answer {
    let mut answer = Answer::default();
    let search = Search::new(&body.tail, &chunk.data, tail_len);
    let mut content = Content::Unchanged;
    let mut is_withheld = false;
    for (at, rule) in rules.iter().enumerate() {
        if !rule.is_tried_in(phase) {
            continue;
        }
        match exchange.fact(at, rule) {
            Fact::Fails => continue,
            Fact::Unknown(unknown) => return answer.failing(unknown),
            Fact::Holds => {}
        }
        let progress = &mut body.progress[at];
        let text = rule.conditions.body_contains.as_ref();
        progress.is_found |= text.is_some_and(|text| search.finds(text));
        let is_missing = text.is_some() && !progress.is_found;
        if is_missing && !body.has_beginning {
            return answer.failing(Unknown::BodyBeginning);
        }
        if rule.hold && !chunk.is_last && (is_missing || text.is_none()) {
            answer.response.needs_more = true;
            match rule.effects.body {
                Some(_) if is_missing => is_withheld = true,
                Some(_) => content = Content::Dropped,
                None => {}
            }
        } else if !is_missing {
            let is_first = !std::mem::replace(&mut progress.is_applied, true);
            content.apply(rule, is_first);
            if is_first {
                answer.add_changes(rule);
            }
            answer.add(rule);
        }
        if answer.is_denial() {
            return answer;
        }
    }
    keep_end(&mut body.tail, &chunk.data, tail_len);
    match content.pass(chunk, body, is_withheld) {
        Ok(mutation) => answer.mutate(phase, mutation),
        Err(unknown) => return answer.failing(unknown),
    }
    answer
}

/// New content of a chunk.
enum Content {
    Unchanged,
    /// Stands for the whole body up to this chunk.
    Replaced(Bytes),
    Dropped,
}

impl Content {
    /// Applies a rule. The new content of a body comes with the first chunk that the rule applies
    /// to.
    fn apply(&mut self, rule: &Rule, is_first: bool) {
        match &rule.effects.body {
            Some(content) if is_first => *self = Self::Replaced(content.clone()),
            Some(_) => *self = Self::Dropped,
            None => {}
        }
    }

    /// Returns the change to the chunk. An answer can change only one chunk, so while a rule may
    /// still replace the whole body, each chunk is dropped and its content withheld.
    fn pass(
        self,
        chunk: &BodyChunk<'_>,
        body: &mut Body,
        is_withheld: bool,
    ) -> Result<Option<BodyMutation>, Unknown> {
        let index = chunk.chunk_index;
        if !is_withheld && body.withheld.is_none() {
            return Ok(match self {
                Self::Unchanged => None,
                Self::Replaced(content) => Some(BodyMutation::replace(index, content)),
                Self::Dropped => Some(BodyMutation::drop_chunk(index)),
            });
        }
        let mut whole = body.withheld.take().unwrap_or_default();
        match self {
            Self::Unchanged => whole.extend_from_slice(&chunk.data),
            Self::Replaced(content) => whole = content.to_vec(),
            Self::Dropped => {}
        }
        if !is_withheld {
            return Ok(Some(BodyMutation::replace(index, whole)));
        }
        if whole.len() > MAX_WITHHELD {
            return Err(Unknown::LongBody);
        }
        body.withheld = Some(whole);
        Ok(Some(BodyMutation::drop_chunk(index)))
    }
}

impl Answer {
    pub(super) fn is_denial(&self) -> bool {
        self.response.decision != Decision::Allow
    }

    /// Turns this into the answer to an event that a rule cannot judge.
    pub(super) fn failing(mut self, unknown: Unknown) -> Self {
        let codes = ["agent_error", unknown.reason_code()].map(str::to_owned);
        self.response.audit.reason_codes.extend(codes);
        self.deny(Decision::Block {
            status: 500,
            body: None,
            headers: None,
        });
        self
    }

    /// Adds the changes of a rule to headers.
    fn add_changes(&mut self, rule: &Rule) {
        let (request, response) = (
            &rule.effects.request_headers,
            &rule.effects.response_headers,
        );
        self.response.request_headers.extend_from_slice(request);
        self.response.response_headers.extend_from_slice(response);
    }

    /// Adds the other effects of a rule, the verdict last.
    fn add(&mut self, rule: &Rule) {
        let effects = &rule.effects;
        self.delay = self.delay.saturating_add(effects.delay);
        self.panics |= effects.panics;
        let AuditMetadata {
            tags,
            rule_ids,
            reason_codes,
            ..
        } = &mut self.response.audit;
        tags.extend_from_slice(&effects.audit.tags);
        rule_ids.extend_from_slice(&effects.audit.rule_ids);
        reason_codes.extend_from_slice(&effects.audit.reason_codes);
        if let Some(verdict) = &effects.verdict {
            self.deny(verdict.clone());
        }
    }

    /// Decides against the request. Of the changes, only those of the response's headers have an
    /// effect then.
    fn deny(&mut self, verdict: Decision) {
        let response = &mut self.response;
        response.decision = verdict;
        response.needs_more = false;
        response.request_headers.clear();
    }

    fn mutate(&mut self, phase: Phase, mutation: Option<BodyMutation>) {
        let place = if phase.is_of_request() {
            &mut self.response.request_body_mutation
        } else {
            &mut self.response.response_body_mutation
        };
        *place = mutation;
    }
}

/// A chunk, and the bytes around its beginning.
struct Search<'a> {
    /// The end of the body before the chunk, and as many bytes of the chunk.
    boundary: Vec<u8>,
    data: &'a [u8],
}

impl<'a> Search<'a> {
    fn new(tail: &[u8], data: &'a [u8], tail_len: usize) -> Self {
        let mut boundary = Vec::new();
        if !tail.is_empty() {
            boundary.extend_from_slice(tail);
            boundary.extend_from_slice(&data[..data.len().min(tail_len)]);
        }
        Self { boundary, data }
    }

    fn finds(&self, text: &Finder<'_>) -> bool {
        text.find(&self.boundary).is_some() || text.find(self.data).is_some()
    }
}

/// Appends `data` to `tail` and keeps the last `len` bytes.
fn keep_end(tail: &mut Vec<u8>, data: &[u8], len: usize) {
    let fresh = &data[data.len().saturating_sub(len)..];
    let surplus = (tail.len() + fresh.len()).saturating_sub(len);
    tail.drain(..surplus);
    tail.extend_from_slice(fresh);
}
