//! The headers that agents change, by name: what HAProxy before 3.4 needs to know.

use crate::exit::UsageError;
use crate::rules::ChangedMessage;
use std::collections::BTreeSet;
use std::iter;
use tollgate::HeaderOp;
use tollgate_haproxy::{MAX_ADDED, MAX_VARIABLE_NAME, added_kind, is_changeable, variable_name};

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

    /// Refuses names that a rule or a variable cannot hold, and headers that agents cannot change.
    pub(super) fn check(&self) -> Result<(), UsageError> {
        for names in [&self.of_requests, &self.of_responses, &self.of_denials] {
            for name in names {
                let reason = if !is_changeable(name) {
                    "is that of a header that agents may not change"
                } else if !is_usable(name) {
                    "cannot be part of the name of a variable"
                } else if is_ambiguous(names, name) {
                    "has the variables of another one"
                } else {
                    continue;
                };
                return Err(UsageError(format!("the header name {name:?} {reason}")));
            }
        }
        Ok(())
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

/// Refuses keys of routing hints that have no variable of their own.
pub(super) fn check_routes(keys: &[String]) -> Result<(), UsageError> {
    let mut variables = BTreeSet::new();
    for key in keys {
        let variable = variable_name("route_", key);
        let reason = if variable.len() > MAX_VARIABLE_NAME {
            "is too long for the name of a variable"
        } else if !variables.insert(variable) {
            "has the variable of another one"
        } else {
            continue;
        };
        return Err(UsageError(format!("the routing hint {key:?} {reason}")));
    }
    Ok(())
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
    let longest = added_kind("deny", MAX_ADDED);
    name.bytes().all(is_plain)
        && is_changeable(name)
        && variable_name(&longest, name).len() <= MAX_VARIABLE_NAME
}

/// Returns the lines that apply changes to headers by name. `rule` is what they begin with.
pub(super) fn lines(rule: &str, message: &str, names: &BTreeSet<String>) -> Vec<String> {
    let mut lines = Vec::new();
    for name in names {
        let variable = |kind: &str| {
            let variable = variable_name(&format!("{message}_{kind}_"), name);
            format!("var(txn.tollgate.{variable})")
        };
        let (del, set) = (variable("del"), variable("set"));
        lines.push(format!("{rule} del-header {name} if {{ {del} -m bool }}"));
        lines.push(format!(
            "{rule} set-header {name} %[{set}] if {{ {set} -m found }}"
        ));
        lines.extend(added_lines(rule, message, name, 1));
    }
    lines
}

/// Returns the lines that set the headers of denials by name.
pub(super) fn denial_lines(rule: &str, names: &BTreeSet<String>) -> Vec<String> {
    let mut lines = Vec::new();
    for name in names {
        let set = format!("var(txn.tollgate.{})", variable_name("deny_set_", name));
        lines.push(format!(
            "{rule} set-header {name} %[{set}] if {{ {set} -m found }}"
        ));
        lines.extend(added_lines(rule, "deny", name, 2));
    }
    lines
}

/// Returns the lines that add values to a header, from the value with this number on.
fn added_lines(rule: &str, message: &str, name: &str, first: usize) -> Vec<String> {
    let line = |number| {
        let variable = variable_name(&added_kind(message, number), name);
        let add = format!("var(txn.tollgate.{variable})");
        format!("{rule} add-header {name} %[{add}] if {{ {add} -m found }}")
    };
    (first..=MAX_ADDED).map(line).collect()
}

/// Returns the expression that all changes match which the named lines make.
pub(super) fn known_changes(names: &BTreeSet<String>) -> Option<String> {
    if names.is_empty() {
        return None;
    }
    let names: Vec<String> = names.iter().map(|name| name.replace('.', "\\.")).collect();
    let change = format!("(set|add[2-{MAX_ADDED}]?|del) ({})", names.join("|"));
    Some(format!("^{change}(,{change})*$"))
}

/// Returns the names of the variables for changes to these headers.
pub(super) fn variables(message: &str, names: &BTreeSet<String>) -> Vec<String> {
    let changed = ["del", "set"].map(|kind| format!("{message}_{kind}_"));
    let added = (1..=MAX_ADDED).map(|number| added_kind(message, number));
    let kinds: Vec<String> = changed.into_iter().chain(added).collect();
    let of_name = |name: &String| -> Vec<String> {
        let variables = kinds.iter().map(|kind| variable_name(kind, name));
        variables.collect()
    };
    names.iter().flat_map(of_name).collect()
}

/// Returns the names of the variables for a header of denials.
pub(super) fn denial_variables(name: &str) -> Vec<String> {
    let added = (2..=MAX_ADDED).map(|number| added_kind("deny", number));
    let kinds = iter::once("deny_set_".to_owned()).chain(added);
    kinds.map(|kind| variable_name(&kind, name)).collect()
}
