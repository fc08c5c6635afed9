//! Changes to headers, folded into one change for each name.

use crate::ask::{Earlier, Fault};
use crate::wire::{Reader, Writer};
use http::{HeaderMap, HeaderName, HeaderValue};
use tollgate::HeaderOp;
use tollgate::proxy::{HeaderTarget, HeadersFull, apply_header_ops};

/// Changes to the headers of a message. HAProxy removes first, then sets, then adds.
#[derive(Default)]
pub(super) struct Changes {
    folded: Vec<Change>,
    /// Never has an entry: what is changed is not known here.
    none: HeaderMap,
}

/// The change to one header.
pub(super) struct Change {
    pub(super) name: HeaderName,
    pub(super) base: Base,
    /// Values that are added.
    pub(super) added: Vec<HeaderValue>,
}

/// The fate of the values that a header has.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Base {
    Kept,
    Removed,
    Replaced(HeaderValue),
}

impl Changes {
    /// Folds changes in their order, after those of earlier lists.
    pub(super) fn of(ops: &[HeaderOp], earlier: Earlier<'_>) -> Result<Self, Fault> {
        let mut changes = Self::default();
        changes.read(earlier).ok_or(Fault::InvalidArgument)?;
        apply_header_ops(&mut changes, ops).map_err(|_| Fault::HeaderChange)?;
        if changes.folded.iter().any(|change| is_skipped(&change.name)) {
            return Err(Fault::HeaderChange);
        }
        Ok(changes)
    }

    /// Returns the folded changes, each about another header.
    pub(super) fn folded(&self) -> &[Change] {
        &self.folded
    }

    fn read(&mut self, earlier: Earlier<'_>) -> Option<()> {
        let mut del = Reader::new(earlier.del.unwrap_or(b"\0"));
        loop {
            let name = del.string().ok()?;
            if name.is_empty() {
                break;
            }
            self.remove(&HeaderName::from_bytes(name).ok()?);
        }
        for (list, is_set) in [(earlier.set, true), (earlier.add, false)] {
            let mut list = Reader::new(list.unwrap_or(b"\0\0"));
            loop {
                let (name, value) = (list.string().ok()?, list.string().ok()?);
                if name.is_empty() {
                    break;
                }
                let name = HeaderName::from_bytes(name).ok()?;
                let value = HeaderValue::from_bytes(value).ok()?;
                let change = self.change(&name);
                if is_set {
                    change.base = Base::Replaced(value);
                } else {
                    change.added.push(value);
                }
            }
        }
        Some(())
    }

    fn change(&mut self, name: &HeaderName) -> &mut Change {
        let known = self.folded.iter().position(|change| change.name == *name);
        let at = known.unwrap_or_else(|| {
            self.folded.push(Change {
                name: name.clone(),
                base: Base::Kept,
                added: Vec::new(),
            });
            self.folded.len() - 1
        });
        &mut self.folded[at]
    }

    /// Writes the names that are removed, in the form of `del-headers-bin`.
    pub(super) fn removed(&self) -> Vec<u8> {
        let mut list = Vec::new();
        let removed = |change: &&Change| change.base == Base::Removed;
        for change in self.folded.iter().filter(removed) {
            Writer(&mut list).string(change.name.as_str());
        }
        ended(list, b"\0")
    }

    /// Writes the values that are set, in the form of `set-headers-bin`.
    pub(super) fn replaced(&self) -> Vec<u8> {
        let mut list = Vec::new();
        for change in &self.folded {
            if let Base::Replaced(value) = &change.base {
                put_pair(&mut list, &change.name, value);
            }
        }
        ended(list, b"\0\0")
    }

    /// Writes the values that are added, in the form of `add-headers-bin`.
    pub(super) fn added(&self) -> Vec<u8> {
        let mut list = Vec::new();
        for change in &self.folded {
            for value in &change.added {
                put_pair(&mut list, &change.name, value);
            }
        }
        ended(list, b"\0\0")
    }
}

/// Appends a header to a list for `set-headers-bin` or `add-headers-bin`.
pub(super) fn put_pair(list: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    let mut writer = Writer(list);
    writer.string(name.as_str());
    writer.string(value.as_bytes());
}

