//! Reverse connections between tollgate and `zentinel-agent-protocol`.

use serde_json::json;
use std::sync::Arc;
use tollgate::{
    AgentPool, AgentPoolConfig, Encoding, ReverseConnectionConfig, ReverseConnectionListener,
};
use tollgate_interop::{
    AGENT, Call, Pairing, PeerAgent, RecordingDialer, Step, TIMEOUT, Via, pairings, run_client,
    script,
};

/// Name of the agent in the peers' pool.
const PEERS_AGENT: &str = "agent";

/// Returns each build of the peers once. Reverse connections have no encoding to negotiate.
fn builds() -> impl Iterator<Item = Pairing> {
    pairings().filter(|pairing| pairing.ours.len() == 2)
}

/// The pool of `zentinel-agent-protocol` makes every call that it supports over a reverse
/// connection. It rejects guardrail events there.
#[tokio::test]
async fn zentinel_listener_accepts_tollgate_dialer() {
    for pairing in builds() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("peer.sock");
        let dialer = RecordingDialer::dial(&socket, PEERS_AGENT);
        let mut lines = run_client(&pairing.peer(), Via::Listener, &socket).await;
        let records = dialer.stop().await;

        assert_eq!(lines.pop(), Some(json!({"call": "end", "ok": true})));
        let connected = lines.remove(0);
        assert_eq!(connected["ok"], true, "{connected}");
        assert_eq!(connected["capabilities"]["agent_id"], "recorder");
        let steps = script();
        assert_eq!(lines.len(), steps.len());
        for (step, mut line) in steps.iter().zip(lines) {
            if !is_possible(step) {
                assert_eq!(line["ok"], false, "{line}");
                continue;
            }
            if line["ok"] == false {
                line.as_object_mut().expect("an object").remove("error");
            }
            assert_eq!(line, step.line(Via::Listener), "{pairing}");
        }
        let was_made = |step: &&Step| is_possible(step) && step.line(Via::Listener)["ok"] == true;
        let logged: Vec<_> = steps
            .iter()
            .filter(was_made)
            .filter_map(Step::logged)
            .collect();
        assert_eq!(records, logged, "{pairing}");
    }
}

fn is_possible(step: &Step) -> bool {
    !matches!(step.call, Call::GuardrailInspect(_))
}

/// An agent that registers with the types of `zentinel-agent-protocol` is called in JSON.
#[tokio::test]
async fn tollgate_listener_accepts_zentinel_registration() {
    for pairing in builds() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("tollgate.sock");
        let listener =
            ReverseConnectionListener::bind_uds(&socket, ReverseConnectionConfig::default());
        let listener = Arc::new(listener.await.expect("the socket can be bound"));
        let pool = Arc::new(AgentPool::with_config(
            AgentPoolConfig::default().request_timeout(TIMEOUT),
        ));
        let accepting = tokio::spawn(Arc::clone(&listener).accept_loop(Arc::clone(&pool)));
        let mut peer = PeerAgent::dial(&pairing.peer(), &socket).await;
        // The agent is notified before it is in the pool.
        let agent = loop {
            match pool.agent(AGENT) {
                Some(agent) => break agent,
                None => tokio::task::yield_now().await,
            }
        };
        assert_eq!(agent.encoding(), Some(Encoding::Json));
        assert_eq!(agent.uses_extension(), Some(false));
        for step in script().iter().filter(|step| is_answered(step)) {
            let answer = step.send_to(&agent).await;
            assert_eq!(
                answer.expect(&step.name),
                step.answer,
                "{pairing}: {}",
                step.name
            );
            if let Some(logged) = step.logged_by_peer() {
                assert_eq!(peer.next_event().await, logged, "{pairing}");
            }
        }
        listener.stop();
        accepting.await.expect("the accept loop ends");
        agent.remove().expect("the agent is in the pool");
        assert_eq!(peer.kill().await, [], "{pairing}");
    }
}

/// Returns whether the peer's agent answers the step and prints all of it.
fn is_answered(step: &Step) -> bool {
    !matches!(
        step.call,
        Call::GuardrailInspect(_)
            | Call::Configure(_)
            | Call::CancelRequest(_)
            | Call::CancelAll(_)
    )
}
