//! Integration tests: one module for each kind of behaviour, over real sockets and the public API.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod adding;
mod affinity;
mod agent_endpoints;
mod agent_handlers;
mod agent_health;
mod agent_logs;
mod agent_server;
mod agent_sockets;
mod answers;
mod auto_traits;
mod backpressure;
mod bad_agents;
mod bad_proxies;
mod balancing;
mod call_outcomes;
mod call_timings;
mod call_traces;
mod cancelling;
mod circuit_breaker;
mod compact_events;
mod config_push;
mod config_requests;
mod connecting;
mod connection_floods;
mod dialer_token_file;
mod dropped_calls;
mod events;
mod extension;
mod fairness;
mod flow_control;
mod flow_control_modes;
#[cfg(feature = "grpc")]
mod generated_protobuf;
#[cfg(feature = "grpc")]
mod grpc;
#[cfg(feature = "grpc")]
mod grpc_bad_agents;
#[cfg(feature = "grpc")]
mod grpc_bad_proxies;
#[cfg(feature = "grpc")]
mod grpc_extension;
#[cfg(feature = "grpc")]
mod grpc_floods;
#[cfg(feature = "grpc")]
mod grpc_health;
#[cfg(feature = "grpc")]
mod grpc_limits;
#[cfg(feature = "grpc")]
mod grpc_memory_limits;
#[cfg(feature = "grpc")]
mod grpc_settings;
#[cfg(feature = "grpc")]
mod grpc_tls;
#[cfg(feature = "grpc")]
mod grpc_unary_calls;
mod handles;
mod handshakes;
mod headers;
#[cfg(feature = "http")]
mod held_bodies;
mod killed_agents;
mod limits;
mod local_agents;
mod log_floods;
mod malformed_events;
#[cfg(feature = "metrics")]
mod memory_limits;
mod metrics_facade;
mod metrics_page;
mod moving_agents;
mod negotiation;
mod notices;
mod older_peers;
mod other_protocols;
mod pipelining;
mod placement;
mod protocol_metrics;
#[cfg(feature = "http")]
mod proxy_answers;
#[cfg(feature = "http")]
mod proxy_glue;
#[cfg(feature = "http")]
mod proxy_header_changes;
mod recorded_frames;
mod reported_metrics;
mod request_targets;
mod reverse_admission;
mod reverse_connections;
mod reverse_dialer;
mod reverse_faults;
#[cfg(feature = "tls")]
mod reverse_tls;
mod scraping;
mod shared_memory;
#[cfg(target_os = "linux")]
mod shared_memory_faults;
#[cfg(target_os = "linux")]
mod shared_memory_kills;
#[cfg(target_os = "linux")]
mod shared_memory_liars;
#[cfg(target_os = "linux")]
mod shared_memory_stress;
mod shutdown;
mod single_threaded_runtimes;
mod take_over;
mod texts;
