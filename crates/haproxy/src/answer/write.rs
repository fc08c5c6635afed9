//! Writes the answer to a question.

use super::changes::{Base, Change, Changes};
use super::denial::Denial;
use super::names::{MAX_ADDED, MAX_VARIABLE_NAME, added_kind, push_name, variable_name};
use super::variables::Variables;
use crate::ask::{Earlier, Fault, Outcome};
use crate::settings::Dialect;
use crate::wire::{FrameId, FrameKind, Value, put_frame};
use tollgate::response::AuditMetadata;
use tollgate::{AgentResponse, Decision, HeaderOp};

/// Bytes of a frame's length, which its size does not count.
const LENGTH_LEN: usize = 4;

/// The parts of an answer that are left out if it is too large, one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Extent {
    Decision,
    WithReasons,
    Whole,
}

/// Limits of the contents of an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AckLimits {
    /// Size limit of the frame in bytes.
    pub(crate) max_size: usize,
    /// Variables that are set beside those of tollgate.
    pub(crate) dialect: Dialect,
}

/// Names of the variables of a phase.
struct Names {
    action: &'static str,
    status: &'static str,
}

const REQUEST: Names = Names {
    action: "action",
    status: "status",
};
const RESPONSE: Names = Names {
    action: "res_action",
    status: "res_status",
};

/// Appends the answer to a question, within its limits. It always sets a variable.
///
/// If it is too large, the body is left out first, then the reasons. Changes of an allowed message
/// are never left out: it is denied instead.
pub(crate) fn write_ack(
    out: &mut Vec<u8>,
    id: FrameId,
    outcome: &mut Outcome,
    earlier: Earlier<'_>,
    limits: AckLimits,
) {
    let begin = out.len();
    for extent in [Extent::Whole, Extent::WithReasons, Extent::Decision] {
        let written = try_write(out, id, outcome, earlier, (extent, limits.dialect));
        if let Err(fault) = written {
            out.truncate(begin);
            outcome.refuse(fault);
            return write_ack(out, id, outcome, earlier, limits);
        }
        if out.len() - begin <= limits.max_size + LENGTH_LEN {
            return;
        }
        out.truncate(begin);
    }
    outcome.refuse(Fault::LargeAnswer);
    // Only denials are left. Without their reasons they fit into the smallest frame.
    let _ = try_write(
        out,
        id,
        outcome,
        earlier,
        (Extent::WithReasons, limits.dialect),
    );
    if out.len() - begin > limits.max_size + LENGTH_LEN {
        out.truncate(begin);
        let _ = try_write(
            out,
            id,
            outcome,
            earlier,
            (Extent::Decision, limits.dialect),
        );
    }
}

fn try_write(
    out: &mut Vec<u8>,
    id: FrameId,
    outcome: &Outcome,
    earlier: Earlier<'_>,
    (extent, dialect): (Extent, Dialect),
) -> Result<(), Fault> {
    let mut written = Ok(());
    put_frame(out, FrameKind::Ack, id, |writer| {
        let mut variables = Variables::new(writer);
        written = put_verdicts(&mut variables, outcome, earlier, extent);
        put_dialect(&mut variables, outcome, dialect);
    });
    written
}

fn put_verdicts(
    variables: &mut Variables<'_, '_>,
    outcome: &Outcome,
    earlier: Earlier<'_>,
    extent: Extent,
) -> Result<(), Fault> {
    if let Some(verdict) = &outcome.request {
        let is_allowed = verdict.decision == Decision::Allow;
        if is_allowed {
            let none = Earlier::default();
            put_changes(variables, "req", &verdict.request_headers, none)?;
            put_changes(variables, "res", &verdict.response_headers, none)?;
            put_routing(variables, verdict)?;
        }
        put_verdict(variables, &REQUEST, verdict, extent);
    }
    if let Some(verdict) = &outcome.response {
        if verdict.decision == Decision::Allow {
            put_changes(variables, "res", &verdict.response_headers, earlier)?;
            put_routing(variables, verdict)?;
        }
        put_verdict(variables, &RESPONSE, verdict, extent);
    }
    Ok(())
}

/// Sets the decision in the variables of another agent as well.
fn put_dialect(variables: &mut Variables<'_, '_>, outcome: &Outcome, dialect: Dialect) {
    let is_allowed = |verdict: &AgentResponse| verdict.decision == Decision::Allow;
    match dialect {
        Dialect::Tollgate => {}
        Dialect::Coraza => {
            if let (None, Some(verdict)) = (&outcome.request, &outcome.response) {
                put_verdict(variables, &REQUEST, verdict, Extent::Decision);
            }
        }
        Dialect::Crowdsec => {
            let allows = outcome.request.as_ref().is_some_and(is_allowed);
            let remediation = if allows { "allow" } else { "ban" };
            variables.set("remediation", Value::from(remediation));
        }
    }
}

/// Sets the decision. HAProxy stops at an action that it cannot read: a denial comes before what
/// belongs to it, and what belongs to an allowed message comes before that it is allowed.
fn put_verdict(
    variables: &mut Variables<'_, '_>,
    names: &Names,
    verdict: &AgentResponse,
    extent: Extent,
) {
    if verdict.decision == Decision::Allow {
        if extent >= Extent::WithReasons {
            put_audit(variables, &verdict.audit);
        }
        return variables.set(names.action, Value::from("allow"));
    }
    let denial = Denial::of(verdict);
    let action = if denial.location.is_some() {
        "redirect"
    } else {
        "deny"
    };
    variables.set(names.action, Value::from(action));
    variables.set(names.status, Value::Int64(denial.status.as_u16().into()));
    if let Some(location) = &denial.location {
        variables.set("data", Value::String(location.as_bytes()));
    }
    if let Some(challenge) = &denial.authenticate {
        variables.set("authenticate", Value::String(challenge.as_bytes()));
    }
    if extent >= Extent::WithReasons {
        put_audit(variables, &verdict.audit);
        put_denial_headers(variables, &denial);
    }
    if extent == Extent::Whole && !denial.body.is_empty() {
        variables.set("body", Value::String(&denial.body));
    }
}

