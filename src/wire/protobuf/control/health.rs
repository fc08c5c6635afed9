//! Health reports.

use super::InProtobuf;
use crate::protocol::{HealthState, HealthStatus};
use crate::wire::decode::{DecodeErrorKind, Decoded};
use crate::wire::protobuf::generated as proto;

impl InProtobuf for HealthStatus {
    type Proto = proto::HealthStatus;

    fn to_proto(&self) -> Self::Proto {
        let mut message = proto::HealthStatus {
            agent_id: self.agent_id.clone(),
            state: self.state.number() as i32,
            message: self.message.clone(),
            load: self.load.as_ref().map(InProtobuf::to_proto),
            resources: self.resources.as_ref().map(InProtobuf::to_proto),
            valid_until_ms: self.valid_until_ms,
            timestamp_ms: self.timestamp_ms,
            ..proto::HealthStatus::default()
        };
        match &self.state {
            HealthState::Healthy => {}
            HealthState::Degraded {
                disabled_features,
                timeout_multiplier,
            } => {
                message.disabled_features.clone_from(disabled_features);
                message.timeout_multiplier = *timeout_multiplier;
            }
            HealthState::Draining { eta_ms } => message.drain_eta_ms = *eta_ms,
            HealthState::Unhealthy {
                reason,
                recoverable,
            } => {
                message.unhealthy_reason = Some(reason.clone());
                message.recoverable = *recoverable;
            }
        }
        message
    }

    fn from_proto(message: Self::Proto) -> Decoded<Self> {
        let state = HealthState::from_number(i64::from(message.state))
            .ok_or(DecodeErrorKind::UnknownName("state"))?;
        let state = match state {
            HealthState::Healthy => state,
            HealthState::Degraded {
                timeout_multiplier: neutral,
                ..
            } => HealthState::Degraded {
                disabled_features: message.disabled_features,
                // proto3 reads an absent field as 0.
                timeout_multiplier: match message.timeout_multiplier {
                    0.0 => neutral,
                    multiplier => multiplier,
                },
            },
            HealthState::Draining { .. } => HealthState::Draining {
                eta_ms: message.drain_eta_ms,
            },
            HealthState::Unhealthy { .. } => HealthState::Unhealthy {
                reason: message.unhealthy_reason.unwrap_or_default(),
                recoverable: message.recoverable,
            },
        };
        Ok(Self {
            agent_id: message.agent_id,
            state,
            message: message.message,
            load: message.load.map(InProtobuf::from_proto).transpose()?,
            resources: message.resources.map(InProtobuf::from_proto).transpose()?,
            valid_until_ms: message.valid_until_ms,
            timestamp_ms: message.timestamp_ms,
        })
    }
}
