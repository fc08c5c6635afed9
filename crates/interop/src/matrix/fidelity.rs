use serde_json::Value;

/// What the published crate leaves out or replaces over gRPC, as JSON pointers into events.
const IN_EVENTS: [&str; 8] = [
    "/metadata/timestamp",
    "/metadata/tls_cipher",
    "/upstream_attempts",
    "/opcode",
    "/frame_index",
    "/fin",
    "/route_id",
    "/client_ip",
];

/// The same for answers.
const IN_ANSWERS: [&str; 4] = [
    "/routing_metadata",
    "/request_body_mutation",
    "/response_body_mutation",
    "/websocket_decision",
];

/// The same for metrics reports.
const IN_METRICS: [&str; 1] = ["/agent_id"];

/// What may be missing without the rest being something else.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dispensable(&'static [&'static str]);

impl Dispensable {
    pub(super) const NOTHING: Self = Self(&[]);
    pub(super) const IN_EVENTS: Self = Self(&IN_EVENTS);
    pub(super) const IN_ANSWERS: Self = Self(&IN_ANSWERS);
    pub(super) const IN_METRICS: Self = Self(&IN_METRICS);

    /// Whether the field at this pointer may be missing.
    pub(super) fn has(self, pointer: &str) -> bool {
        self.0.contains(&pointer)
    }

    /// Which of these fields did not arrive as they were sent; `None` if anything else did not either.
    pub(super) fn missing(self, sent: &Value, arrived: &Value) -> Option<Vec<&'static str>> {
        let (mut sent, mut arrived) = (sent.clone(), arrived.clone());
        let mut missing = Vec::new();
        for pointer in self.0 {
            let (Some(sent), Some(arrived)) =
                (sent.pointer_mut(pointer), arrived.pointer_mut(pointer))
            else {
                continue;
            };
            if sent.take() != arrived.take() {
                missing.push(pointer.rsplit('/').next().unwrap_or(pointer));
            }
        }
        (sent == arrived).then_some(missing)
    }
}

/// Whether a field has nothing in it.
pub(super) fn is_empty(field: &Value) -> bool {
    match field {
        Value::Null => true,
        Value::Object(entries) => entries.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sent() -> Value {
        json!({"opcode": "text", "fin": true, "data": "aGk="})
    }

    #[test]
    fn what_arrives_as_it_was_sent_lacks_nothing() {
        let missing = Dispensable::IN_EVENTS.missing(&sent(), &sent());
        assert_eq!(missing, Some(vec![]));
    }

    #[test]
    fn fields_that_may_be_missing_are_named() {
        let arrived = json!({"opcode": "1", "fin": true, "data": "aGk="});
        let missing = Dispensable::IN_EVENTS.missing(&sent(), &arrived);
        assert_eq!(missing, Some(vec!["opcode"]));
        assert_eq!(Dispensable::NOTHING.missing(&sent(), &arrived), None);
    }

    #[test]
    fn with_other_content_it_is_something_else() {
        let arrived = json!({"opcode": "1", "fin": true, "data": "aG8="});
        assert_eq!(Dispensable::IN_EVENTS.missing(&sent(), &arrived), None);
    }
}