fn put_denial_headers(variables: &mut Variables<'_, '_>, denial: &Denial) {
    let lists = [
        ("deny_set", denial.set_list()),
        ("deny_add", denial.added_list()),
    ];
    for (name, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
        variables.set(name, Value::Binary(list));
    }
    for header in &denial.headers {
        let kind = match header.number {
            1 => "deny_set_".to_owned(),
            number => added_kind("deny", number),
        };
        let variable = variable_name(&kind, header.name.as_str());
        if header.number <= MAX_ADDED && variable.len() <= MAX_VARIABLE_NAME {
            variables.set(&variable, Value::String(header.value.as_bytes()));
        }
    }
}

fn put_audit(variables: &mut Variables<'_, '_>, audit: &AuditMetadata) {
    if let Some(first) = audit.rule_ids.first() {
        variables.set("ruleid", Value::from(first.as_str()));
    }
    variables.set_list("rules", &audit.rule_ids);
    variables.set_list("tags", &audit.tags);
    variables.set_list("reason", &audit.reason_codes);
    if let Some(confidence) = audit.confidence {
        variables.set("confidence", Value::from(confidence.to_string().as_str()));
    }
}

fn put_routing(variables: &mut Variables<'_, '_>, verdict: &AgentResponse) -> Result<(), Fault> {
    for (key, value) in &verdict.routing_metadata {
        let mut name = "route_".to_owned();
        push_name(&mut name, key);
        // HAProxy drops longer ones without a sign.
        if name.len() > MAX_VARIABLE_NAME {
            return Err(Fault::LargeAnswer);
        }
        variables.set(&name, Value::from(value.as_str()));
    }
    Ok(())
}

/// Sets the changes to headers, after those of earlier lists: as lists for HAProxy from 3.4 on, by
/// the name of the header, and as a list of what there is, so that a rule can tell whether it knows
/// all of it.
fn put_changes(
    variables: &mut Variables<'_, '_>,
    message: &str,
    ops: &[HeaderOp],
    earlier: Earlier<'_>,
) -> Result<(), Fault> {
    if ops.is_empty() {
        return Ok(());
    }
    let changes = Changes::of(ops, earlier)?;
    let lists = [
        ("del", changes.removed()),
        ("set", changes.replaced()),
        ("add", changes.added()),
    ];
    for (kind, list) in lists {
        let name = format!("{message}_{kind}");
        if list.is_empty() {
            variables.unset(&name);
        } else {
            variables.set(&name, Value::Binary(&list));
        }
    }
    for change in changes.folded() {
        put_named(variables, message, change);
    }
    let kinds: Vec<String> = changes.folded().iter().flat_map(kinds_of).collect();
    variables.set(
        &format!("{message}_ops"),
        Value::from(kinds.join(",").as_str()),
    );
    Ok(())
}

fn put_named(variables: &mut Variables<'_, '_>, message: &str, change: &Change) {
    let name = |kind: &str| variable_name(&format!("{message}_{kind}_"), change.name.as_str());
    let added = |number| variable_name(&added_kind(message, number), change.name.as_str());
    if added(MAX_ADDED).len() > MAX_VARIABLE_NAME {
        return;
    }
    match &change.base {
        Base::Removed => variables.set(&name("del"), Value::Bool(true)),
        _ => variables.unset(&name("del")),
    }
    match &change.base {
        Base::Replaced(value) => variables.set(&name("set"), Value::String(value.as_bytes())),
        _ => variables.unset(&name("set")),
    }
    for number in 1..=MAX_ADDED {
        match change.added.get(number - 1) {
            Some(value) => variables.set(&added(number), Value::String(value.as_bytes())),
            None => variables.unset(&added(number)),
        }
    }
}

/// Returns the changes to a header as texts, such as `set x-user`. Several added values are `add2`
/// and so on, and more than there are variables for are `add-all`.
fn kinds_of(change: &Change) -> Vec<String> {
    let name = &change.name;
    let base = match &change.base {
        Base::Kept => None,
        Base::Removed => Some(format!("del {name}")),
        Base::Replaced(_) => Some(format!("set {name}")),
    };
    let added = match &*change.added {
        [] => None,
        [_] => Some(format!("add {name}")),
        several if several.len() <= MAX_ADDED => Some(format!("add{} {name}", several.len())),
        _ => Some(format!("add-all {name}")),
    };
    base.into_iter().chain(added).collect()
}

impl Outcome {
    /// Denies what was allowed, since it cannot be said.
    fn refuse(&mut self, fault: Fault) {
        for place in [&mut self.request, &mut self.response] {
            if place
                .as_ref()
                .is_some_and(|it| it.decision == Decision::Allow)
            {
                *place = Some(fault.to_answer());
            } else if let Some(denial) = place
                && fault == Fault::LargeAnswer
            {
                // A target or a challenge that does not fit.
                let status = Denial::of(denial).status;
                let status = if status.is_redirection() {
                    fault.status()
                } else {
                    status.as_u16()
                };
                *denial = AgentResponse::block(status, None);
            }
        }
    }
}
