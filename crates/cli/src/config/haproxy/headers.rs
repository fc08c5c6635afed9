//! The headers that agents change, by name: what HAProxy before 3.4 needs to know.

use crate::rules::ChangedMessage;
use std::collections::BTreeSet;
use tollgate::HeaderOp;
use tollgate_haproxy::{MAX_VARIABLE_NAME, variable_name};

/// Names of headers in lower case.
#[derive(Default)]
pub(super) struct HeaderNames {
    pub(super) of_requests: BTreeSet<String>,
    pub(super) of_responses: BTreeSet<String>,
    pub(super) of_denials: BTreeSet<String>,
}

/// Returns the name of the header that a change is about.
pub(super) fn name_of(op: &HeaderOp) -> &str {
    match op {
        HeaderOp::Set { name, .. } | HeaderOp::Add { name, .. } | HeaderOp::Remove { name } => name,
    }
}

impl HeaderNames {
    pub(super) fn add(&mut self, message: ChangedMessage, name: &str) {
        let names = match message {
            ChangedMessage::Request => &mut self.of_requests,
            ChangedMessage::Response => &mut self.of_responses,
            ChangedMessage::Denial => &mut self.of_denials,
        };
        names.insert(name.to_ascii_lowercase());
    }

    /// Returns a name that a variable or a rule cannot hold.
    pub(super) fn unusable(&self) -> Option<&str> {
        let sets = [&self.of_requests, &self.of_responses, &self.of_denials];
        let mut unusable = sets.into_iter().flat_map(|names| {
            let is_unusable = |name: &&String| !is_usable(name) || is_ambiguous(names, name);
            names.iter().filter(is_unusable)
        });
        unusable.next().map(String::as_str)
    }

    /// Leaves out names that cannot be used: a change of such a header is refused.
    pub(super) fn keep_usable(&mut self) {
        for names in [
            &mut self.of_requests,
            &mut self.of_responses,
            &mut self.of_denials,
        ] {
            let all = names.clone();
            names.retain(|name| is_usable(name) && !is_ambiguous(&all, name));
        }
    }
}

/// Returns whether another name has the variables of this one, as `x-user` and `x_user` have.
fn is_ambiguous(names: &BTreeSet<String>, name: &str) -> bool {
    let of = |name: &str| variable_name("", name);
    names
        .iter()
        .any(|other| other != name && of(other) == of(name))
}

fn is_usable(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.bytes().all(is_plain) && variable_name("deny_set_", name).len() <= MAX_VARIABLE_NAME
}

/// Returns the lines that apply changes to headers by name. `rule` is what they begin with.
pub(super) fn lines(rule: &str, message: &str, names: &BTreeSet<String>) -> Vec<String> {
    let mut lines = Vec::new();
    for name in names {
        let variable = |kind: &str| {
            let variable = variable_name(&format!("{message}_{kind}_"), name);
            format!("var(txn.tollgate.{variable})")
        };
        let (del, set, add) = (variable("del"), variable("set"), variable("add"));
        lines.push(format!("{rule} del-header {name} if {{ {del} -m bool }}"));
        lines.push(format!(
            "{rule} set-header {name} %[{set}] if {{ {set} -m found }}"
        ));
        lines.push(format!(
            "{rule} add-header {name} %[{add}] if {{ {add} -m found }}"
        ));
    }
    lines
}

/// Returns the expression that all changes match which the named lines make.
pub(super) fn known_changes(names: &BTreeSet<String>) -> Option<String> {
    if names.is_empty() {
        return None;
    }
    let names: Vec<String> = names.iter().map(|name| name.replace('.', "\\.")).collect();
    let change = format!("(set|add|del) ({})", names.join("|"));
    Some(format!("^{change}(,{change})*$"))
}

/// Returns the names of the variables for changes to these headers.
pub(super) fn variables(message: &str, names: &BTreeSet<String>) -> Vec<String> {
    let of_name = |name: &String| {
        ["del", "set", "add"].map(|kind| variable_name(&format!("{message}_{kind}_"), name))
    };
    names.iter().flat_map(of_name).collect()
}
