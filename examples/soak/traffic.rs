//! Callers that send every kind of exchange to the agents.

use crate::account::{Ledger, checksum};
use crate::roster::{Agent, Role};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tollgate::{
    AgentPool, AgentResponse, BodyChunk, Bytes, CallError, Event, Exchange, Metadata,
    RequestBodyChunk, RequestComplete, RequestHeaders, ResponseHeaders,
};

/// Number of callers of an agent. Together they keep the links full.
fn callers(role: Role) -> usize {
    match role {
        Role::Steady => 16,
        Role::Victim | Role::Faulty => 8,
    }
}

/// Time limit of a call to an agent whose calls may fail.
const TIME_LIMIT: Duration = Duration::from_millis(250);

/// Pause after a failed call, which keeps callers of an unavailable agent from a busy loop.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(1);

pub(crate) fn start(
    pool: &AgentPool,
    agents: &[Agent],
    ledger: &Arc<Ledger>,
    stop: &Arc<AtomicBool>,
) -> Vec<JoinHandle<()>> {
    let callers = agents
        .iter()
        .flat_map(|agent| (0..callers(agent.role)).map(move |number| (agent, number)));
    callers
        .map(|(agent, number)| {
            let caller = Caller {
                pool: pool.clone(),
                ledger: Arc::clone(ledger),
                agent: agent.clone(),
            };
            let stop = Arc::clone(stop);
            tokio::spawn(async move {
                for n in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let id = format!("{}-{number}-{n}", caller.agent.id);
                    if !caller.send_request(&id, n).await {
                        sleep(PAUSE_AFTER_FAILURE).await;
                    }
                }
            })
        })
        .collect()
}

type Outcome = Result<AgentResponse, CallError>;

struct Caller {
    pool: AgentPool,
    ledger: Arc<Ledger>,
    agent: Agent,
}

impl Caller {
    /// Sends one request of a kind that depends on its number. Returns whether every call was
    /// answered.
    async fn send_request(&self, id: &str, n: u64) -> bool {
        match (self.agent.role, n % 64) {
            (Role::Faulty, _) => self.headers(id, "/").await,
            (_, 0) => self.exchange_by_id(id).await,
            (_, 1) => self.exchange(id).await,
            (_, 2) => self.pipelined_body(id).await,
            (_, 3) => self.dropped_call(id).await,
            (_, 4) => self.headers(id, "/wait/1").await,
            (Role::Victim, 5) => self.headers(id, "/wait/400").await,
            _ => self.headers(id, "/some/path?with=a&query=string").await,
        }
    }

    async fn headers(&self, id: &str, uri: &str) -> bool {
        let answer = self.send(id, &head(uri)).await;
        self.pool.unpin(id);
        self.record(id, uri.as_bytes(), &answer)
    }

    /// Sends a request's headers, body and completion through the pool, which joins them by their
    /// id.
    async fn exchange_by_id(&self, id: &str) -> bool {
        let answer = self.send(id, &head("/body")).await;
        if !self.record(id, b"/body", &answer) {
            return false;
        }
        for chunk in chunks(id) {
            let answer = self.send(id, &chunk).await;
            if !self.record(id, &chunk.0.data, &answer) {
                self.pool.unpin(id);
                return false;
            }
        }
        let complete = completed();
        let answer = self.send(id, &complete).await;
        self.pool.unpin(id);
        self.record(id, &complete.status.to_be_bytes(), &answer)
    }

    /// Sends all events of a request through one [`Exchange`](tollgate::Exchange).
    async fn exchange(&self, id: &str) -> bool {
        let Some(mut exchange) = self.begin(id) else {
            return false;
        };
        let answer = self.send_in(&mut exchange, &head("/body")).await;
        if !self.record(id, b"/body", &answer) {
            return false;
        }
        for chunk in chunks(id) {
            let answer = self.send_in(&mut exchange, &chunk).await;
            if !self.record(id, &chunk.0.data, &answer) {
                return false;
            }
        }
        let response = ResponseHeaders {
            correlation_id: id,
            status: 200,
            headers: &[("content-type", "text/html")][..],
        };
        let answer = self.send_in(&mut exchange, &response).await;
        if !self.record(id, &response.status.to_be_bytes(), &answer) {
            return false;
        }
        let complete = completed();
        let answer = self.send_in(&mut exchange, &complete).await;
        self.record(id, &complete.status.to_be_bytes(), &answer)
    }

