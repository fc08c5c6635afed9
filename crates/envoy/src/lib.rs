//! Serves an [`AgentHandler`](tollgate::AgentHandler) to Envoy.
