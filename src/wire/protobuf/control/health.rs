//! Health reports.

use super::{unwrap, wrap};
use crate::protocol::{HealthState, HealthStatus, LoadMetrics, ResourceMetrics};
use crate::wire::MessageType;
use crate::wire::decode::DecodeErrorKind;
use crate::wire::protobuf::generated as proto;

pub(in crate::wire) fn encode_health(status: &HealthStatus) -> Vec<u8> {
    let mut message = proto::HealthStatus {
        agent_id: status.agent_id.clone(),
        state: status.state.number() as i32,
        message: status.message.clone(),
        load: status.load.as_ref().map(load_to),
        resources: status.resources.as_ref().map(resources_to),
        valid_until_ms: status.valid_until_ms,
        timestamp_ms: status.timestamp_ms,
        ..proto::HealthStatus::default()
    };
    match &status.state {
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
    wrap(MessageType::HealthStatus, &message)
}

pub(in crate::wire) fn decode_health(payload: &[u8]) -> Result<HealthStatus, DecodeErrorKind> {
    let message: proto::HealthStatus = unwrap(MessageType::HealthStatus, payload)?;
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
    Ok(HealthStatus {
        agent_id: message.agent_id,
        state,
        message: message.message,
        load: message.load.map(load_from),
        resources: message.resources.map(resources_from),
        valid_until_ms: message.valid_until_ms,
        timestamp_ms: message.timestamp_ms,
    })
}

fn load_to(load: &LoadMetrics) -> proto::LoadMetrics {
    proto::LoadMetrics {
        in_flight: load.in_flight,
        queue_depth: load.queue_depth,
        avg_latency_ms: load.avg_latency_ms,
        p50_latency_ms: load.p50_latency_ms,
        p95_latency_ms: load.p95_latency_ms,
        p99_latency_ms: load.p99_latency_ms,
        requests_processed: load.requests_processed,
        requests_rejected: load.requests_rejected,
        requests_timed_out: load.requests_timed_out,
    }
}

fn load_from(load: proto::LoadMetrics) -> LoadMetrics {
    LoadMetrics {
        in_flight: load.in_flight,
        queue_depth: load.queue_depth,
        avg_latency_ms: load.avg_latency_ms,
        p50_latency_ms: load.p50_latency_ms,
        p95_latency_ms: load.p95_latency_ms,
        p99_latency_ms: load.p99_latency_ms,
        requests_processed: load.requests_processed,
        requests_rejected: load.requests_rejected,
        requests_timed_out: load.requests_timed_out,
    }
}

fn resources_to(used: &ResourceMetrics) -> proto::ResourceMetrics {
    proto::ResourceMetrics {
        cpu_percent: used.cpu_percent,
        memory_bytes: used.memory_bytes,
        memory_limit: used.memory_limit,
        active_threads: used.active_threads,
        open_fds: used.open_fds,
        fd_limit: used.fd_limit,
        connections: used.connections,
    }
}

fn resources_from(used: proto::ResourceMetrics) -> ResourceMetrics {
    ResourceMetrics {
        cpu_percent: used.cpu_percent,
        memory_bytes: used.memory_bytes,
        memory_limit: used.memory_limit,
        active_threads: used.active_threads,
        open_fds: used.open_fds,
        fd_limit: used.fd_limit,
        connections: used.connections,
    }
}
