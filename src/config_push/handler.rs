use crate::protocol::{
    ConfigUpdateRequest, ConfigUpdateResponse, ConfigUpdateType, RuleDefinition,
};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most requests that are remembered, and most reloads that may be pending; the oldest give way.
const MAX_REMEMBERED: usize = 1024;

/// How long a request is remembered, so that one that comes again is not acted on again.
const MEMORY: Duration = Duration::from_secs(5 * 60);

/// What the proxy does with agents' requests for changes of configuration.
///
/// Requests for which there is no callback are refused, except that reloads are noted as pending and a need to restart
/// and errors are logged. A callback that panics refuses the request. A request that an agent makes again under the same
/// id gets the same response without a second call.
///
/// Callbacks may block: a pool ([`AgentPool::set_config_update_handler`](crate::AgentPool::set_config_update_handler))
/// calls them on a thread for blocking work, the requests of one agent one after another.
///
/// ```
/// use tollgate::{ConfigUpdateHandler, ConfigUpdateRequest, ConfigUpdateType};
///
/// let handler = ConfigUpdateHandler::new().on_list_update(|list, add, remove| {
///     println!("{list}: {} more, {} less", add.len(), remove.len());
///     list == "blocked-ips"
/// });
/// let update = ConfigUpdateType::ListUpdate {
///     list_id: "blocked-ips".to_owned(),
///     add: vec!["192.0.2.7".to_owned()],
///     remove: Vec::new(),
/// };
/// assert!(handler.handle(ConfigUpdateRequest::new("request-1", update)).accepted);
/// ```
#[derive(Default)]
pub struct ConfigUpdateHandler {
    on_reload: Option<Box<OnReload>>,
    on_rule_update: Option<Box<OnRuleUpdate>>,
    on_list_update: Option<Box<OnListUpdate>>,
    on_restart_required: Option<Box<OnRestartRequired>>,
    on_config_error: Option<Box<OnConfigError>>,
    memory: Mutex<Memory>,
}

type OnReload = dyn Fn(&str) -> bool + Send + Sync;
type OnRuleUpdate = dyn Fn(&str, &[RuleDefinition], &[String]) -> bool + Send + Sync;
type OnListUpdate = dyn Fn(&str, &[String], &[String]) -> bool + Send + Sync;
type OnRestartRequired = dyn Fn(&str, &str, Duration) + Send + Sync;
type OnConfigError = dyn Fn(&str, &str, Option<&str>) + Send + Sync;

#[derive(Debug, Default)]
struct Memory {
    /// Reloads that were accepted and not done yet.
    pending: VecDeque<Pending>,
    responses: VecDeque<Remembered>,
}

#[derive(Debug)]
struct Pending {
    agent_id: String,
    received_at: Instant,
}

#[derive(Debug)]
struct Remembered {
    agent_id: String,
    response: ConfigUpdateResponse,
    at: Instant,
}

impl ConfigUpdateHandler {
    /// A handler without callbacks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Has a callback decide on an agent's wish to get its settings again; it is given the agent's name.
    #[must_use]
    pub fn on_reload<F>(mut self, f: F) -> Self
    where
        F: Fn(&str) -> bool + Send + Sync + 'static,
    {
        self.on_reload = Some(Box::new(f));
        self
    }

    /// Has a callback change rules; it is given the set, rules to add or replace, and ids of rules to remove. `false`
    /// refuses.
    #[must_use]
    pub fn on_rule_update<F>(mut self, f: F) -> Self
    where
        F: Fn(&str, &[RuleDefinition], &[String]) -> bool + Send + Sync + 'static,
    {
        self.on_rule_update = Some(Box::new(f));
        self
    }

    /// Has a callback change lists; it is given the list, entries to add and entries to remove. `false` refuses.
    #[must_use]
    pub fn on_list_update<F>(mut self, f: F) -> Self
    where
        F: Fn(&str, &[String], &[String]) -> bool + Send + Sync + 'static,
    {
        self.on_list_update = Some(Box::new(f));
        self
    }

    /// Tells a callback that an agent must be started anew: its name, why, and how long it can go on.
    #[must_use]
    pub fn on_restart_required<F>(mut self, f: F) -> Self
    where
        F: Fn(&str, &str, Duration) + Send + Sync + 'static,
    {
        self.on_restart_required = Some(Box::new(f));
        self
    }

    /// Tells a callback that an agent finds its settings wrong: its name, what is wrong, and where.
    #[must_use]
    pub fn on_config_error<F>(mut self, f: F) -> Self
    where
        F: Fn(&str, &str, Option<&str>) + Send + Sync + 'static,
    {
        self.on_config_error = Some(Box::new(f));
        self
    }

