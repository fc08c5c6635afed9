//! An agent that marks its answers, and the calls that are recorded and made again.

use crate::run::Checked;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tollgate::{
    Agent, AgentCapabilities, AgentControl, AgentHandler, AgentPool, AgentPoolConfig,
    AgentResponse, BodyChunk, CallError, CancelReason, Decision, EventType, HeaderOp, Metadata,
    RequestBodyChunk, RequestComplete, RequestHeaders, RequestHeadersView, ResponseBodyChunk,
    ResponseHeaders, ResponseHeadersView,
    control::{
        AgentFeatures, ConfigUpdateRequest, ConfigUpdateType, CounterMetric, FlowControlAction,
        HealthStatus, LogLevel, LogMessage, MetricsReport,
    },
    events::{GuardrailInspect, GuardrailInspectionType, WebSocketFrame, WebSocketOpcode},
};

/// Header that an answer sets to the correlation id of its call.
const MARK: &str = "x-mark";

/// Timeout of calls.
const TIMEOUT: Duration = Duration::from_millis(150);

/// Number of calls of [`Calls::make`] that are made one after another, and answered at once.
pub const CALLS: usize = 8;

/// Longest time that a call takes. An agent that reports to be degraded gets ten times as much.
const MAX_CALL: Duration = Duration::from_millis(150 * 10 + 200);

/// Agent that allows everything, and names the call in its answer.
pub struct Marks;

impl AgentHandler for Marks {
    fn capabilities(&self) -> AgentCapabilities {
        let capabilities = AgentCapabilities::new("agent", "Agent", "1");
        let all = EventType::ALL.into_iter();
        all.fold(capabilities, AgentCapabilities::with_event)
            .with_features(AgentFeatures::full())
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        if event.uri == "/wait" {
            sleep(Duration::from_millis(20)).await;
        }
        marked(event.metadata.correlation_id)
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        marked(event.correlation_id)
    }

    async fn on_response_headers(&self, event: ResponseHeadersView<'_>) -> AgentResponse {
        marked(event.correlation_id)
    }

    async fn on_response_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        marked(event.correlation_id)
    }

    async fn on_request_complete(&self, event: RequestComplete<'_>) -> AgentResponse {
        marked(event.correlation_id)
    }

    async fn on_websocket_frame(&self, event: WebSocketFrame<'_>) -> AgentResponse {
        marked(event.correlation_id)
    }

    async fn on_guardrail_inspect(&self, event: GuardrailInspect<'_>) -> AgentResponse {
        marked(event.correlation_id)
    }
}

fn marked(id: &str) -> AgentResponse {
    AgentResponse::default_allow().add_request_header(HeaderOp::Set {
        name: MARK.to_owned(),
        value: id.to_owned(),
    })
}

/// Returns the mark of an answer.
fn mark(answer: &AgentResponse) -> Option<&str> {
    answer.request_headers.iter().find_map(|op| match op {
        HeaderOp::Set { name, value } if name == MARK => Some(&**value),
        _ => None,
    })
}

/// Settings of pools.
pub fn config() -> AgentPoolConfig {
    AgentPoolConfig::default()
        .connections_per_agent(1)
        .connect_timeout(Duration::from_millis(300))
        .request_timeout(TIMEOUT)
        .queue_timeout(Duration::from_millis(100))
        .drain_timeout(Duration::from_millis(200))
        .reconnect_interval(Duration::from_millis(20))
        .circuit_breaker_reset_timeout(Duration::from_millis(50))
        .tls(crate::stream::client_tls())
}

/// Calls an agent that works, which has to answer.
pub async fn ask(pool: &AgentPool, agent: &Agent) -> Checked {
    let id = format!("good-{}", fastrand::u32(..));
    let answer = agent.send(&id, &head(&id, "/")).await;
    pool.unpin(&id);
    match answer {
        Ok(answer) if mark(&answer) == Some(&id) && answer.decision == Decision::Allow => Ok(()),
        other => Err(format!("a good connection answers {id} with {other:?}")),
    }
}

fn head<'a>(id: &'a str, uri: &'a str) -> RequestHeaders<'a, &'a [(&'a str, &'a str)]> {
    RequestHeaders {
        metadata: Metadata {
            correlation_id: id,
            ..Metadata::default()
        },
        method: "GET",
        uri,
        headers: &[("host", "example.com"), ("accept", "*/*")],
    }
}

/// Calls of a pool, and the check of their answers.
pub struct Calls<'c> {
    pub pool: &'c AgentPool,
    pub agent: &'c Agent,
    /// Checks the mark of an answer to the call with an id.
    pub check: &'c dyn Fn(&str, Option<&str>) -> Checked,
}

