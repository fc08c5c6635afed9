//! Dynamic metadata: what Envoy's access logs and later filters can read of an answer.

use super::Writer;
use serde_json::Value;
use tollgate::AgentResponse;
use tollgate::response::AuditMetadata;

/// Namespace of audit data.
const AUDIT: &str = "tollgate";

/// Namespace of hints for choosing an upstream.
const ROUTE: &str = "tollgate.route";

/// Depth of `audit.custom` beyond which values are left out.
const MAX_DEPTH: usize = 32;

/// Audit data and routing hints that have not been sent yet.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    audit: AuditMetadata,
    route: Vec<(String, String)>,
}

impl Metadata {
    /// Takes the metadata out of an answer. Later answers add to lists and replace values.
    pub(crate) fn absorb(&mut self, answer: &mut AgentResponse) {
        if !answer.audit.is_empty() {
            let more = std::mem::take(&mut answer.audit);
            self.audit.tags.extend(more.tags);
            self.audit.rule_ids.extend(more.rule_ids);
            self.audit.reason_codes.extend(more.reason_codes);
            self.audit.confidence = more.confidence.or(self.audit.confidence);
            self.audit.custom.extend(more.custom);
        }
        if !answer.routing_metadata.is_empty() {
            self.route.extend(answer.routing_metadata.drain());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.audit.is_empty() && self.route.is_empty()
    }

    /// Returns whether there are routing hints.
    pub(crate) fn routes(&self) -> bool {
        !self.route.is_empty()
    }

    /// Returns the first rule id, or else the first reason code.
    pub(crate) fn reason(&self) -> Option<&str> {
        let audit = &self.audit;
        let reason = audit
            .rule_ids
            .first()
            .or_else(|| audit.reason_codes.first());
        reason.map(String::as_str)
    }

    /// Writes the fields of a `Struct` with a struct for each namespace.
    pub(crate) fn write(&self, out: &mut Writer<'_>) {
        if !self.audit.is_empty() {
            entry(out, AUDIT, |value| {
                value.message(5, |fields| self.write_audit(fields));
            });
        }
        if !self.route.is_empty() {
            entry(out, ROUTE, |value| {
                value.message(5, |fields| {
                    for (name, text) in &self.route {
                        entry(fields, name, |value| value.str(3, text));
                    }
                });
            });
        }
    }

    fn write_audit(&self, fields: &mut Writer<'_>) {
        let audit = &self.audit;
        for (name, texts) in [
            ("tags", &audit.tags),
            ("rule_ids", &audit.rule_ids),
            ("reason_codes", &audit.reason_codes),
        ] {
            if !texts.is_empty() {
                entry(fields, name, |value| list(value, texts));
            }
        }
        if let Some(confidence) = audit.confidence {
            entry(fields, "confidence", |value| {
                value.double(2, f64::from(confidence));
            });
        }
        if !audit.custom.is_empty() {
            entry(fields, "custom", |value| {
                value.message(5, |fields| {
                    for (name, json) in &audit.custom {
                        entry(fields, name, |value| write_json(value, json, MAX_DEPTH));
                    }
                });
            });
        }
    }
}

/// Writes a field of a `Struct`.
fn entry(out: &mut Writer<'_>, name: &str, write: impl FnOnce(&mut Writer<'_>)) {
    out.message(1, |entry| {
        entry.str(1, name);
        entry.message(2, write);
    });
}

fn list(value: &mut Writer<'_>, texts: &[String]) {
    value.message(6, |list| {
        for text in texts {
            list.message(1, |value| value.str(3, text));
        }
    });
}

/// Writes the content of a `Value`.
fn write_json(out: &mut Writer<'_>, json: &Value, depth: usize) {
    match json {
        Value::Bool(flag) => out.number(4, u64::from(*flag)),
        Value::Number(number) => out.double(2, number.as_f64().unwrap_or_default()),
        Value::String(text) => out.str(3, text),
        Value::Array(items) if depth > 0 => out.message(6, |list| {
            for item in items {
                list.message(1, |value| write_json(value, item, depth - 1));
            }
        }),
        Value::Object(fields) if depth > 0 => out.message(5, |object| {
            for (name, json) in fields {
                entry(object, name, |value| write_json(value, json, depth - 1));
            }
        }),
        _ => out.number(1, 0),
    }
}
