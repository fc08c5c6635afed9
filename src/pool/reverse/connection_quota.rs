//! Limits on the number of reverse connections.

use crate::error::RegistrationError;
use crate::lock::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Counts and limits the connections through one listener.
#[derive(Debug)]
pub(super) struct ConnectionQuota {
    limit: usize,
    limit_per_agent: usize,
    open_counts: Mutex<OpenCounts>,
}

/// Numbers of connections that are open.
#[derive(Debug, Default)]
struct OpenCounts {
    total: usize,
    by_agent: HashMap<Arc<str>, usize>,
}

/// Held by a connection while it is open.
#[derive(Debug)]
pub(super) struct QuotaPermit {
    quota: Arc<ConnectionQuota>,
    agent_id: Arc<str>,
}

impl ConnectionQuota {
    pub(super) fn new(limit: usize, limit_per_agent: usize) -> Self {
        Self {
            limit,
            limit_per_agent,
            open_counts: Mutex::default(),
        }
    }

    pub(super) fn try_acquire(
        self: &Arc<Self>,
        agent_id: &str,
    ) -> Result<QuotaPermit, RegistrationError> {
        let mut open = lock(&self.open_counts);
        if open.total >= self.limit {
            return Err(RegistrationError::TooManyConnections { limit: self.limit });
        }
        let of_agent = open.by_agent.get(agent_id).copied().unwrap_or_default();
        if of_agent >= self.limit_per_agent {
            return Err(RegistrationError::TooManyConnectionsOfAgent {
                limit: self.limit_per_agent,
            });
        }
        let agent_id: Arc<str> = agent_id.into();
        open.total += 1;
        open.by_agent.insert(Arc::clone(&agent_id), of_agent + 1);
        Ok(QuotaPermit {
            quota: Arc::clone(self),
            agent_id,
        })
    }

    pub(super) fn total(&self) -> usize {
        lock(&self.open_counts).total
    }
}

impl Drop for QuotaPermit {
    fn drop(&mut self) {
        let mut open = lock(&self.quota.open_counts);
        open.total -= 1;
        if let Some(of_agent) = open.by_agent.get_mut(&self.agent_id) {
            *of_agent -= 1;
            if *of_agent == 0 {
                open.by_agent.remove(&self.agent_id);
            }
        }
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/pool/reverse/connection_quota.rs"]
mod tests;
