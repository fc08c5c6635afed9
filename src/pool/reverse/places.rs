use crate::error::RegistrationError;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many connections agents have through one listener.
#[derive(Debug)]
pub(super) struct Places {
    limit: usize,
    limit_per_agent: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_agent: HashMap<Arc<str>, usize>,
}

/// Held by a connection as long as it lasts.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    agent_id: Arc<str>,
}

impl Places {
    pub(super) fn new(limit: usize, limit_per_agent: usize) -> Self {
        Self {
            limit,
            limit_per_agent,
            taken: Mutex::default(),
        }
    }

    pub(super) fn take(self: &Arc<Self>, agent_id: &str) -> Result<Place, RegistrationError> {
        let mut taken = self.taken();
        if taken.total >= self.limit {
            return Err(RegistrationError::TooManyConnections { limit: self.limit });
        }
        let of_agent = taken.by_agent.get(agent_id).copied().unwrap_or_default();
        if of_agent >= self.limit_per_agent {
            return Err(RegistrationError::TooManyConnectionsOfAgent {
                limit: self.limit_per_agent,
            });
        }
        let agent_id: Arc<str> = agent_id.into();
        taken.total += 1;
        taken.by_agent.insert(Arc::clone(&agent_id), of_agent + 1);
        Ok(Place {
            places: Arc::clone(self),
            agent_id,
        })
    }

    pub(super) fn total(&self) -> usize {
        self.taken().total
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing that holds the lock can leave the counts half changed.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.total -= 1;
        if let Some(of_agent) = taken.by_agent.get_mut(&self.agent_id) {
            *of_agent -= 1;
            if *of_agent == 0 {
                taken.by_agent.remove(&self.agent_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_come_back() {
        let places = Arc::new(Places::new(3, 2));
        let first = places.take("a").unwrap();
        let _second = places.take("a").unwrap();
        let of_agent = RegistrationError::TooManyConnectionsOfAgent { limit: 2 };
        assert_eq!(
            places.take("a").unwrap_err().to_string(),
            of_agent.to_string()
        );
        let other = places.take("b").unwrap();
        let in_all = RegistrationError::TooManyConnections { limit: 3 };
        assert_eq!(
            places.take("c").unwrap_err().to_string(),
            in_all.to_string()
        );
        drop(first);
        drop(other);
        let _third = places.take("a").unwrap();
        assert_eq!(places.total(), 2);
        assert_eq!(places.taken().by_agent.len(), 1);
    }
}
