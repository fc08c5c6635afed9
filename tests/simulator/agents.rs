//! Agents that the library serves: what their handler does, and how they start and stop.

use crate::directive::Directive;
use crate::ledger::Asked;
use crate::plan::{AgentKind, AgentPlan, Answer, Report, Wait};
use crate::raw;
use crate::simulation::TOKEN;
use crate::world::World;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::sleep;
use tollgate::sim::{self, clock};
use tollgate::{
    AgentCapabilities, AgentControl, AgentHandler, AgentResponse, AgentServer, BodyChunk,
    CancelReason, Encoding, EventType, HeaderOp, RequestComplete, RequestHeadersView,
    ResponseHeadersView,
    control::{
        AgentFeatures, AgentLimits, ConfigUpdateResponse, ConfigUpdateType, HealthState,
        HealthStatus,
    },
    events::Configure,
};

/// Name of the header that carries what the agent shall do, and the mark of an answer.
pub const MARK: &str = "x-sim";

/// Longest time that an agent takes.
const FOREVER: Duration = Duration::from_secs(5);

/// An agent that runs.
#[derive(Debug)]
pub struct RunningAgent {
    controls: Vec<AgentControl>,
    is_stopped: AtomicBool,
    /// Stops one listener or dialer each. A `watch` channel would wake them in a random order.
    stops: Vec<Arc<Notify>>,
    tasks: Vec<AbortHandle>,
    /// Scripted agents just end.
    is_raw: bool,
}

impl RunningAgent {
    /// Starts an agent on the current runtime.
    pub fn start(world: &Arc<World>, agent: usize) -> Self {
        let plan = &world.plan.agents[agent];
        let mut running = Self {
            controls: Vec::new(),
            is_stopped: AtomicBool::new(false),
            stops: Vec::new(),
            tasks: Vec::new(),
            is_raw: matches!(plan.kind, AgentKind::Raw { .. }),
        };
        match plan.kind {
            AgentKind::Server => {
                for endpoint in [plan.name.clone(), format!("{}-moved", plan.name)] {
                    running.serve(world, agent, &endpoint);
                }
            }
            AgentKind::Dialer { connections } => {
                for _ in 0..connections {
                    running.dial(world, agent);
                }
            }
            AgentKind::Raw { has_streams } => {
                for endpoint in [plan.name.clone(), format!("{}-moved", plan.name)] {
                    let listener = world.network.listen(&endpoint);
                    let serving = raw::serve(Arc::clone(world), agent, has_streams, listener);
                    running.tasks.push(tokio::spawn(serving).abort_handle());
                }
            }
        }
        running
    }

    fn serve(&mut self, world: &Arc<World>, agent: usize, endpoint: &str) {
        let plan = &world.plan.agents[agent];
        let handler = Handler::new(world, agent);
        let server = AgentServer::builder(handler)
            .listen_on(sim::Simulated(world.network.listen(endpoint)))
            .max_concurrent_per_connection(plan.max_concurrent)
            .handshake_timeout(Duration::from_millis(500))
            .drain_timeout(Duration::from_millis(500));
        self.controls.push(server.control());
        let stop = self.stopped();
        let serving = async move { server.serve_until(stop).await.expect("a listener") };
        self.tasks.push(tokio::spawn(serving).abort_handle());
    }

    fn dial(&mut self, world: &Arc<World>, agent: usize) {
        let plan = &world.plan.agents[agent];
        let keepalive = if world.plan.is_calm { 60_000 } else { 200 };
        let mut dialer = AgentServer::builder(Handler::new(world, agent))
            .dial("sim:proxy")
            .dial_connections(1)
            .max_concurrent_per_connection(plan.max_concurrent)
            .encodings(vec![Encoding::MessagePack, Encoding::Json])
            .connect_timeout(Duration::from_millis(500))
            .reconnect_interval(Duration::from_millis(50))
            .keepalive(Duration::from_millis(400), Duration::from_millis(keepalive))
            .drain_timeout(Duration::from_millis(500));
        if world.plan.configures_first {
            dialer = dialer.token(TOKEN);
        }
        self.controls.push(dialer.control());
        let stop = self.stopped();
        let dialing = async move {
            // Fails only if the endpoint is invalid.
            dialer.serve_until(stop).await.expect("a valid endpoint");
        };
        self.tasks.push(tokio::spawn(dialing).abort_handle());
    }

