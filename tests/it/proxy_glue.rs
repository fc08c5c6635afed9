//! Combining the answers of several agents about one event into a verdict.

use crate::common::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tollgate::proxy::{Changes, Verdict, ask_together, status_of};
use tollgate::{
    AgentCapabilities, AgentConfig, AgentHandler, AgentPool, AgentPoolConfig, AgentResponse,
    AgentServer, CallError, Encoding, EventType, Exchange, FailureMode, HeaderOp,
    RequestHeadersView,
};

/// Adds its name to each request, and does what the header of that name says.
struct Named {
    name: &'static str,
    asked: Arc<Notify>,
}

impl AgentHandler for Named {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new(self.name, self.name, "1").with_event(EventType::RequestHeaders)
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        self.asked.notify_one();
        let wanted = event.to_event().headers.remove(self.name);
        match wanted
            .and_then(|values| values.into_iter().next())
            .as_deref()
        {
            Some("block") => AgentResponse::block(403, Some(self.name.to_owned())),
            Some("hang") => std::future::pending().await,
            _ => AgentResponse::default_allow().add_request_header(HeaderOp::Add {
                name: "x-by".to_owned(),
                value: self.name.to_owned(),
            }),
        }
    }
}

struct Agents {
    pool: AgentPool,
    second: JoinHandle<()>,
    second_asked: Arc<Notify>,
    requests: AtomicUsize,
    _folder: TempDir,
}

const NAMES: [&str; 2] = ["first", "second"];

async fn agents(config: AgentPoolConfig) -> Agents {
    agents_with(config, FailureMode::Closed).await
}

/// Like [`agents`], with a failure mode for the second one.
async fn agents_with(config: AgentPoolConfig, mode: FailureMode) -> Agents {
    let folder = TempDir::new().unwrap();
    let pool = AgentPool::with_config(config);
    let mut serving = Vec::new();
    for (name, mode) in NAMES.into_iter().zip([FailureMode::Closed, mode]) {
        let path = folder.path().join(name);
        let asked = Arc::new(Notify::new());
        let handler = Named {
            name,
            asked: Arc::clone(&asked),
        };
        let server = AgentServer::builder(handler)
            .listen(path.display().to_string())
            .bind()
            .await
            .unwrap();
        let served = tokio::spawn(async { server.serve().await.unwrap() });
        let agent = AgentConfig::new(name, path.to_str().unwrap()).failure_mode(mode);
        pool.add(agent.require_connection()).await.unwrap();
        serving.push((served, asked));
    }
    let (second, second_asked) = serving.remove(1);
    Agents {
        pool,
        second,
        second_asked,
        requests: AtomicUsize::default(),
        _folder: folder,
    }
}

impl Agents {
    /// Opens the exchanges of a new request.
    fn exchanges(&self) -> [Exchange; 2] {
        let id = format!("r-{}", self.requests.fetch_add(1, Ordering::Relaxed));
        NAMES.map(|name| self.pool.agent(name).unwrap().exchange(&id).unwrap())
    }

    async fn ask(&self, wanted: &[(&str, &str)]) -> Result<Verdict, CallError> {
        ask(&mut self.exchanges(), wanted).await
    }
}

async fn ask(exchanges: &mut [Exchange], wanted: &[(&str, &str)]) -> Result<Verdict, CallError> {
    let mut event = request(exchanges[0].correlation_id(), "/");
    for (agent, what) in wanted {
        let values = vec![(*what).to_owned()];
        event.headers.insert((*agent).to_owned(), values);
    }
    tokio::time::timeout(TEST_TIMEOUT, ask_together(exchanges, &event))
        .await
        .unwrap()
}

fn every_config() -> impl Iterator<Item = AgentPoolConfig> {
    BOTH.into_iter().flat_map(|encoding| {
        [true, false].map(|use_extension| config(encoding).use_extension(use_extension))
    })
}

#[tokio::test]
async fn changes_are_in_the_order_of_the_agents() {
    for config in every_config() {
        let agents = agents(config).await;
        let Verdict::Allow(changes) = agents.ask(&[]).await.unwrap() else {
            panic!("denied");
        };

        let by = |name: &str| HeaderOp::Add {
            name: "x-by".to_owned(),
            value: name.to_owned(),
        };
        let mut expected = Changes::default();
        expected.request_headers = vec![by("first"), by("second")];

        assert_eq!(changes, expected);
    }
}

#[tokio::test]
async fn first_denial_wins_from_any_agent() {
    for config in every_config() {
        let agents = agents(config).await;
        for (wanted, by) in [
            (vec![("first", "block")], "first"),
            (vec![("second", "block")], "second"),
            (vec![("first", "hang"), ("second", "block")], "second"),
            (vec![("first", "block"), ("second", "hang")], "first"),
        ] {
            let Verdict::Deny(denial) = agents.ask(&wanted).await.unwrap() else {
                panic!("allowed {wanted:?}");
            };
            assert_eq!(&*denial.agent_id, by);

            let answer = denial.to_http();
            assert_eq!(
                (answer.status().as_u16(), &answer.body()[..]),
                (403, by.as_bytes())
            );
        }
    }
}

/// A denial whose answer was not awaited is returned with the next event.
#[tokio::test]
async fn denial_of_an_earlier_event_still_counts() {
    let agents = agents(AgentPoolConfig::default()).await;
    let mut exchanges = agents.exchanges();
    let event = {
        let mut event = request("r", "/");
        event
            .headers
            .insert("first".to_owned(), vec!["block".to_owned()]);
        event
    };

    exchanges[0].push(&event).await.unwrap();
    let Verdict::Deny(denial) = ask(&mut exchanges, &[]).await.unwrap() else {
        panic!("allowed");
    };
    assert_eq!(&*denial.agent_id, "first");
}

#[tokio::test]
async fn killed_agent_fails_by_its_failure_mode() {
    for mode in [FailureMode::Closed, FailureMode::Open] {
        let agents = agents_with(config(Encoding::MessagePack), mode).await;
        let mut exchanges = agents.exchanges();

        let asking = ask(&mut exchanges, &[("second", "hang")]);
        let killing = async {
            agents.second_asked.notified().await;
            agents.second.abort();
        };
        match (mode, tokio::join!(asking, killing).0) {
            (FailureMode::Closed, Err(error)) => {
                assert_eq!(error.agent_id(), "second");
                assert_eq!(status_of(&error), 503);
            }
            (FailureMode::Open, Ok(Verdict::Allow(changes))) => {
                assert_eq!(changes.request_headers.len(), 1);
            }
            (_, outcome) => panic!("{mode:?}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn exchange_knows_its_agents_subscriptions() {
    let agents = agents(AgentPoolConfig::default()).await;
    for (exchange, name) in agents.exchanges().iter().zip(NAMES) {
        assert_eq!(exchange.agent_id(), name);
        assert!(exchange.is_subscribed(EventType::RequestHeaders));
        assert!(!exchange.is_subscribed(EventType::ResponseHeaders));
    }
}