    /// Acts on a request of an agent without a name.
    pub fn handle(&self, request: ConfigUpdateRequest) -> ConfigUpdateResponse {
        self.handle_from("", request)
    }

    /// Acts on an agent's request, unless it has come before.
    pub fn handle_from(
        &self,
        agent_id: &str,
        request: ConfigUpdateRequest,
    ) -> ConfigUpdateResponse {
        if let Some(response) = self.memory().response(agent_id, &request.request_id) {
            return response;
        }
        // A callback's own state is for the callback to look after.
        let decided = catch_unwind(AssertUnwindSafe(|| self.decide(agent_id, &request)));
        let decided = decided.unwrap_or_else(|_| {
            tracing::error!(
                agent = agent_id,
                "a callback for a request of an agent panicked"
            );
            Err("The proxy failed to handle the request")
        });
        let response = match decided {
            Ok(()) => ConfigUpdateResponse::success(request.request_id),
            Err(reason) => ConfigUpdateResponse::failure(request.request_id, reason),
        };
        self.memory().remember(agent_id, response.clone());
        response
    }

    /// Reloads that were accepted and are not done yet.
    pub fn pending_count(&self) -> usize {
        self.memory().pending.len()
    }

    /// Notes that an agent has got its settings again. The pool does so where it has settings for the agent.
    pub fn reload_done(&self, agent_id: &str) {
        self.memory()
            .pending
            .retain(|pending| pending.agent_id != agent_id);
    }

    /// Forgets reloads that are pending for longer than `max_age`.
    pub fn clear_old_pending(&self, max_age: Duration) {
        self.memory()
            .pending
            .retain(|pending| pending.received_at.elapsed() < max_age);
    }

    fn decide(&self, agent_id: &str, request: &ConfigUpdateRequest) -> Result<(), &'static str> {
        match &request.update_type {
            ConfigUpdateType::RequestReload => {
                if self.on_reload.as_ref().is_some_and(|f| !f(agent_id)) {
                    return Err("Reload rejected");
                }
                self.memory().await_reload(agent_id);
                Ok(())
            }
            ConfigUpdateType::RuleUpdate {
                rule_set,
                rules,
                remove_rules,
            } => match &self.on_rule_update {
                Some(f) if f(rule_set, rules, remove_rules) => Ok(()),
                Some(_) => Err("Rule update rejected"),
                None => Err("Rule updates not supported"),
            },
            ConfigUpdateType::ListUpdate {
                list_id,
                add,
                remove,
            } => match &self.on_list_update {
                Some(f) if f(list_id, add, remove) => Ok(()),
                Some(_) => Err("List update rejected"),
                None => Err("List updates not supported"),
            },
            ConfigUpdateType::RestartRequired {
                reason,
                grace_period_ms,
            } => {
                tracing::warn!(
                    agent = agent_id,
                    grace_period_ms,
                    "an agent must be started anew: {reason:?}"
                );
                let grace = Duration::from_millis(*grace_period_ms);
                self.on_restart_required
                    .iter()
                    .for_each(|f| f(agent_id, reason, grace));
                Ok(())
            }
            ConfigUpdateType::ConfigError { error, field } => {
                tracing::error!(
                    agent = agent_id,
                    field,
                    "an agent finds its settings wrong: {error:?}"
                );
                self.on_config_error
                    .iter()
                    .for_each(|f| f(agent_id, error, field.as_deref()));
                Ok(())
            }
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn response(&self, agent_id: &str, request_id: &str) -> Option<ConfigUpdateResponse> {
        self.responses
            .iter()
            .find(|remembered| {
                remembered.response.request_id == request_id && remembered.agent_id == agent_id
            })
            .filter(|remembered| remembered.at.elapsed() < MEMORY)
            .map(|remembered| remembered.response.clone())
    }

    fn remember(&mut self, agent_id: &str, response: ConfigUpdateResponse) {
        self.responses
            .retain(|remembered| remembered.at.elapsed() < MEMORY);
        if self.responses.len() >= MAX_REMEMBERED {
            self.responses.pop_front();
        }
        self.responses.push_back(Remembered {
            agent_id: agent_id.to_owned(),
            response,
            at: Instant::now(),
        });
    }

    fn await_reload(&mut self, agent_id: &str) {
        if self.pending.len() >= MAX_REMEMBERED {
            self.pending.pop_front();
        }
        self.pending.push_back(Pending {
            agent_id: agent_id.to_owned(),
            received_at: Instant::now(),
        });
    }
}

impl fmt::Debug for ConfigUpdateHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigUpdateHandler")
            .field("pending_count", &self.pending_count())
            .finish_non_exhaustive()
    }
}