/// Ends a list; one without entries stays empty.
pub(super) fn ended(mut list: Vec<u8>, end: &[u8]) -> Vec<u8> {
    if !list.is_empty() {
        list.extend_from_slice(end);
    }
    list
}

/// Returns whether HAProxy leaves a header alone that agents may change elsewhere. The change would
/// be lost without a sign.
fn is_skipped(name: &HeaderName) -> bool {
    *name == http::header::EXPECT || name.as_str().starts_with("proxy-")
}

/// Returns whether agents may change a header of requests and responses through HAProxy.
///
/// ```
/// assert!(tollgate_haproxy::is_changeable("x-user"));
/// assert!(!tollgate_haproxy::is_changeable("content-length"));
/// ```
pub fn is_changeable(header: &str) -> bool {
    let change = HeaderOp::Set {
        name: header.to_owned(),
        value: String::new(),
    };
    Changes::of(&[change], Earlier::default()).is_ok()
}

impl HeaderTarget for Changes {
    fn headers(&self) -> &HeaderMap {
        &self.none
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeadersFull> {
        let change = self.change(&name);
        change.base = Base::Replaced(value);
        change.added.clear();
        Ok(())
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeadersFull> {
        self.change(&name).added.push(value);
        Ok(())
    }

    fn remove(&mut self, name: &HeaderName) {
        let change = self.change(name);
        change.base = Base::Removed;
        change.added.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: &str) -> HeaderOp {
        HeaderOp::Set {
            name: name.to_owned(),
            value: value.to_owned(),
        }
    }

    fn add(name: &str, value: &str) -> HeaderOp {
        HeaderOp::Add {
            name: name.to_owned(),
            value: value.to_owned(),
        }
    }

    fn remove(name: &str) -> HeaderOp {
        HeaderOp::Remove {
            name: name.to_owned(),
        }
    }

    fn lists(ops: &[HeaderOp], earlier: Earlier<'_>) -> [Vec<u8>; 3] {
        let changes = Changes::of(ops, earlier).unwrap();
        [changes.removed(), changes.replaced(), changes.added()]
    }

    #[test]
    fn later_changes_of_a_name_outweigh_earlier_ones() {
        let ops = [
            add("a", "1"),
            set("A", "2"),
            add("a", "3"),
            set("b", "4"),
            remove("b"),
        ];
        let [removed, replaced, added] = lists(&ops, Earlier::default());
        assert_eq!(removed, b"\x01b\0");
        assert_eq!(replaced, b"\x01a\x012\0\0");
        assert_eq!(added, b"\x01a\x013\0\0");
        let [removed, replaced, added] = lists(&[remove("a"), add("a", "1")], Earlier::default());
        assert_eq!(
            (&*removed, &*added),
            (&b"\x01a\0"[..], &b"\x01a\x011\0\0"[..])
        );
        assert!(replaced.is_empty());
    }

    #[test]
    fn earlier_lists_come_first() {
        let earlier = Earlier {
            del: Some(b"\x01c\0"),
            set: Some(b"\x01a\x011\x01b\x011\0\0"),
            add: Some(b"\x01a\x012\0\0"),
        };
        let [removed, replaced, added] = lists(&[remove("b"), add("a", "3")], earlier);
        assert_eq!(removed, b"\x01c\x01b\0");
        assert_eq!(replaced, b"\x01a\x011\0\0");
        assert_eq!(added, b"\x01a\x012\x01a\x013\0\0");
    }

    #[test]
    fn changes_that_haproxy_or_agents_may_not_make_are_refused() {
        for name in [
            "connection",
            "content-length",
            "expect",
            "proxy-authorization",
            "a b",
            "",
        ] {
            let changes = Changes::of(&[set(name, "1")], Earlier::default());
            assert_eq!(changes.err(), Some(Fault::HeaderChange), "{name}");
        }
        let split = Changes::of(&[set("a", "1\r\nb: 2")], Earlier::default());
        assert_eq!(split.err(), Some(Fault::HeaderChange));
        assert!(Changes::of(&[remove("host")], Earlier::default()).is_err());
        let unended = Earlier {
            set: Some(b"\x01a\x011"),
            ..Earlier::default()
        };
        let changes = Changes::of(&[set("a", "1")], unended);
        assert_eq!(changes.err(), Some(Fault::InvalidArgument));
    }
}
