//! Header changes, folded into the form in which Envoy applies them.
//!
//! Envoy applies all removals of an answer before it sets anything, whatever the order of an agent.
//! Folded by name the outcome is that of the agent's order: a name that is only removed is removed;
//! one that gets values after that has the first replace, and the others add.

use crate::wire::{HeadChange, SetMode};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use smallvec::SmallVec;
use tollgate::HeaderOp;
use tollgate::proxy::{HeaderOpError, HeaderTarget, HeadersFull, apply_header_ops};

/// Changes to the headers of one message, by name.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    names: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    name: HeaderName,
    /// Set if values that were there before are gone.
    is_removed: bool,
    values: SmallVec<[HeaderValue; 1]>,
}

/// Reason why a change to headers cannot be passed on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Op(#[from] HeaderOpError),
    /// Envoy would leave the change out without a word.
    #[error("Envoy does not let agents change the header '{0}'")]
    Ignored(HeaderName),
}

impl Fold {
    /// Adds changes, which come after those that were added before.
    pub(crate) fn add_ops(&mut self, ops: &[HeaderOp], host: HostRule) -> Result<(), Refused> {
        if ops.is_empty() {
            return Ok(());
        }
        apply_header_ops(self, ops)?;
        let mut names = self.names.iter().map(|change| &change.name);
        match names.find(|name| is_ignored(name, host)) {
            Some(name) => Err(Refused::Ignored(name.clone())),
            None => Ok(()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Returns whether a header is changed.
    pub(crate) fn changes(&self, name: &HeaderName) -> bool {
        self.names.iter().any(|change| change.name == *name)
    }

    /// Returns whether a header is removed without a new value.
    pub(crate) fn removes_any(&self) -> bool {
        self.names.iter().any(Change::only_removes)
    }

    /// Takes the changes, in the form in which they are written.
    pub(crate) fn take(&mut self) -> HeadChange {
        let mut whole = HeadChange::default();
        for change in self.names.drain(..) {
            if change.only_removes() {
                whole.removed.push(change.name);
                continue;
            }
            let mut mode = match change.is_removed {
                true => SetMode::Replace,
                false => SetMode::Append,
            };
            for value in change.values {
                whole.set.push((change.name.clone(), value, mode));
                mode = SetMode::Append;
            }
        }
        whole
    }

    fn of(&mut self, name: HeaderName) -> &mut Change {
        let at = match self.names.iter().position(|change| change.name == name) {
            Some(at) => at,
            None => {
                self.names.push(Change {
                    name,
                    is_removed: false,
                    values: SmallVec::new(),
                });
                self.names.len() - 1
            }
        };
        &mut self.names[at]
    }
}

impl Change {
    fn only_removes(&self) -> bool {
        self.is_removed && self.values.is_empty()
    }

    fn remove(&mut self) {
        self.is_removed = true;
        self.values.clear();
    }
}

/// Rule for changes of `host`, which choose another route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostRule {
    MaySet,
    MayNotSet,
}

/// Returns whether Envoy leaves changes of a header out.
fn is_ignored(name: &HeaderName, host: HostRule) -> bool {
    (*name == header::HOST && host == HostRule::MayNotSet) || name.as_str().starts_with("x-envoy-")
}

/// Records the changes. Those that are not allowed for any proxy do not come here.
impl HeaderTarget for Fold {
    fn headers(&self) -> &HeaderMap {
        static NONE: std::sync::LazyLock<HeaderMap> = std::sync::LazyLock::new(HeaderMap::new);
        &NONE
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeadersFull> {
        let change = self.of(name);
        change.remove();
        change.values.push(value);
        Ok(())
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeadersFull> {
        self.of(name).values.push(value);
        Ok(())
    }

    fn remove(&mut self, name: &HeaderName) {
        self.of(name.clone()).remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn op() -> impl Strategy<Value = HeaderOp> {
        let name = prop_oneof!["x-a", "x-b", "X-A"];
        (0..3, name, "[a-c]{0,2}").prop_map(|(kind, name, value)| match kind {
            0 => HeaderOp::Set { name, value },
            1 => HeaderOp::Add { name, value },
            _ => HeaderOp::Remove { name },
        })
    }

    /// Applies a change as Envoy does: all removals first.
    fn apply(change: &HeadChange, headers: &mut HeaderMap) {
        for name in &change.removed {
            headers.remove(name);
        }
        for (name, value, mode) in &change.set {
            match mode {
                SetMode::Replace => drop(headers.insert(name.clone(), value.clone())),
                SetMode::Append => drop(headers.append(name.clone(), value.clone())),
            }
        }
    }

    proptest! {
        #[test]
        fn outcome_is_that_of_the_agents_order(
            before in prop::collection::vec(("x-[ab]", "[a-c]{1,2}"), 0..4),
            ops in prop::collection::vec(op(), 0..8),
        ) {
            let mut expected = HeaderMap::new();
            for (name, value) in &before {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                expected.append(name, value.parse().unwrap());
            }
            let mut headers = expected.clone();
            apply_header_ops(&mut expected, &ops).unwrap();
            let mut fold = Fold::default();
            fold.add_ops(&ops, HostRule::MayNotSet).unwrap();
            apply(&fold.take(), &mut headers);
            prop_assert_eq!(headers, expected);
        }
    }

    #[test]
    fn changes_that_envoy_would_ignore_are_refused() {
        let set = |name: &str| {
            [HeaderOp::Set {
                name: name.to_owned(),
                value: "v".to_owned(),
            }]
        };
        let refused = |name: &str, host| Fold::default().add_ops(&set(name), host).is_err();
        for name in ["x-envoy-a", "content-length", "connection", ":path", "a b"] {
            assert!(refused(name, HostRule::MaySet), "{name}");
        }
        assert!(refused("Host", HostRule::MayNotSet));
        assert!(!refused("Host", HostRule::MaySet));
    }
}
