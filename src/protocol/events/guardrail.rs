//! The event that asks for an inspection of text.

use crate::protocol::GuardrailInspectionType;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Text to be inspected, owned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardrailInspectEvent {
    /// Id that joins all events of one HTTP request.
    pub correlation_id: String,
    /// Kind of inspection.
    pub inspection_type: GuardrailInspectionType,
    /// Text to inspect.
    pub content: String,
    /// Language model that the text is meant for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Categories to look for; empty for all.
    #[serde(default)]
    pub categories: Vec<String>,
    /// Id of the proxy's route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_id: Option<String>,
    /// Additional values by name.
    #[serde(default)]
    pub metadata: HashMap<String, String>,
}

impl GuardrailInspectEvent {
    /// Returns the borrowed form of this event.
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
    /// Id that joins all events of one HTTP request.
    pub correlation_id: &'a str,
    /// Kind of inspection.
    pub inspection_type: GuardrailInspectionType,
    /// Text to inspect.
    pub content: &'a str,
    /// Language model that the text is meant for.
    pub model: Option<&'a str>,
    /// Categories to look for; empty for all.
    pub categories: Vec<&'a str>,
    /// Id of the proxy's route.
    pub route_id: Option<&'a str>,
    /// Additional values by name.
    pub metadata: Vec<(&'a str, &'a str)>,
}

impl GuardrailInspect<'_> {
    /// Copies this event to its owned form.
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
