//! Agents to try the proxy with.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinHandle;
use tollgate::{
    AgentCapabilities, AgentHandler, AgentLimits, AgentProtocolError, AgentResponse, BodyChunk,
    BodyMutation, CancelReason, Decision, EventType, HeaderOp, RequestComplete,
    RequestCompleteEvent, RequestHeadersView, ResponseHeadersView, UdsAgentServer,
};

/// No body may contain it, however it is cut into chunks.
pub const WORD: &[u8] = b"attack";

/// Decides by the path, and by what is in bodies.
///
/// | what | what becomes of it |
/// |---|---|
/// | `/blocked` | 403, with a body and the header `x-blocked-by` |
/// | `/moved`, `/members` | a redirect to `/elsewhere`, a challenge |
/// | `/hang` | never answered |
/// | `/hang/NAME` | never answered by the agent of this name, and blocked by others |
/// | any other path | allowed; adds `x-agent: NAME` to the request and `x-seen-by: NAME` to the response, removes `x-secret` |
/// | `attack` in a body | 403; a chunk that may be the beginning of it is kept back |
/// | a response with the header `x-leak` | 502 |
/// | a chunk `drop me`, a chunk `replace me` | dropped, replaced by `NAME was here` |
pub struct RuleAgent {
    name: String,
    events: Vec<EventType>,
    /// The ends of bodies that may be the beginning of the word.
    tails: Mutex<HashMap<String, Vec<u8>>>,
    notes: Notes,
}

/// What an agent was told and may not answer.
#[derive(Debug, Clone, Default)]
pub struct Notes(Arc<Mutex<NoteBook>>);

/// What is in [`Notes`].
#[derive(Debug, Default)]
pub struct NoteBook {
    /// Paths of requests that it was asked about.
    pub asked: Vec<String>,
    /// Requests that are over.
    pub completed: Vec<RequestCompleteEvent>,
    /// Requests that nobody waits for any more, and why.
    pub cancelled: Vec<(String, CancelReason)>,
    /// Whom requests came from, protocol and address.
    pub clients: HashSet<(String, String)>,
}

impl Notes {
    /// Looks into them.
    pub fn read(&self) -> MutexGuard<'_, NoteBook> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RuleAgent {
    /// An agent that wants to know of these kinds of events.
    pub fn new(name: &str, events: impl Into<Vec<EventType>>) -> Self {
        Self {
            name: name.to_owned(),
            events: events.into(),
            tails: Mutex::default(),
            notes: Notes::default(),
        }
    }

    /// What it is told from now on.
    pub fn notes(&self) -> Notes {
        self.notes.clone()
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
        let path = event.uri.to_owned();
        let client = (
            event.metadata.protocol.to_owned(),
            event.metadata.client_ip.to_owned(),
        );
        {
            let mut notes = self.notes.read();
            notes.asked.push(path.clone());
            notes.clients.insert(client);
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
            return AgentResponse::block(502, Some("the upstream says too much\n".to_owned()));
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
        self.notes.read().completed.push(event.to_event());
        AgentResponse::default_allow()
    }

    fn on_cancel(&self, correlation_id: &str, reason: CancelReason) {
        self.notes
            .read()
            .cancelled
            .push((correlation_id.to_owned(), reason));
    }
}

/// Allows everything at once, for measuring what the way there and back costs.
pub struct AllowAgent {
    /// What it wants to be asked about.
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

/// An agent on a task of this process. It is killed when this is dropped: its connections end at once.
pub struct Served {
    socket: PathBuf,
    task: JoinHandle<()>,
}

impl Served {
    /// Serves an agent. Proxies can connect once this returns.
    ///
    /// # Errors
    ///
    /// The socket cannot be made.
    pub async fn start(
        socket: &Path,
        agent: impl AgentHandler,
    ) -> Result<Self, AgentProtocolError> {
        let server = UdsAgentServer::new(socket, agent).bind().await?;
        let task = tokio::spawn(async move {
            if let Err(error) = server.serve().await {
                tracing::error!(%error, "an agent ends");
            }
        });
        Ok(Self {
            socket: socket.to_owned(),
            task,
        })
    }

    /// Where it is.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends it, and waits until its connections have ended.
    pub async fn kill(mut self) {
        self.task.abort();
        // Says that it was aborted.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}
