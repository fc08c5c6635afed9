//! One event and the agent's answer, formatted as text and as JSON.

use crate::output::{micros, printable};
use serde::Serialize;
use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;
use tollgate::{
    AgentResponse, Decision, EventType, HeaderOp,
    response::{AuditMetadata, BodyMutation},
};

/// One event and its answer.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    event: &'static str,
    decision: &'static str,
    #[serde(flatten)]
    details: Details,
    request_headers: Vec<HeaderOp>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    response_headers: Vec<HeaderOp>,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    routing_metadata: HashMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    audit: AuditMetadata,
    #[serde(skip_serializing_if = "is_default")]
    needs_more: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_body_mutation: Option<BodyMutation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_body_mutation: Option<BodyMutation>,
    latency_us: f64,
}

/// Fields that only some kinds of decisions have.
#[derive(Debug, Default, Serialize)]
struct Details {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<HashMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    challenge_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<HashMap<String, String>>,
}

impl Step {
    /// Creates a step from an event's type, its answer and the call's duration.
    pub(super) fn new(event: EventType, response: AgentResponse, latency: Duration) -> Self {
        Self {
            event: event.as_str(),
            decision: response.decision.as_str(),
            details: Details::of(response.decision),
            request_headers: response.request_headers,
            response_headers: response.response_headers,
            routing_metadata: response.routing_metadata,
            audit: response.audit,
            needs_more: response.needs_more,
            request_body_mutation: response.request_body_mutation,
            response_body_mutation: response.response_body_mutation,
            latency_us: micros(latency),
        }
    }

    fn is_allowed(&self) -> bool {
        self.decision == Decision::Allow.as_str()
    }
}

/// Returns the first decision other than `allow`, or `allow` if there is none.
pub(super) fn final_decision(steps: &[Step]) -> &'static str {
    steps
        .iter()
        .find(|step| !step.is_allowed())
        .map_or(Decision::Allow.as_str(), |step| step.decision)
}

impl Details {
    fn of(decision: Decision) -> Self {
        match decision {
            Decision::Allow => Self::default(),
            Decision::Block {
                status,
                body,
                headers,
            } => Self {
                status: Some(status),
                body,
                headers,
                ..Self::default()
            },
            Decision::Redirect { url, status } => Self {
                status: Some(status),
                url: Some(url),
                ..Self::default()
            },
            Decision::Challenge {
                challenge_type,
                params,
            } => Self {
                challenge_type: Some(challenge_type),
                params: Some(params),
                ..Self::default()
            },
        }
    }
}

/// Writes one line for the decision, then an indented line for each further field of the answer.
impl Display for Step {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let decision = match self.details.status {
            Some(status) => format!("{} {status}", self.decision),
            None => self.decision.to_owned(),
        };
        write!(
            formatter,
            "{:<20}{decision:<14}{:>9.1} µs",
            self.event, self.latency_us
        )?;
        for line in self.detail_lines() {
            write!(formatter, "\n    {}", printable(&line))?;
        }
        Ok(())
    }
}

impl Step {
    fn detail_lines(&self) -> Vec<String> {
        let mut lines = self.details.lines();
        let ops = |side: &'static str| move |op: &HeaderOp| describe_op(side, op);
        lines.extend(self.request_headers.iter().map(ops("request")));
        lines.extend(self.response_headers.iter().map(ops("response")));
        lines.extend(pairs("routing", &self.routing_metadata));
        lines.extend(describe_audit(&self.audit));
        if self.needs_more {
            lines.push("needs more of the body".to_owned());
        }
        let mutation = |side: &'static str| move |it: &BodyMutation| describe_mutation(side, it);
        lines.extend(self.request_body_mutation.as_ref().map(mutation("request")));
        lines.extend(
            self.response_body_mutation
                .as_ref()
                .map(mutation("response")),
        );
        lines
    }
}

impl Details {
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        lines.extend(self.body.as_ref().map(|body| format!("body: {body}")));
        lines.extend(self.headers.iter().flat_map(|it| pairs("header", it)));
        lines.extend(self.url.as_ref().map(|url| format!("to {url}")));
        lines.extend(
            self.challenge_type
                .as_ref()
                .map(|kind| format!("challenge {kind}")),
        );
        lines.extend(self.params.iter().flat_map(|it| pairs("parameter", it)));
        lines
    }
}

