//! Plans: the pool, the agents, the callers and the faults of one simulation, as data.
//!
//! A plan is made once from the seed ([`generate`](crate::generate)) and does not depend on what
//! happens later. So steps can be left out of it, which is how a failure is reduced.

use crate::network::Break;
use std::time::Duration;
use tollgate::{FailureMode, FlowControlMode, LoadBalanceStrategy, Placement};

/// A whole simulation.
#[derive(Debug, Clone)]
pub struct Plan {
    pub seed: u64,
    /// Nothing fails in a calm plan, so every call has to be answered.
    pub is_calm: bool,
    pub pool: PoolPlan,
    pub network: NetworkPlan,
    pub agents: Vec<AgentPlan>,
    /// Number of tokio runtimes; the first one never ends.
    pub runtimes: usize,
    /// In order of time.
    pub steps: Vec<Step>,
    /// The agents have settings before they are added.
    pub configures_first: bool,
    /// Time that an agent takes to apply settings.
    pub configuring: Duration,
    /// Time at which all faults end.
    pub healed_at: Duration,
}

/// Settings of the pool that vary.
#[derive(Debug, Clone)]
pub struct PoolPlan {
    pub connections_per_agent: usize,
    pub max_concurrent: usize,
    pub max_queued: usize,
    pub channel: usize,
    pub request_timeout: Duration,
    pub queue_timeout: Duration,
    pub drain_timeout: Duration,
    pub placement: Placement,
    pub strategy: LoadBalanceStrategy,
    pub failure_mode: FailureMode,
    pub flow_control_mode: FlowControlMode,
    pub breaker_threshold: u32,
    pub max_pins: usize,
    pub uses_extension: bool,
    pub prefers_json: bool,
    pub timing_interval: u32,
}

/// Properties of the network.
#[derive(Debug, Clone, Copy)]
pub struct NetworkPlan {
    pub seed: u64,
    pub max_latency_ms: u64,
    /// Percentage of writes and pieces of them that are split.
    pub split_percent: u32,
    /// Bytes that one direction of a connection holds.
    pub capacity: usize,
}

impl NetworkPlan {
    /// Returns the network after the last fault.
    pub fn healed(self) -> Self {
        Self {
            max_latency_ms: self.max_latency_ms.min(2),
            capacity: self.capacity.max(64 * 1024),
            ..self
        }
    }
}

#[derive(Debug, Clone)]
pub struct AgentPlan {
    pub name: String,
    pub kind: AgentKind,
    /// Events that one session handles at once.
    pub max_concurrent: usize,
    /// The limit of pending calls that the agent announces; 0 for none.
    pub announced_limit: u32,
    pub runtime: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentKind {
    /// The library's server.
    Server,
    /// The library's dialer, with a number of connections.
    Dialer { connections: usize },
    /// Scripted byte by byte, with or without tollgate's extension.
    Raw { has_streams: bool },
}

#[derive(Debug, Clone)]
pub struct Step {
    pub at: Duration,
    pub action: Action,
}

#[derive(Debug, Clone)]
pub enum Action {
    Call(Caller),
    Break {
        pick: usize,
        after: usize,
        how: Break,
    },
    Stall {
        pick: usize,
        ms: u64,
    },
    Silence {
        agent: usize,
        ms: u64,
    },
    Crash {
        agent: usize,
    },
    Stop {
        agent: usize,
    },
    Start {
        agent: usize,
    },
    Pause {
        agent: usize,
    },
    Resume {
        agent: usize,
    },
    PauseExchange {
        agent: usize,
        caller: usize,
    },
    ResumeExchange {
        agent: usize,
        caller: usize,
    },
    Report {
        agent: usize,
        state: Report,
    },
    Add {
        agent: usize,
        is_moved: bool,
        runtime: usize,
    },
    Remove {
        agent: usize,
        runtime: usize,
    },
    Configure {
        agent: usize,
    },
    Cancel {
        agent: usize,
        caller: usize,
    },
    CancelAll {
        agent: usize,
    },
    Ping {
        agent: usize,
    },
    AskToDrain {
        agent: usize,
    },
    Shutdown {
        runtime: usize,
    },
    EndRuntime {
        runtime: usize,
    },
    JumpClock {
        seconds: u64,
        is_forward: bool,
    },
    /// The agent requests a config update.
    RequestUpdate {
        agent: usize,
        number: usize,
        update: RequestedUpdate,
        asking: Asking,
    },
    /// The pool pushes an update.
    Push {
        agent: usize,
        number: usize,
        is_accepted: bool,
        wait_ms: u64,
    },
    /// The agent writes lines to the proxy's log.
    Log {
        agent: usize,
        number: usize,
        lines: usize,
    },
}

/// An update that an agent requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestedUpdate {
    Reload,
    AcceptedList,
    RejectedList,
}

/// Number of times that an agent requests an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asking {
    Once,
    UntilAnswered,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    Healthy,
    Degraded,
    Draining,
    /// Expires after this many milliseconds of the system's clock.
    Unhealthy {
        valid_ms: u64,
    },
}

/// One request of the proxy.
#[derive(Debug, Clone)]
pub struct Caller {
    pub number: usize,
    pub agent: usize,
    pub runtime: usize,
    /// Id that other callers use as well.
    pub shared_id: Option<usize>,
    pub way: Way,
    pub events: Vec<PlannedEvent>,
    pub end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// An `Exchange`, event by event.
    Exchange,
    /// An `Exchange`, with this many body chunks unanswered.
    Pushed { window: usize },
    /// By correlation id.
    ById,
    /// Several requests in a sticky session.
    Sticky,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Drop,
    Cancel,
    Complete,
    /// Holds the exchange for this many milliseconds without an event.
    Hold {
        ms: u64,
    },
}

#[derive(Debug, Clone)]
pub struct PlannedEvent {
    pub kind: Kind,
    /// Pause before the event.
    pub pause_ms: u64,
    /// Time that the agent takes.
    pub wait: Wait,
    pub answer: Answer,
    /// The caller drops the call after this time.
    pub give_up_ms: Option<u64>,
    /// Timeout other than the pool's.
    pub timeout_ms: Option<u64>,
    pub padding: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    RequestHeaders,
    RequestBody { is_last: bool },
    ResponseHeaders,
    ResponseBody { is_last: bool },
    Complete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    No,
    For(u64),
    Forever,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Allow,
    Block,
    /// A scripted agent answers twice.
    Twice,
    /// A scripted agent sends an answer to a call that does not exist, before the true one.
    Foreign,
    /// A scripted agent sends an answer that does not decode.
    Damaged,
}

impl Plan {
    /// Returns whether an exchange may not be pinned although its first call was answered: there
    /// may be too many pins, its id may be used by others, or it may be cancelled.
    pub fn may_lose_pin(&self, caller: &Caller) -> bool {
        let cancels = |step: &Step| match step.action {
            Action::Cancel { caller: other, .. } => other == caller.number,
            _ => false,
        };
        self.pool.max_pins < 100 || caller.shared_id.is_some() || self.steps.iter().any(cancels)
    }

    /// Returns the caller with this number, if there is one.
    pub fn caller(&self, number: usize) -> Option<&Caller> {
        self.steps.iter().find_map(|step| match &step.action {
            Action::Call(caller) if caller.number == number => Some(caller),
            _ => None,
        })
    }
}
