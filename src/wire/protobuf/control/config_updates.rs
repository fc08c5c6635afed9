//! Config updates.

use super::{InProtobuf, convert};
use crate::protocol::{ConfigUpdateRequest, ConfigUpdateType, RuleDefinition};
use crate::wire::decode::{DecodeErrorKind, Decoded};
use crate::wire::protobuf::generated as proto;
use crate::wire::protobuf::generated::config_update_request::UpdateType;
use crate::wire::protobuf::json_text;

impl InProtobuf for ConfigUpdateRequest {
    type Proto = proto::ConfigUpdateRequest;

    fn to_proto(&self) -> Self::Proto {
        proto::ConfigUpdateRequest {
            request_id: self.request_id.clone(),
            timestamp_ms: self.timestamp_ms,
            update_type: Some(to_update_type(&self.update_type)),
        }
    }

    fn from_proto(message: Self::Proto) -> Decoded<Self> {
        let update_type = message.update_type;
        let update_type = update_type.ok_or(DecodeErrorKind::Missing("update_type"))?;
        Ok(Self {
            update_type: from_update_type(update_type)?,
            request_id: message.request_id,
            timestamp_ms: message.timestamp_ms,
        })
    }
}

/// Defines the conversion of the variants, which have the names of the generated ones.
macro_rules! update_types {
    ($($variant:ident { $($field:ident $(: $kind:ident)?),* })*) => {
        fn to_update_type(update: &ConfigUpdateType) -> UpdateType {
            match update {
                $(ConfigUpdateType::$variant { $($field),* } => {
                    UpdateType::$variant(proto::$variant {
                        $($field: convert::to!($field $(, $kind)?)),*
                    })
                })*
            }
        }

        fn from_update_type(update: UpdateType) -> Decoded<ConfigUpdateType> {
            Ok(match update {
                $(UpdateType::$variant(proto::$variant { $($field),* }) => {
                    ConfigUpdateType::$variant { $($field: convert::from!($field $(, $kind)?)),* }
                })*
            })
        }
    };
}

update_types! {
    RequestReload {}
    RuleUpdate { rule_set, rules: list, remove_rules }
    ListUpdate { list_id, add, remove }
    RestartRequired { reason, grace_period_ms }
    ConfigError { error, field }
}

impl InProtobuf for RuleDefinition {
    type Proto = proto::RuleDefinition;

    fn to_proto(&self) -> Self::Proto {
        let rule = self.clone();
        proto::RuleDefinition {
            id: rule.id,
            priority: rule.priority,
            definition_json: rule.definition.to_string(),
            enabled: rule.enabled,
            description: rule.description,
            tags: rule.tags,
        }
    }

    fn from_proto(rule: Self::Proto) -> Decoded<Self> {
        Ok(Self {
            id: rule.id,
            priority: rule.priority,
            definition: match rule.definition_json.as_str() {
                "" => serde_json::Value::Null,
                text => json_text::read(text)?,
            },
            enabled: rule.enabled,
            description: rule.description,
            tags: rule.tags,
        })
    }
}
