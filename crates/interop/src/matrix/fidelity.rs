use serde_json::Value;

/// Fields that `zentinel-agent-protocol` omits or replaces over gRPC, as JSON pointers into events.
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

/// Fields that it omits or replaces in answers.
const IN_ANSWERS: [&str; 4] = [
    "/routing_metadata",
    "/request_body_mutation",
    "/response_body_mutation",
    "/websocket_decision",
];

/// Fields that it omits or replaces in metrics reports.
const IN_METRICS: [&str; 1] = ["/agent_id"];

/// Fields that may be lost while the others arrive.
#[derive(Debug, Clone, Copy)]
pub(super) struct LossyFields(&'static [&'static str]);

impl LossyFields {
    pub(super) const NONE: Self = Self(&[]);
    pub(super) const IN_EVENTS: Self = Self(&IN_EVENTS);
    pub(super) const IN_ANSWERS: Self = Self(&IN_ANSWERS);
    pub(super) const IN_METRICS: Self = Self(&IN_METRICS);

    /// Returns whether the field at this pointer may be lost.
    pub(super) fn has(self, pointer: &str) -> bool {
        self.0.contains(&pointer)
    }

    /// Returns which of these fields did not arrive as they were sent, or `None` if any other field
    /// did not.
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

/// Returns whether a field is empty.
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
    fn nothing_is_missing_in_equal_messages() {
        let missing = LossyFields::IN_EVENTS.missing(&sent(), &sent());
        assert_eq!(missing, Some(vec![]));
    }

    #[test]
    fn lost_fields_are_named() {
        let arrived = json!({"opcode": "1", "fin": true, "data": "aGk="});
        let missing = LossyFields::IN_EVENTS.missing(&sent(), &arrived);
        assert_eq!(missing, Some(vec!["opcode"]));
        assert_eq!(LossyFields::NONE.missing(&sent(), &arrived), None);
    }

    #[test]
    fn other_differences_are_not_accepted() {
        let arrived = json!({"opcode": "1", "fin": true, "data": "aG8="});
        assert_eq!(LossyFields::IN_EVENTS.missing(&sent(), &arrived), None);
    }
}