impl Calls<'_> {
    /// Makes all calls. They may fail, but within their time.
    pub async fn make(&self) -> Checked {
        let (pool, agent) = (self.pool, self.agent);
        self.exchange("exchange-1").await?;
        let frame = WebSocketFrame {
            correlation_id: "exchange-3",
            opcode: WebSocketOpcode::Text,
            data: b"text".as_slice().into(),
            client_to_server: true,
            frame_index: 0,
            fin: true,
            route_id: None,
            client_ip: "192.0.2.1",
        };
        self.check("exchange-3", agent.send("exchange-3", &frame))
            .await?;
        let text = guardrail("exchange-4");
        self.check("exchange-4", agent.send("exchange-4", &text))
            .await?;
        // Fails if the agent does.
        let _ = agent.ping().await;
        let one = head("exchange-5", "/wait");
        let two = head("exchange-6", "/wait");
        let three = head("exchange-7", "/");
        let (one, two, three) = tokio::join!(
            self.check("exchange-5", agent.send("exchange-5", &one)),
            self.check("exchange-6", agent.send("exchange-6", &two)),
            self.check("exchange-7", agent.send("exchange-7", &three)),
        );
        // At last, as its late answer changes which slots later calls get.
        if let Ok(mut exchange) = agent.exchange("exchange-2") {
            // Fails if the agent does.
            let _ = exchange.push(&head("exchange-2", "/wait")).await;
            exchange.cancel(CancelReason::Manual);
        }
        for number in 1..=7 {
            pool.unpin(&format!("exchange-{number}"));
        }
        one.and(two).and(three)
    }

    /// All events of a request.
    async fn exchange(&self, id: &str) -> Checked {
        let agent = self.agent;
        self.check(id, agent.send(id, &head(id, "/path"))).await?;
        let data = vec![b'd'; 2000];
        for (index, data) in [&data[..30], &data].into_iter().enumerate() {
            let chunk = BodyChunk::new(id, data.to_vec().into(), index as u32, index == 1);
            self.check(id, agent.send(id, &RequestBodyChunk(chunk)))
                .await?;
        }
        let response = ResponseHeaders {
            correlation_id: id,
            status: 200,
            headers: &[("content-type", "text/plain")][..],
        };
        self.check(id, agent.send(id, &response)).await?;
        let chunk = BodyChunk::new(id, data.into(), 0, true);
        self.check(id, agent.send(id, &ResponseBodyChunk(chunk)))
            .await?;
        self.check(id, agent.send(id, &complete(id))).await
    }

    async fn check(
        &self,
        id: &str,
        call: impl Future<Output = Result<AgentResponse, CallError>>,
    ) -> Checked {
        let began = Instant::now();
        let answer = call.await;
        let took = began.elapsed();
        if took > MAX_CALL {
            return Err(format!("call {id} took {took:?}"));
        }
        match answer {
            Ok(answer) => (self.check)(id, mark(&answer)),
            Err(_) => Ok(()),
        }
    }
}

fn guardrail(id: &str) -> GuardrailInspect<'_> {
    GuardrailInspect {
        correlation_id: id,
        inspection_type: GuardrailInspectionType::PromptInjection,
        content: "text",
        model: None,
        categories: Vec::new(),
        route_id: None,
        metadata: vec![("name", "value")],
    }
}

fn complete(id: &str) -> RequestComplete<'_> {
    RequestComplete {
        correlation_id: id,
        status: 200,
        duration_ms: 12,
        request_body_size: 2030,
        response_body_size: 2000,
        upstream_attempts: 1,
        error: None,
    }
}

/// Sends every message that an agent can send by itself.
pub async fn send_notices(control: &AgentControl) {
    control.flow_control(FlowControlAction::UpdateCapacity {
        buffer_available: 5,
    });
    control.flow_control(FlowControlAction::Pause);
    sleep(Duration::from_millis(2)).await;
    control.flow_control(FlowControlAction::Resume);
    control.report_health(HealthStatus::degraded("agent", vec!["x".to_owned()], 1.5));
    control.report_health(HealthStatus::healthy("agent"));
    let mut metrics = MetricsReport::new("agent", 1000);
    metrics.counters.push(CounterMetric::new("requests", 7));
    control.report_metrics(metrics);
    control.log(LogMessage::new(LogLevel::Info, "a line").with_field("number", 3));
    // A request for the settings would be followed by a call at a time that varies.
    let update = ConfigUpdateType::ConfigError {
        error: "unknown".to_owned(),
        field: None,
    };
    control.request_config_update(ConfigUpdateRequest::new("update-1", update));
    sleep(Duration::from_millis(5)).await;
}
