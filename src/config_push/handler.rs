//! Handler for agents' config update requests.

use crate::clock;
use crate::configuration::setters;
use crate::debug_fields::debug_fields;
use crate::lock::lock;
use crate::log::log_line;
use crate::protocol::{
    ConfigUpdateRequest, ConfigUpdateResponse, ConfigUpdateType, RuleDefinition,
};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Maximum number of remembered requests, and of pending reloads. Beyond it the oldest are dropped.
const MAX_REMEMBERED: usize = 1024;

/// Longest id of a request that is remembered, in bytes.
const MAX_REMEMBERED_ID: usize = 256;

/// Time for which a request is remembered, so that a repeated one is not handled twice.
const MEMORY_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// Handles agents' config update requests, by callbacks.
///
/// Without a callback, reloads are accepted and noted as pending, required restarts and config
/// errors are logged, and all other requests are rejected. If a callback panics, the request is
/// rejected. A request that an agent repeats under the same id, of up to 256 bytes, gets the same
/// response without another call.
///
/// Callbacks may block: a pool
/// ([`AgentPool::set_config_update_handler`](crate::AgentPool::set_config_update_handler)) calls
/// them on a thread for blocking work, one request of an agent after another.
///
/// ```
/// use tollgate::config_push::ConfigUpdateHandler;
/// use tollgate::control::{ConfigUpdateRequest, ConfigUpdateType};
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
    on_request: Option<Box<OnRequest>>,
    on_reload: Option<Box<OnReload>>,
    on_rule_update: Option<Box<OnRuleUpdate>>,
    on_list_update: Option<Box<OnListUpdate>>,
    on_restart_required: Option<Box<OnRestartRequired>>,
    on_config_error: Option<Box<OnConfigError>>,
    memory: Mutex<Memory>,
}

type OnRequest = dyn Fn(&str, &ConfigUpdateRequest) -> ConfigUpdateResponse + Send + Sync;
type OnReload = dyn Fn(&str) -> bool + Send + Sync;
type OnRuleUpdate = dyn Fn(&str, &[RuleDefinition], &[String]) -> bool + Send + Sync;
type OnListUpdate = dyn Fn(&str, &[String], &[String]) -> bool + Send + Sync;
type OnRestartRequired = dyn Fn(&str, &str, Duration) + Send + Sync;
type OnConfigError = dyn Fn(&str, &str, Option<&str>) + Send + Sync;

#[derive(Debug, Default)]
struct Memory {
    /// Reloads that were accepted and not done yet, oldest first.
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
    /// Creates a handler without callbacks.
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Sets a callback for every request, which takes the place of all others. It gets the
        /// agent's name and the request, and returns the response; the id in it is set to that of
        /// the request.
        on_request(
            self,
            f: impl Fn(&str, &ConfigUpdateRequest) -> ConfigUpdateResponse + Send + Sync + 'static
        ) => self.on_request = Some(Box::new(f));