fn describe_op(side: &str, op: &HeaderOp) -> String {
    match op {
        HeaderOp::Set { name, value } => format!("set {side} header {name}: {value}"),
        HeaderOp::Add { name, value } => format!("add {side} header {name}: {value}"),
        HeaderOp::Remove { name } => format!("remove {side} header {name}"),
    }
}

fn describe_mutation(side: &str, mutation: &BodyMutation) -> String {
    let index = mutation.chunk_index;
    match &mutation.data {
        None => format!("pass {side} body chunk {index} unchanged"),
        Some(data) if data.is_empty() => format!("drop {side} body chunk {index}"),
        Some(data) => format!(
            "replace {side} body chunk {index} by {} bytes: {}",
            data.len(),
            String::from_utf8_lossy(&data[..data.len().min(80)])
        ),
    }
}

fn describe_audit(audit: &AuditMetadata) -> Vec<String> {
    let lists = [
        ("tags", &audit.tags),
        ("rules", &audit.rule_ids),
        ("reasons", &audit.reason_codes),
    ];
    let named = lists.into_iter().filter(|(_, entries)| !entries.is_empty());
    let mut lines: Vec<String> = named
        .map(|(name, entries)| format!("{name}: {}", entries.join(", ")))
        .collect();
    lines.extend(audit.confidence.map(|it| format!("confidence: {it}")));
    lines.extend(
        audit
            .custom
            .iter()
            .map(|(name, value)| format!("audit {name}: {value}")),
    );
    lines
}

fn pairs(what: &str, map: &HashMap<String, String>) -> Vec<String> {
    let mut lines: Vec<String> = map
        .iter()
        .map(|(name, value)| format!("{what} {name}: {value}"))
        .collect();
    lines.sort_unstable();
    lines
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(response: AgentResponse) -> Step {
        Step::new(
            EventType::RequestHeaders,
            response,
            Duration::from_micros(12),
        )
    }

    fn as_json(response: AgentResponse) -> serde_json::Value {
        serde_json::to_value(step(response)).unwrap()
    }

    #[test]
    fn plain_allow_has_no_optional_fields() {
        let expected = json!({
            "event": "request_headers", "decision": "allow", "request_headers": [], "latency_us": 12.0
        });
        assert_eq!(as_json(AgentResponse::default_allow()), expected);
    }

    #[test]
    fn block_and_redirect_have_a_status() {
        let block = as_json(AgentResponse::block(403, None));
        assert_eq!(
            (&block["decision"], &block["status"]),
            (&json!("block"), &json!(403))
        );
        let redirect = as_json(AgentResponse::redirect("/login".to_owned(), 302));
        assert_eq!(redirect["status"], 302);
        assert_eq!(redirect["url"], "/login");
    }

    #[test]
    fn mutations_are_in_the_json() {
        let response = AgentResponse::needs_more_data()
            .with_request_body_mutation(BodyMutation::replace(2, "ab"))
            .add_response_header(HeaderOp::Remove {
                name: "server".to_owned(),
            });
        let step = as_json(response);
        assert_eq!(step["needs_more"], true);
        assert_eq!(
            step["request_body_mutation"],
            json!({"data": "YWI=", "chunk_index": 2})
        );
        assert_eq!(
            step["response_headers"],
            json!([{"remove": {"name": "server"}}])
        );
    }

    #[test]
    fn first_decision_other_than_allow_is_final() {
        let allow = || step(AgentResponse::default_allow());
        let block = step(AgentResponse::block(403, None));
        let redirect = step(AgentResponse::redirect("/".to_owned(), 302));
        assert_eq!(final_decision(&[allow()]), "allow");
        assert_eq!(final_decision(&[allow(), block, redirect]), "block");
    }

    #[test]
    fn control_characters_from_the_agent_are_escaped() {
        let shown = step(AgentResponse::block(403, Some("\u{1b}[2J\nno".to_owned()))).to_string();
        assert!(!shown.contains('\u{1b}'));
        assert_eq!(shown.lines().count(), 2);
    }
}
