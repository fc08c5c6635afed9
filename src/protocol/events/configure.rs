use crate::protocol::ConfigUpdateType;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Settings for an agent: any object; agents read `config` and `config_version` from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Configure<'a> {
    /// Matches the answer.
    pub correlation_id: &'a str,
    /// The whole object, without its `correlation_id`.
    pub settings: Map<String, Value>,
}

impl Configure<'_> {
    /// The settings proper, the object's `config`.
    pub fn config(&self) -> Option<&Value> {
        self.settings.get("config")
    }

    /// Their version, the object's `config_version`.
    pub fn config_version(&self) -> Option<&str> {
        self.settings.get("config_version")?.as_str()
    }

    /// Names a pushed update, which may come more than once; `None` for settings that are no update.
    pub fn push_id(&self) -> Option<&str> {
        self.settings.get("request_id")?.as_str()
    }

    /// The pushed update, if this is one: see [`ConfigPusher`](crate::ConfigPusher).
    pub fn update(&self) -> Option<ConfigUpdateType> {
        self.push_id()?;
        ConfigUpdateType::deserialize(self.config()?).ok()
    }
}
