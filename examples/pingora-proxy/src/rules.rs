//! Agents for the demonstration and the tests.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinHandle;
use tollgate::error::BindError;
use tollgate::{
    AgentCapabilities, AgentHandler, AgentResponse, AgentServer, BodyChunk, CancelReason, Decision,
    EventType, HeaderOp, RequestComplete, RequestHeadersView, ResponseHeadersView,
    control::AgentLimits, events::RequestCompleteEvent, response::BodyMutation,
};

/// The word that no body may contain, in one chunk or split across chunks.
pub const WORD: &[u8] = b"attack";

/// An agent that decides by the path and by the content of bodies.
///
/// | request or response | result |
/// |---|---|
/// | `/blocked` | 403, with a body and the header `x-blocked-by` |
/// | `/moved`, `/members` | a redirect to `/elsewhere`, a challenge |
/// | `/hang` | never answered |
/// | `/hang/NAME` | never answered by the agent of this name, and blocked by others |
/// | any other path | allowed; the request gets `x-agent: NAME` and loses `x-secret` |
/// | its response | gets `x-seen-by: NAME` |
/// | `attack` in a body | 403; a chunk that may contain its beginning is held back |
/// | a response with the header `x-leak` | 502 |
/// | a chunk `drop me`, a chunk `replace me` | dropped, replaced by `NAME was here` |
pub struct RuleAgent {
    name: String,
    events: Vec<EventType>,
    /// Ends of bodies that may be the beginning of the word, by direction and correlation id.
    tails: Mutex<HashMap<String, Vec<u8>>>,
    record: EventRecord,
}

/// Events that an agent has received, shared with the test that inspects them.
#[derive(Debug, Clone, Default)]
pub struct EventRecord(Arc<Mutex<RecordedEvents>>);

/// Content of an [`EventRecord`].
#[derive(Debug, Default)]
pub struct RecordedEvents {
    /// Paths of the requests, from their headers.
    pub asked: Vec<String>,
    /// Completed requests.
    pub completed: Vec<RequestCompleteEvent>,
    /// Correlation ids of cancelled requests, and the reasons.
    pub cancelled: Vec<(String, CancelReason)>,
    /// Protocols and addresses of clients.
    pub clients: HashSet<(String, String)>,
}

impl EventRecord {
    /// Locks the record for reading or writing.
    pub fn lock(&self) -> MutexGuard<'_, RecordedEvents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RuleAgent {
    /// Creates an agent that subscribes to these types of events.
    pub fn new(name: &str, events: impl Into<Vec<EventType>>) -> Self {
        Self {
            name: name.to_owned(),
            events: events.into(),
            tails: Mutex::default(),
            record: EventRecord::default(),
        }
    }

    /// Returns the record of the agent's events.
    pub fn record(&self) -> EventRecord {
        self.record.clone()
    }

    fn judge_chunk(
        &self,
        side: &str,
        chunk: &BodyChunk<'_>,
    ) -> (AgentResponse, Option<BodyMutation>) {
        let key = format!("{side} {}", chunk.correlation_id);
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = tails.remove(&key).unwrap_or_default();
        text.extend_from_slice(&chunk.data);
        if text.windows(WORD.len()).any(|part| part == WORD) {
            return (self.block(), None);
        }
        let longest = (1..WORD.len())
            .rev()
            .find(|&length| text.ends_with(&WORD[..length]));
        let is_suspicious = !chunk.is_last && longest.is_some();
        if let Some(length) = longest.filter(|_| is_suspicious) {
            tails.insert(key, text.split_off(text.len() - length));
        }
        let index = chunk.chunk_index;
        let mutation = match &chunk.data[..] {
            b"drop me" => Some(BodyMutation::drop_chunk(index)),
            b"replace me" => Some(BodyMutation::replace(
                index,
                format!("{} was here", self.name),
            )),
            _ => None,
        };
        (
            AgentResponse::default_allow().set_needs_more(is_suspicious),
            mutation,
        )
    }

    fn block(&self) -> AgentResponse {
        AgentResponse::decided(Decision::Block {
            status: 403,
            body: Some(format!("blocked by {}\n", self.name)),
            headers: Some(HashMap::from([(
                "x-blocked-by".to_owned(),
                self.name.clone(),
            )])),
        })
    }

