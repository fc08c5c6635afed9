use crate::protocol::GuardrailInspectionType;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Text to be inspected, owned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardrailInspectEvent {
    /// Joins all events of one HTTP request.
    pub correlation_id: String,
    /// What to look for.
    pub inspection_type: GuardrailInspectionType,
    /// The text.
    pub content: String,
    /// The language model it is meant for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Only these categories; empty means all.
    #[serde(default)]
    pub categories: Vec<String>,
    /// The proxy's route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_id: Option<String>,
    /// Anything else.
    #[serde(default)]
    pub metadata: HashMap<String, String>,
}

impl GuardrailInspectEvent {
    /// The same event, borrowed.
    pub fn borrowed(&self) -> GuardrailInspect<'_> {
        GuardrailInspect {
            correlation_id: &self.correlation_id,
            inspection_type: self.inspection_type,
            content: &self.content,
            model: self.model.as_deref(),
            categories: self.categories.iter().map(String::as_str).collect(),
            route_id: self.route_id.as_deref(),
            metadata: self
                .metadata
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect(),
        }
    }
}

/// Text to be inspected, borrowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardrailInspect<'a> {
    /// Joins all events of one HTTP request.
    pub correlation_id: &'a str,
    /// What to look for.
    pub inspection_type: GuardrailInspectionType,
    /// The text.
    pub content: &'a str,
    /// The language model it is meant for.
    pub model: Option<&'a str>,
    /// Only these categories; empty means all.
    pub categories: Vec<&'a str>,
    /// The proxy's route.
    pub route_id: Option<&'a str>,
    /// Anything else.
    pub metadata: Vec<(&'a str, &'a str)>,
}

impl GuardrailInspect<'_> {
    /// A copy that borrows nothing.
    pub fn to_event(&self) -> GuardrailInspectEvent {
        GuardrailInspectEvent {
            correlation_id: self.correlation_id.to_owned(),
            inspection_type: self.inspection_type,
            content: self.content.to_owned(),
            model: self.model.map(str::to_owned),
            categories: self
                .categories
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
            route_id: self.route_id.map(str::to_owned),
            metadata: self
                .metadata
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        }
    }
}
