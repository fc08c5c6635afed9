//! Agents on tasks of the test, which record events and answer by closure.

use super::{LIMIT, Record};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinHandle;
use tollgate::control::AgentLimits;
use tollgate::events::WebSocketFrame;
use tollgate::{
    AgentCapabilities, AgentControl, AgentHandler, AgentResponse, AgentServer, BodyChunk,
    CancelReason, EventType, RequestComplete, RequestHeadersView, ResponseHeadersView,
};
use tollgate_example_settings::{AgentSettings, BodyMode, Codings, FailureMode, Role};

/// An event as an agent received it.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Request(Head),
    RequestChunk(Chunk),
    Response(u16, Headers),
    ResponseChunk(Chunk),
    Frame(Frame),
    Complete(Complete),
    Cancelled(CancelReason),
}

pub(crate) type Headers = Vec<(String, String)>;

/// The head of a request.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) headers: Headers,
    pub(crate) protocol: String,
    pub(crate) client_ip: String,
    pub(crate) body_follows: Option<bool>,
}

#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) data: Bytes,
    pub(crate) is_last: bool,
    pub(crate) index: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) data: Bytes,
    pub(crate) is_from_client: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Complete {
    pub(crate) status: u16,
    pub(crate) error: Option<String>,
}

impl Event {
    /// Returns whether this is the last event of a request.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Complete(_) | Self::Cancelled(_))
    }
}

/// `None` if the agent never answers.
type Answer = Option<AgentResponse>;

/// Description of an agent.
#[derive(Clone)]
pub(crate) struct AgentSpec {
    pub(crate) events: Vec<EventType>,
    pub(crate) settings: AgentSettings,
    answer: Arc<dyn Fn(&Event) -> Answer + Send + Sync>,
}

/// Describes an agent that decides, allows everything, and gets these events and the request
/// complete event.
pub(crate) fn agent(events: &[EventType]) -> AgentSpec {
    let mut events = events.to_vec();
    events.push(EventType::RequestComplete);
    AgentSpec {
        events,
        settings: AgentSettings::new("", ""),
        answer: Arc::new(|_| Some(AgentResponse::default_allow())),
    }
}

impl AgentSpec {
    pub(crate) fn changes(mut self) -> Self {
        self.settings.role = Role::Changes;
        self
    }

    pub(crate) fn fails_open(mut self) -> Self {
        self.settings.failure_mode = FailureMode::Open;
        self
    }

    pub(crate) fn request_body(mut self, mode: BodyMode) -> Self {
        self.settings.request_body = mode;
        self
    }

    pub(crate) fn response_body(mut self, mode: BodyMode) -> Self {
        self.settings.response_body = mode;
        self
    }

    /// Sets both modes to hybrid with this size.
    pub(crate) fn hybrid(mut self, size: usize) -> Self {
        self.settings.hybrid_size = Some(size);
        self.request_body(BodyMode::Hybrid)
            .response_body(BodyMode::Hybrid)
    }

    pub(crate) fn codings(mut self, codings: Codings) -> Self {
        self.settings.codings = codings;
        self
    }

    /// Answers by this closure; it never answers where the closure returns `None`.
    pub(crate) fn answers(
        mut self,
        answer: impl Fn(&Event) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.answer = Arc::new(answer);
        self
    }

    /// Answers the heads of requests like this, and allows everything else.
    pub(crate) fn on_head(
        self,
        answer: impl Fn() -> AgentResponse + Send + Sync + 'static,
    ) -> Self {
        self.answers(move |event| {
            Some(match event {
                Event::Request(_) => answer(),
                _ => AgentResponse::default_allow(),
            })
        })
    }
}

/// An agent that runs. Dropping this ends it and its connections.
pub(crate) struct RunningAgent {
    pub(crate) record: Record<Event>,
    control: AgentControl,
    task: JoinHandle<()>,
}

impl RunningAgent {
    pub(crate) async fn start(spec: &AgentSpec, socket: &Path) -> anyhow::Result<Self> {
        let record = Record::default();
        let handler = Scripted {
            spec: spec.clone(),
            record: record.clone(),
        };
        let server = AgentServer::builder(handler)
            .listen(socket.display().to_string())
            .bind()
            .await?;
        let control = server.control();
        let task = tokio::spawn(async move {
            let _ = server.serve().await;
        });
        Ok(Self {
            record,
            control,
            task,
        })
    }

    /// Ends the agent and waits until its connections have ended.
    pub(crate) async fn kill(&mut self) {
        self.task.abort();
        // Returns the error that the task was aborted.
        let _ = (&mut self.task).await;
        let ended = async {
            while self.control.connections() > 0 {
                tokio::task::yield_now().await;
            }
        };
        let ended = tokio::time::timeout(LIMIT, ended).await;
        ended.expect("connections of an agent that was killed go on");
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Scripted {
    spec: AgentSpec,
    record: Record<Event>,
}

impl Scripted {
    async fn judge(&self, event: Event) -> AgentResponse {
        let answer = (self.spec.answer)(&event);
        self.record.change(|seen| seen.push(event));
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

impl AgentHandler for Scripted {
    fn capabilities(&self) -> AgentCapabilities {
        let limits = AgentLimits {
            max_body_size: 1 << 30,
            ..AgentLimits::default()
        };
        AgentCapabilities {
            supported_events: self.spec.events.clone(),
            ..AgentCapabilities::new("scripted", "Scripted", "1").with_limits(limits)
        }
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        self.judge(Event::Request(Head {
            method: event.method.to_owned(),
            uri: event.uri.to_owned(),
            headers: owned(event.headers.iter()),
            protocol: event.metadata.protocol.to_owned(),
            client_ip: event.metadata.client_ip.to_owned(),
            body_follows: event.metadata.body_follows,
        }))
        .await
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        self.judge(Event::RequestChunk(event.into())).await
    }

    async fn on_response_headers(&self, event: ResponseHeadersView<'_>) -> AgentResponse {
        let headers = owned(event.headers.iter());
        self.judge(Event::Response(event.status, headers)).await
    }

    async fn on_response_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        self.judge(Event::ResponseChunk(event.into())).await
    }

    async fn on_websocket_frame(&self, event: WebSocketFrame<'_>) -> AgentResponse {
        self.judge(Event::Frame(Frame {
            data: Bytes::copy_from_slice(&event.data),
            is_from_client: event.client_to_server,
        }))
        .await
    }

    async fn on_request_complete(&self, event: RequestComplete<'_>) -> AgentResponse {
        self.judge(Event::Complete(Complete {
            status: event.status,
            error: event.error.map(str::to_owned),
        }))
        .await
    }

    fn on_cancel(&self, _correlation_id: &str, reason: CancelReason) {
        let event = Event::Cancelled(reason);
        self.record.change(|seen| seen.push(event));
    }
}

impl From<BodyChunk<'_>> for Chunk {
    fn from(chunk: BodyChunk<'_>) -> Self {
        Self {
            data: Bytes::copy_from_slice(&chunk.data),
            is_last: chunk.is_last,
            index: chunk.chunk_index,
        }
    }
}

fn owned<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Headers {
    headers
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect()
}
