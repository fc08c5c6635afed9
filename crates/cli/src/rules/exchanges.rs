//! Memory of the exchanges that have not ended.

use super::rule::{Fact, Phase, Rule, Unknown};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Size of one generation of [`Exchanges`], in bytes. The oldest exchanges may be dropped once
/// newer ones take that much.
const GENERATION: usize = 32 * 1024 * 1024;

/// Length limit of correlation ids.
const LONGEST_ID: usize = 256;

/// Estimate of the memory of an entry without its texts, in bytes.
const ENTRY: usize = 200;

/// The exchanges that have not ended, by correlation id.
///
/// An exchange may end without notice: if its proxy crashes, if it has no body, or because agents
/// are told about the end of a request only if they subscribe to it. To bound memory, exchanges are
/// kept in two generations: a full young generation becomes the old one, and the previous old one
/// is dropped. Each event of an exchange moves it to the young generation.
#[derive(Default)]
pub(super) struct Exchanges {
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<Box<str>, Exchange>,
    /// Memory of the young generation in bytes.
    young_size: usize,
    old: HashMap<Box<str>, Exchange>,
}

/// Knowledge about an exchange from its earlier events.
#[derive(Default)]
pub(super) struct Exchange {
    /// Outcomes of the conditions that the request's head decides, by rule.
    pub(super) request: Option<Box<[Fact]>>,
    /// Outcomes of the conditions that the response's head decides, by rule.
    pub(super) response: Option<Box<[Fact]>>,
    /// Set while a body is under way.
    pub(super) request_body: Option<Body>,
    pub(super) response_body: Option<Body>,
}

/// Progress of a body.
pub(super) struct Body {
    /// Set if the body was seen from its first byte on.
    pub(super) has_beginning: bool,
    /// The last bytes, in which a text may have begun.
    pub(super) tail: Vec<u8>,
    /// Content of the body up to here, if its chunks were dropped because a rule may still replace
    /// the whole body.
    pub(super) withheld: Option<Vec<u8>>,
    /// By rule.
    pub(super) progress: Box<[Progress]>,
}

/// Progress of a rule in a body.
#[derive(Clone, Copy, Default)]
pub(super) struct Progress {
    /// Set if the body contains the rule's text.
    pub(super) is_found: bool,
    /// Set if the rule has been applied to a chunk.
    pub(super) is_applied: bool,
}

impl Exchanges {
    /// Removes and returns an exchange.
    pub(super) fn take(&self, id: &str) -> Option<Exchange> {
        self.lock().remove(id)
    }

    /// Keeps an exchange until its next event.
    pub(super) fn keep(&self, id: &str, exchange: Exchange) -> Result<(), Unknown> {
        if exchange.is_empty() {
            return Ok(());
        }
        if id.len() > LONGEST_ID {
            return Err(Unknown::LongId);
        }
        self.lock().insert(id, exchange);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        // Every operation leaves the maps consistent, so a poisoned lock can be used.
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn insert(&mut self, id: &str, exchange: Exchange) {
        if self.young_size >= GENERATION {
            self.old = std::mem::take(&mut self.young);
            self.young_size = 0;
        }
        self.young_size += exchange.size(id);
        self.young.insert(id.into(), exchange);
    }

    fn remove(&mut self, id: &str) -> Option<Exchange> {
        let Some(exchange) = self.young.remove(id) else {
            return self.old.remove(id);
        };
        self.young_size -= exchange.size(id);
        Some(exchange)
    }
}

impl Exchange {
    /// Returns whether the conditions of a rule hold that the heads decide.
    pub(super) fn fact(&self, at: usize, rule: &Rule) -> Fact {
        let of_head = |is_needed: bool, facts: &Option<Box<[Fact]>>, unknown| match facts {
            _ if !is_needed => Fact::Holds,
            Some(facts) => facts[at],
            None => Fact::Unknown(unknown),
        };
        let request = of_head(
            rule.needs_request_head(),
            &self.request,
            Unknown::RequestHead,
        );
        request.and(of_head(
            rule.needs_response_head(),
            &self.response,
            Unknown::ResponseHead,
        ))
    }

    /// Returns the place for the body of a phase.
    pub(super) fn body(&mut self, phase: Phase) -> &mut Option<Body> {
        if phase.is_of_request() {
            &mut self.request_body
        } else {
            &mut self.response_body
        }
    }

    pub(super) fn has_body_under_way(&self) -> bool {
        self.request_body.is_some() || self.response_body.is_some()
    }

    fn is_empty(&self) -> bool {
        self.request.is_none() && self.response.is_none() && !self.has_body_under_way()
    }

    fn size(&self, id: &str) -> usize {
        let heads = [&self.request, &self.response].into_iter().flatten();
        let bodies = [&self.request_body, &self.response_body];
        let bodies = bodies.into_iter().flatten().map(Body::size);
        let heads = heads.map(|facts| size_of_val(&**facts));
        ENTRY + id.len() + heads.sum::<usize>() + bodies.sum::<usize>()
    }
}

impl Body {
    /// Creates the progress of a body for this number of rules.
    pub(super) fn new(rules: usize, has_beginning: bool) -> Self {
        Self {
            has_beginning,
            tail: Vec::new(),
            withheld: None,
            progress: vec![Progress::default(); rules].into(),
        }
    }
    fn size(&self) -> usize {
        let withheld = self.withheld.as_ref().map_or(0, Vec::capacity);
        self.tail.capacity() + withheld + size_of_val(&*self.progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange() -> Exchange {
        Exchange {
            request: Some(Box::new([Fact::Holds])),
            ..Exchange::default()
        }
    }

    #[test]
    fn memory_is_bounded_and_active_exchanges_stay() {
        let exchanges = Exchanges::default();
        let count = 4 * GENERATION / exchange().size("00000000");
        exchanges.keep("active", exchange()).unwrap();
        for id in 0..count {
            exchanges.keep(&format!("{id:08}"), exchange()).unwrap();
            if id % 1000 == 0 {
                let active = exchanges.take("active").expect("not forgotten");
                exchanges.keep("active", active).unwrap();
            }
        }
        assert!(exchanges.take("00000000").is_none());
        assert!(exchanges.take(&format!("{:08}", count - 1)).is_some());
        let generations = exchanges.lock();
        let kept = generations.young.len() + generations.old.len();
        assert!(kept <= count / 2 + 2, "{kept} of {count}");
        let young = generations.young.iter();
        let size: usize = young.map(|(id, exchange)| exchange.size(id)).sum();
        assert_eq!(generations.young_size, size);
    }

    #[test]
    fn nothing_is_kept_of_an_exchange_without_state() {
        let exchanges = Exchanges::default();
        exchanges.keep("a", Exchange::default()).unwrap();
        assert!(exchanges.take("a").is_none());
    }
}