    /// Returns a future that waits until the agent is stopped.
    fn stopped(&mut self) -> impl Future<Output = ()> + use<> {
        let stop = Arc::<Notify>::default();
        self.stops.push(Arc::clone(&stop));
        async move { stop.notified().await }
    }

    /// Ends the agent as if its process had been killed.
    pub fn crash(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }

    /// Lets the agent finish and end.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.stops.iter().for_each(|stop| stop.notify_one());
        if self.is_raw {
            self.crash();
        }
    }

    pub fn is_running(&self) -> bool {
        !self.is_stopped.load(Ordering::Relaxed)
            && self.tasks.iter().any(|task| !task.is_finished())
    }

    pub fn controls(&self) -> &[AgentControl] {
        &self.controls
    }

    /// Reports the health of the agent.
    pub fn report(&self, plan: &AgentPlan, report: Report) {
        let state = match report {
            Report::Healthy => HealthState::Healthy,
            Report::Degraded => HealthState::Degraded {
                disabled_features: Vec::new(),
                timeout_multiplier: crate::world::DEGRADED_FACTOR,
            },
            Report::Draining => HealthState::Draining { eta_ms: None },
            Report::Unhealthy { .. } => HealthState::Unhealthy {
                reason: "simulated".to_owned(),
                recoverable: true,
            },
        };
        let mut status = HealthStatus::new(&*plan.name, state);
        if let Report::Unhealthy { valid_ms } = report {
            status.valid_until_ms = Some(tollgate::events::now_ms() + valid_ms);
        }
        for control in &self.controls {
            control.report_health(status.clone());
        }
    }
}

/// A handler that does what the events say.
struct Handler {
    world: Arc<World>,
    agent: usize,
    /// When the last connection was opened.
    opened: Mutex<Duration>,
    is_dialer: bool,
    tasks: Mutex<std::collections::BTreeMap<String, Duration>>,
}

impl Handler {
    fn new(world: &Arc<World>, agent: usize) -> Self {
        let kind = world.plan.agents[agent].kind;
        Self {
            world: Arc::clone(world),
            agent,
            opened: Mutex::default(),
            is_dialer: matches!(kind, AgentKind::Dialer { .. }),
            tasks: Mutex::default(),
        }
    }

    /// Returns when the connection of this task was opened. A dialer has one connection, and its
    /// sessions run in other tasks than its registrations.
    fn opened(&self, task: tokio::task::Id) -> Duration {
        if self.is_dialer {
            return *self.opened.lock().expect("no panics");
        }
        let tasks = self.tasks.lock().expect("no panics");
        tasks.get(&task.to_string()).copied().unwrap_or_default()
    }

    /// Decides on an update that the pool pushes. The list's name ends with the time that it takes.
    async fn decide_on_push(&self, push_id: &str, list_id: &str) -> bool {
        let name = &self.world.plan.agents[self.agent].name;
        self.world.note(format_args!("{name} gets {list_id}"));
        let is_accepted = self.world.updates().got_push(self.agent, push_id);
        let (_, wait) = list_id.split_once(':').expect("a wait");
        let wait = wait.parse().expect("milliseconds");
        if wait > 0 {
            sleep(Duration::from_millis(wait)).await;
        }
        self.world.updates().decides_on_push(push_id);
        is_accepted
    }