    fn op(&self, name: &str) -> HeaderOp {
        HeaderOp::Add {
            name: name.to_owned(),
            value: self.name.clone(),
        }
    }
}

impl AgentHandler for RuleAgent {
    fn capabilities(&self) -> AgentCapabilities {
        capabilities(&self.name, &self.events)
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        let path = event.path().into_owned();
        let client = (
            event.metadata.protocol.to_owned(),
            event.metadata.client_ip.to_owned(),
        );
        {
            let mut record = self.record.lock();
            record.asked.push(path.clone());
            record.clients.insert(client);
        }
        match &*path {
            "/blocked" => self.block(),
            "/moved" => AgentResponse::redirect("/elsewhere".to_owned(), 302),
            "/members" => AgentResponse::decided(Decision::Challenge {
                challenge_type: "Bearer".to_owned(),
                params: HashMap::from([("realm".to_owned(), "members".to_owned())]),
            }),
            "/hang" => std::future::pending().await,
            path if path.strip_prefix("/hang/") == Some(&self.name) => std::future::pending().await,
            path if path.starts_with("/hang/") => self.block(),
            _ => AgentResponse::default_allow()
                .add_request_header(self.op("x-agent"))
                .add_request_header(HeaderOp::Remove {
                    name: "x-secret".to_owned(),
                })
                .add_response_header(self.op("x-seen-by")),
        }
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        let (response, mutation) = self.judge_chunk("request", &event);
        AgentResponse {
            request_body_mutation: mutation,
            ..response
        }
    }

    async fn on_response_headers(&self, event: ResponseHeadersView<'_>) -> AgentResponse {
        if event.to_event().headers.contains_key("x-leak") {
            return AgentResponse::block(502, Some("the response leaks data\n".to_owned()));
        }
        AgentResponse::default_allow().add_response_header(self.op("x-passed-by"))
    }

    async fn on_response_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        let (response, mutation) = self.judge_chunk("response", &event);
        AgentResponse {
            response_body_mutation: mutation,
            ..response
        }
    }

    async fn on_request_complete(&self, event: RequestComplete<'_>) -> AgentResponse {
        self.record.lock().completed.push(event.to_event());
        AgentResponse::default_allow()
    }

    fn on_cancel(&self, correlation_id: &str, reason: CancelReason) {
        self.record
            .lock()
            .cancelled
            .push((correlation_id.to_owned(), reason));
    }
}

/// An agent that allows everything immediately, for measuring the overhead of calls.
pub struct AllowAgent {
    /// Types of events that it subscribes to.
    pub events: Vec<EventType>,
}

impl AgentHandler for AllowAgent {
    fn capabilities(&self) -> AgentCapabilities {
        capabilities("allow", &self.events)
    }
}

fn capabilities(name: &str, events: &[EventType]) -> AgentCapabilities {
    let capabilities = AgentCapabilities::new(name, name, "1").with_limits(AgentLimits {
        max_body_size: 1 << 30,
        ..AgentLimits::default()
    });
    let events = events.iter().copied();
    events.fold(capabilities, AgentCapabilities::with_event)
}

/// An agent on a task of this process. Dropping this ends the agent and its connections at once.
pub struct RunningAgent {
    socket: PathBuf,
    task: JoinHandle<()>,
}

impl RunningAgent {
    /// Starts an agent. Proxies can connect once this returns.
    ///
    /// # Errors
    ///
    /// Returns an error if the socket cannot be created.
    pub async fn start(socket: &Path, agent: impl AgentHandler) -> Result<Self, BindError> {
        let server = AgentServer::builder(agent)
            .listen(socket.display().to_string())
            .bind()
            .await?;
        let task = tokio::spawn(async move {
            if let Err(error) = server.serve().await {
                tracing::error!(%error, "an agent stopped serving");
            }
        });
        Ok(Self {
            socket: socket.to_owned(),
            task,
        })
    }

    /// Returns the path of its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends the agent and waits until its connections have ended.
    pub async fn kill(mut self) {
        self.task.abort();
        // Returns the error that the task was aborted.
        let _ = (&mut self.task).await;
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        self.task.abort();
    }
}
