//! Config updates and the responses to them.

use super::{unwrap, wrap};
use crate::protocol::{
    ConfigUpdateRequest, ConfigUpdateResponse, ConfigUpdateType, RuleDefinition,
};
use crate::wire::MessageType;
use crate::wire::decode::DecodeErrorKind;
use crate::wire::protobuf::generated as proto;
use crate::wire::protobuf::generated::config_update_request::UpdateType;
use crate::wire::protobuf::json_text;

pub(in crate::wire) fn encode_config_update(request: &ConfigUpdateRequest) -> Vec<u8> {
    let update_type = match request.update_type.clone() {
        ConfigUpdateType::RequestReload => UpdateType::RequestReload(proto::RequestReload {}),
        ConfigUpdateType::RuleUpdate {
            rule_set,
            rules,
            remove_rules,
        } => UpdateType::RuleUpdate(proto::RuleUpdate {
            rule_set,
            rules: rules.into_iter().map(rule_to).collect(),
            remove_rules,
        }),
        ConfigUpdateType::ListUpdate {
            list_id,
            add,
            remove,
        } => UpdateType::ListUpdate(proto::ListUpdate {
            list_id,
            add,
            remove,
        }),
        ConfigUpdateType::RestartRequired {
            reason,
            grace_period_ms,
        } => UpdateType::RestartRequired(proto::RestartRequired {
            reason,
            grace_period_ms,
        }),
        ConfigUpdateType::ConfigError { error, field } => {
            UpdateType::ConfigError(proto::ConfigError { error, field })
        }
    };
    let message = proto::ConfigUpdateRequest {
        request_id: request.request_id.clone(),
        timestamp_ms: request.timestamp_ms,
        update_type: Some(update_type),
    };
    wrap(MessageType::ConfigUpdateRequest, &message)
}

pub(in crate::wire) fn decode_config_update(
    payload: &[u8],
) -> Result<ConfigUpdateRequest, DecodeErrorKind> {
    let message: proto::ConfigUpdateRequest = unwrap(MessageType::ConfigUpdateRequest, payload)?;
    let update_type = match message.update_type {
        None => return Err(DecodeErrorKind::Missing("update_type")),
        Some(UpdateType::RequestReload(_)) => ConfigUpdateType::RequestReload,
        Some(UpdateType::RuleUpdate(update)) => ConfigUpdateType::RuleUpdate {
            rule_set: update.rule_set,
            rules: update
                .rules
                .into_iter()
                .map(rule_from)
                .collect::<Result<_, _>>()?,
            remove_rules: update.remove_rules,
        },
        Some(UpdateType::ListUpdate(update)) => ConfigUpdateType::ListUpdate {
            list_id: update.list_id,
            add: update.add,
            remove: update.remove,
        },
        Some(UpdateType::RestartRequired(restart)) => ConfigUpdateType::RestartRequired {
            reason: restart.reason,
            grace_period_ms: restart.grace_period_ms,
        },
        Some(UpdateType::ConfigError(error)) => ConfigUpdateType::ConfigError {
            error: error.error,
            field: error.field,
        },
    };
    Ok(ConfigUpdateRequest {
        update_type,
        request_id: message.request_id,
        timestamp_ms: message.timestamp_ms,
    })
}

pub(in crate::wire) fn encode_config_response(response: &ConfigUpdateResponse) -> Vec<u8> {
    let message = proto::ConfigUpdateResponse {
        request_id: response.request_id.clone(),
        accepted: response.accepted,
        error: response.error.clone(),
        timestamp_ms: response.timestamp_ms,
    };
    wrap(MessageType::ConfigUpdateResponse, &message)
}

pub(in crate::wire) fn decode_config_response(
    payload: &[u8],
) -> Result<ConfigUpdateResponse, DecodeErrorKind> {
    let message: proto::ConfigUpdateResponse = unwrap(MessageType::ConfigUpdateResponse, payload)?;
    Ok(ConfigUpdateResponse {
        request_id: message.request_id,
        accepted: message.accepted,
        error: message.error,
        timestamp_ms: message.timestamp_ms,
    })
}

fn rule_to(rule: RuleDefinition) -> proto::RuleDefinition {
    proto::RuleDefinition {
        id: rule.id,
        priority: rule.priority,
        definition_json: rule.definition.to_string(),
        enabled: rule.enabled,
        description: rule.description,
        tags: rule.tags,
    }
}

fn rule_from(rule: proto::RuleDefinition) -> Result<RuleDefinition, DecodeErrorKind> {
    Ok(RuleDefinition {
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