    async fn decide(&self, text: &str) -> AgentResponse {
        let directive = Directive::parse(text);
        let task = tokio::task::id();
        let asked = Asked {
            agent: self.agent,
            task,
            opened: self.opened(task),
            label: &directive.label,
        };
        let session = self.world.ledger().asked(&asked);
        let name = &self.world.plan.agents[self.agent].name;
        self.world.note(format_args!(
            "{name} session {session} is asked {}",
            directive.label
        ));
        match directive.wait {
            Wait::No => {}
            Wait::For(ms) => sleep(Duration::from_millis(ms)).await,
            Wait::Forever => sleep(FOREVER).await,
        }
        let (mut answer, decision) = match directive.answer {
            Answer::Block => (AgentResponse::block(403, None), "block"),
            _ => (AgentResponse::default_allow(), "allow"),
        };
        self.world.ledger().answered(&directive.label, decision);
        answer.request_headers.push(HeaderOp::Set {
            name: MARK.to_owned(),
            value: directive.label,
        });
        answer
    }
}

impl AgentHandler for Handler {
    fn capabilities(&self) -> AgentCapabilities {
        let now = clock::since_start();
        *self.opened.lock().expect("no panics") = now;
        let task = tokio::task::id();
        self.tasks
            .lock()
            .expect("no panics")
            .insert(task.to_string(), now);
        let plan = &self.world.plan.agents[self.agent];
        let limits = AgentLimits {
            max_concurrency: plan.announced_limit,
            ..AgentLimits::default()
        };
        [
            EventType::RequestBodyChunk,
            EventType::ResponseHeaders,
            EventType::ResponseBodyChunk,
            EventType::RequestComplete,
            EventType::Configure,
        ]
        .into_iter()
        .fold(
            AgentCapabilities::new(&*plan.name, "simulated", "1"),
            AgentCapabilities::with_event,
        )
        .with_limits(limits)
        .with_features(AgentFeatures {
            config_push: true,
            ..AgentFeatures::default()
        })
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        self.decide(event.uri).await
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        self.decide(std::str::from_utf8(&event.data).expect("text"))
            .await
    }

    async fn on_response_headers(&self, event: ResponseHeadersView<'_>) -> AgentResponse {
        let owned = event.to_event();
        let text = owned.headers.get(MARK).and_then(|values| values.first());
        self.decide(text.expect("a directive")).await
    }

    async fn on_response_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        self.decide(std::str::from_utf8(&event.data).expect("text"))
            .await
    }

    async fn on_request_complete(&self, event: RequestComplete<'_>) -> AgentResponse {
        self.decide(event.error.expect("a directive")).await
    }

    async fn on_configure(&self, event: Configure<'_>) -> Result<(), String> {
        let task = tokio::task::id();
        if let Some(ConfigUpdateType::ListUpdate { list_id, .. }) = event.update() {
            let push_id = event.push_id().expect("an update has one");
            let is_accepted = self.decide_on_push(push_id, &list_id).await;
            return is_accepted
                .then_some(())
                .ok_or_else(|| "rejected".to_owned());
        }
        let opened = self.opened(task);
        if !self.world.plan.configuring.is_zero() {
            sleep(self.world.plan.configuring).await;
        }
        let session = self.world.ledger().configured(self.agent, task, opened);
        let name = &self.world.plan.agents[self.agent].name;
        let version = event.config_version().unwrap_or_default();
        self.world.note(format_args!(
            "{name} session {session} gets settings {version}"
        ));
        Ok(())
    }

    fn on_config_update_response(&self, response: ConfigUpdateResponse) {
        let name = &self.world.plan.agents[self.agent].name;
        let (id, is_accepted) = (&response.request_id, response.accepted);
        self.world
            .note(format_args!("{name} is answered {id}: {is_accepted}"));
        self.world.updates().answered(self.agent, &response);
    }

    fn on_cancel(&self, correlation_id: &str, _: CancelReason) {
        let name = &self.world.plan.agents[self.agent].name;
        self.world.note(format_args!(
            "{name} is told that {correlation_id} is cancelled"
        ));
    }
}