        /// Sets the callback for an agent's request to get its settings again. It gets the agent's
        /// name. `false` rejects the request.
        on_reload(self, f: impl Fn(&str) -> bool + Send + Sync + 'static) =>
            self.on_reload = Some(Box::new(f));

        /// Sets the callback for changes of rules. It gets the rule set, the rules to add or
        /// replace, and the ids of rules to remove. `false` rejects the request.
        on_rule_update(
            self, f: impl Fn(&str, &[RuleDefinition], &[String]) -> bool + Send + Sync + 'static
        ) => self.on_rule_update = Some(Box::new(f));

        /// Sets the callback for changes of lists. It gets the list, the entries to add and the
        /// entries to remove. `false` rejects the request.
        on_list_update(self, f: impl Fn(&str, &[String], &[String]) -> bool + Send + Sync + 'static)
            => self.on_list_update = Some(Box::new(f));

        /// Sets the callback for agents that need a restart. It gets the agent's name, the reason,
        /// and the time for which the agent can continue.
        on_restart_required(self, f: impl Fn(&str, &str, Duration) + Send + Sync + 'static) =>
            self.on_restart_required = Some(Box::new(f));

        /// Sets the callback for errors that an agent finds in its settings. It gets the agent's
        /// name, the error, and the field in question.
        on_config_error(self, f: impl Fn(&str, &str, Option<&str>) + Send + Sync + 'static) =>
            self.on_config_error = Some(Box::new(f));
    }

    /// Handles a request of an agent without a name.
    pub fn handle(&self, request: ConfigUpdateRequest) -> ConfigUpdateResponse {
        self.handle_from("", request)
    }

    /// Handles a request of an agent, unless it is a repeated one.
    pub fn handle_from(
        &self,
        agent_id: &str,
        request: ConfigUpdateRequest,
    ) -> ConfigUpdateResponse {
        if let Some(response) = lock(&self.memory).response(agent_id, &request.request_id) {
            return response;
        }
        // Unwind safe: callbacks run without a lock held, and are responsible for their own state.
        let response = catch_unwind(AssertUnwindSafe(|| self.respond(agent_id, &request)));
        let response = response.unwrap_or_else(|_| {
            log_line!(
                error,
                agent_id,
                { agent = agent_id },
                "callback for a config update request panicked; the request is rejected"
            );
            let reason = "The proxy failed to handle the request";
            ConfigUpdateResponse::failure(&request.request_id, reason)
        });
        lock(&self.memory).remember(agent_id, response.clone());
        response
    }

    /// Returns the number of reloads that were accepted and are not done yet.
    pub fn pending_count(&self) -> usize {
        lock(&self.memory).pending.len()
    }

    /// Removes an agent's pending reloads, because it got its settings again. The pool calls this
    /// after it has sent settings to the agent.
    pub fn reload_done(&self, agent_id: &str) {
        lock(&self.memory)
            .pending
            .retain(|pending| pending.agent_id != agent_id);
    }

    /// Removes reloads that have been pending for longer than `max_age`.
    pub fn clear_old_pending(&self, max_age: Duration) {
        lock(&self.memory)
            .pending
            .retain(|pending| clock::elapsed(pending.received_at) < max_age);
    }

    fn respond(&self, agent_id: &str, request: &ConfigUpdateRequest) -> ConfigUpdateResponse {
        let request_id = &request.request_id;
        if let Some(f) = &self.on_request {
            return ConfigUpdateResponse {
                request_id: request_id.clone(),
                ..f(agent_id, request)
            };
        }
        match self.decide(agent_id, request) {
            Ok(()) => ConfigUpdateResponse::success(request_id),
            Err(reason) => ConfigUpdateResponse::failure(request_id, reason),
        }
    }

    fn decide(&self, agent_id: &str, request: &ConfigUpdateRequest) -> Result<(), &'static str> {
        match &request.update_type {
            ConfigUpdateType::RequestReload => {
                if self.on_reload.as_ref().is_some_and(|f| !f(agent_id)) {
                    return Err("Reload rejected");
                }
                lock(&self.memory).await_reload(agent_id);
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
                log_line!(
                    warn,
                    agent_id,
                    { agent = agent_id }(grace_period_ms),
                    "agent requires a restart: {reason:?}"
                );
                let grace = Duration::from_millis(*grace_period_ms);
                self.on_restart_required
                    .iter()
                    .for_each(|f| f(agent_id, reason, grace));
                Ok(())
            }
            ConfigUpdateType::ConfigError { error, field } => {
                let about = field.as_deref().unwrap_or_default();
                log_line!(
                    error, agent_id, { agent = agent_id, field = about },
                    "agent found an error in its settings: {error:?}"
                );
                self.on_config_error
                    .iter()
                    .for_each(|f| f(agent_id, error, field.as_deref()));
                Ok(())
            }
        }
    }
}

impl Memory {
    fn response(&self, agent_id: &str, request_id: &str) -> Option<ConfigUpdateResponse> {
        self.responses
            .iter()
            .find(|remembered| {
                remembered.response.request_id == request_id && remembered.agent_id == agent_id
            })
            .filter(|remembered| clock::elapsed(remembered.at) < MEMORY_LIFETIME)
            .map(|remembered| remembered.response.clone())
    }

    fn remember(&mut self, agent_id: &str, response: ConfigUpdateResponse) {
        if response.request_id.len() > MAX_REMEMBERED_ID {
            return;
        }
        self.responses
            .retain(|remembered| clock::elapsed(remembered.at) < MEMORY_LIFETIME);
        if self.responses.len() >= MAX_REMEMBERED {
            self.responses.pop_front();
        }
        self.responses.push_back(Remembered {
            agent_id: agent_id.to_owned(),
            response,
            at: clock::now(),
        });
    }

    fn await_reload(&mut self, agent_id: &str) {
        if self.pending.len() >= MAX_REMEMBERED {
            self.pending.pop_front();
        }
        self.pending.push_back(Pending {
            agent_id: agent_id.to_owned(),
            received_at: clock::now(),
        });
    }
}

debug_fields!(ConfigUpdateHandler, |self| pending_count: self.pending_count());
