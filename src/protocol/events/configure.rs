//! The event that carries settings.

use crate::protocol::ConfigUpdateType;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Settings for an agent: a JSON object, from which agents read `config` and `config_version`.
#[derive(Debug, Clone, PartialEq)]
pub struct Configure<'a> {
    /// Id that matches the answer to this event.
    pub correlation_id: &'a str,
    /// The whole object without its `correlation_id`.
    pub settings: Map<String, Value>,
}

impl Configure<'_> {
    /// Returns the settings themselves, the object's `config`.
    pub fn config(&self) -> Option<&Value> {
        self.settings.get("config")
    }

    /// Returns the version of the settings, the object's `config_version`.
    pub fn config_version(&self) -> Option<&str> {
        self.settings.get("config_version")?.as_str()
    }

    /// Returns the id of a pushed update, which may be sent more than once; `None` if this is not a
    /// pushed update.
    pub fn push_id(&self) -> Option<&str> {
        self.settings.get("request_id")?.as_str()
    }

    /// Returns the pushed update if this is one. See
    /// [`ConfigPusher`](crate::config_push::ConfigPusher).
    pub fn update(&self) -> Option<ConfigUpdateType> {
        self.push_id()?;
        ConfigUpdateType::deserialize(self.config()?).ok()
    }
}
