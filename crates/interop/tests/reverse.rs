//! Agents that connect to the proxy, where one of the two is built on the published crate.

use serde_json::json;
use std::sync::Arc;
use tollgate::{
    AgentPool, AgentPoolConfig, Encoding, ReverseConnectionConfig, ReverseConnectionListener,
};
use tollgate_interop::{
    AGENT, Call, PATIENCE, Pairing, PeerAgent, RecordingDialer, Step, Via, pairings, run_client,
    script,
};

/// The name that the peers' pool knows its agent by.
const PEERS_AGENT: &str = "agent";

/// Each build of the peers once: on connections of this kind there is nothing to agree on.
fn builds() -> impl Iterator<Item = Pairing> {
    pairings().filter(|pairing| pairing.ours.len() == 2)
}

/// The published listener takes tollgate's dialer in, and its pool makes every call that it can make over a
/// connection of that kind: it refuses guardrail events there.
#[tokio::test]
async fn the_published_listener_takes_our_dialer() {
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

/// Tollgate's listener takes an agent in that registers with the published types, and speaks JSON with it.
#[tokio::test]
async fn our_listener_takes_an_agent_with_the_published_registration() {
    for pairing in builds() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("tollgate.sock");
        let listener =
            ReverseConnectionListener::bind_uds(&socket, ReverseConnectionConfig::default());
        let listener = Arc::new(listener.await.expect("the socket can be bound"));
        let pool = Arc::new(AgentPool::with_config(AgentPoolConfig {
            request_timeout: PATIENCE,
            ..AgentPoolConfig::default()
        }));
        let accepting = tokio::spawn(Arc::clone(&listener).accept_loop(Arc::clone(&pool)));
        let mut agent = PeerAgent::dial(&pairing.peer(), &socket).await;
        // The agent is told before the pool has it.
        while pool.agent_ids().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.agent_encoding(AGENT), Some(Encoding::Json));
        assert_eq!(pool.agent_uses_extension(AGENT), Some(false));
        for step in script().iter().filter(|step| is_answered(step)) {
            let answer = step.put_to(&pool).await;
            assert_eq!(
                answer.expect(&step.name),
                step.answer,
                "{pairing}: {}",
                step.name
            );
            if let Some(logged) = step.logged_by_peer() {
                assert_eq!(agent.next_event().await, logged, "{pairing}");
            }
        }
        listener.stop();
        accepting.await.expect("it ends");
        pool.remove_agent(AGENT).await.expect("the agent is known");
        assert_eq!(agent.kill().await, [], "{pairing}");
    }
}

/// Whether the hand-written agent answers, and prints all of it.
fn is_answered(step: &Step) -> bool {
    !matches!(
        step.call,
        Call::GuardrailInspect(_)
            | Call::Configure(_)
            | Call::CancelRequest(_)
            | Call::CancelAll(_)
    )
}