    /// Sends the chunks of a body without waiting for the answers in between.
    async fn pipelined_body(&self, id: &str) -> bool {
        let Some(mut exchange) = self.begin(id) else {
            return false;
        };
        let mut unanswered = Vec::new();
        let mut is_answered = true;
        for chunk in chunks(id) {
            match exchange.push(&chunk).await {
                Ok(()) => unanswered.push(chunk.0.data),
                Err(error) => {
                    is_answered = self.record(id, &chunk.0.data, &Err(error));
                    break;
                }
            }
        }
        for data in unanswered {
            if let Some(answer) = exchange.next_answer().await {
                is_answered &= self.record(id, &data, &answer);
            }
        }
        is_answered
    }

    /// Starts a call and drops it, in most cases before its answer arrives.
    async fn dropped_call(&self, id: &str) -> bool {
        let uri = "/wait/2";
        let event = head(uri);
        let time_limit = Duration::from_micros(fastrand::u64(..3_000));
        let called = timeout(time_limit, self.send(id, &event)).await;
        self.pool.unpin(id);
        match called {
            Ok(answer) => self.record(id, uri.as_bytes(), &answer),
            Err(_) => {
                self.ledger.record_given_up(&self.agent);
                true
            }
        }
    }

    fn begin(&self, id: &str) -> Option<Exchange> {
        let begun = loop {
            match self.handle().exchange(id) {
                Err(CallError::Replaced { .. }) => {}
                begun => break begun,
            }
        };
        begun
            .inspect_err(|error| self.ledger.record_not_begun(&self.agent, error))
            .ok()
    }

    /// Sends an event through the pool. The pool's own time limit, which is longer, applies to
    /// steady agents: the machine may be busy.
    async fn send<E: Event>(&self, id: &str, event: &E) -> Outcome {
        loop {
            let agent = self.handle();
            let call = agent.send(id, event);
            let outcome = match self.agent.role {
                Role::Steady => call.await,
                Role::Victim | Role::Faulty => call.timeout(TIME_LIMIT).await,
            };
            if !matches!(outcome, Err(CallError::Replaced { .. })) {
                return outcome;
            }
        }
    }

    /// Returns the agent's present handle. One that was taken before the agent moved is outdated.
    fn handle(&self) -> tollgate::Agent {
        let agent = self.pool.agent(&self.agent.id);
        agent.expect("the agent is in the pool")
    }

    async fn send_in<E: Event>(&self, exchange: &mut Exchange, event: &E) -> Outcome {
        match self.agent.role {
            Role::Steady => exchange.send(event).await,
            Role::Victim | Role::Faulty => exchange.send(event).timeout(TIME_LIMIT).await,
        }
    }

    fn record(&self, id: &str, data: &[u8], answer: &Outcome) -> bool {
        self.ledger.record(&self.agent, checksum(id, data), answer);
        answer.is_ok()
    }
}

fn head(uri: &str) -> RequestHeaders<'_, &'static [(&'static str, &'static str)]> {
    RequestHeaders {
        metadata: Metadata::default(),
        method: "GET",
        uri,
        headers: &[
            ("host", "example.com"),
            ("accept", "text/html"),
            ("user-agent", "soak"),
        ],
    }
}

/// Returns the three chunks of a body, small and large.
fn chunks(id: &str) -> [RequestBodyChunk<'_>; 3] {
    let sizes = [10, 1_000, fastrand::usize(..40_000)];
    let mut index = 0;
    sizes.map(|size| {
        let data = Bytes::from(vec![fastrand::u8(..); size]);
        let chunk = RequestBodyChunk(BodyChunk::new(id, data, index, index == 2));
        index += 1;
        chunk
    })
}

fn completed() -> RequestComplete<'static> {
    RequestComplete {
        correlation_id: "",
        status: 200,
        duration_ms: 5,
        request_body_size: 0,
        response_body_size: 0,
        upstream_attempts: 1,
        error: None,
    }
}
