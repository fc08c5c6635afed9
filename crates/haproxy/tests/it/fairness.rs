//! One peer's work does not keep others waiting.

use crate::peer::{Server, notify};
use std::io::{copy, sink};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::yield_now;
use tollgate::{AgentCapabilities, AgentHandler, AgentResponse, RequestHeadersView};
use tollgate_haproxy::client::Question;
use tollgate_haproxy::wire::{FrameId, Value};

/// Questions that arrive at once.
const QUESTIONS: usize = 2_000;

/// Questions of one peer that may be answered before other tasks run.
const TURN: usize = 200;

/// Counts questions, and allows all of them at once.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl AgentHandler for Counting {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("counting", "Counting", "1")
    }

    async fn on_request_headers(&self, _: RequestHeadersView<'_>) -> AgentResponse {
        self.0.fetch_add(1, Ordering::Relaxed);
        AgentResponse::default_allow()
    }
}

/// The agent and the test share one thread.
#[tokio::test]
async fn other_tasks_run_between_the_questions_of_a_peer() {
    let agent = Counting::default();
    let server = Server::start(agent.clone()).await;
    let peer = server.connect().await;
    let path = [("path", Value::from("/"))];
    let question = Question {
        name: "tollgate-req",
        arguments: &path,
    };
    let questions = notify(FrameId::default(), &[question]).repeat(QUESTIONS);
    let mut sent = 0;
    while sent < questions.len() {
        sent += peer.stream.try_write(&questions[sent..]).unwrap();
    }
    let answers = peer.stream.into_std().unwrap();
    answers.set_nonblocking(false).unwrap();
    std::thread::spawn(move || copy(&mut &answers, &mut sink()));

    let mut answered = 0;
    while answered < QUESTIONS {
        yield_now().await;
        let now = agent.0.load(Ordering::Relaxed);
        assert!(now - answered <= TURN, "{} at once", now - answered);
        answered = now;
    }
}
