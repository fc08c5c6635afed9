//! Heap budgets of the README's own samples, which are `examples/proxy.rs` and `examples/agent.rs`.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod support;

use support::common::{AgentProcess, run_agent_process_serving};
use support::{Budget, Counting, EVENTS, Flavour, Ids, WARM_UP, config, record};
use tollgate::Encoding::MessagePack;
use tollgate::{AgentConfig, AgentPool};

#[allow(dead_code, reason = "`main` is not called")]
mod agent_sample {
    include!("../examples/agent.rs");

    pub(crate) fn handler() -> impl AgentHandler {
        NoAdmin
    }
}

#[allow(dead_code, reason = "`main` is not called")]
mod proxy_sample {
    include!("../examples/proxy.rs");

    /// Sends the sample's two events under each of `ids`.
    pub(crate) async fn send(agent: &Agent, ids: &mut super::Ids, events: u64) -> u64 {
        for _ in 0..events / 2 {
            let body = Bytes::from_static(b"q=tollgate");
            let decision = judge(agent, ids.next(), body).await.unwrap();
            assert_eq!(decision, Decision::Allow);
        }
        events
    }
}

/// Runs the agent that the other tests start as a process.
#[test]
#[ignore = "the other tests start it as the process of their agent"]
fn agent_process() {
    run_agent_process_serving(agent_sample::handler());
}

on_both_runtimes! { hold:
    samples: Budget::NONE;
}

/// The proxy sample allocates nothing once warm, and leaves nothing behind.
fn hold(flavour: Flavour, budget: Budget) {
    let counting = Counting::begin();
    flavour.runtime().block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let (agent, _) = AgentProcess::start(&dir.path().join("agent.sock")).await;
        let pool = AgentPool::with_config(config(MessagePack));
        let endpoint = agent.socket.display().to_string();
        let config = AgentConfig::new("no-admin", endpoint).require_connection();
        let agent = pool.add(config).await.unwrap();
        let mut ids = Ids::default();
        proxy_sample::send(&agent, &mut ids, WARM_UP).await;
        let sent = proxy_sample::send(&agent, &mut ids, EVENTS);
        let made = counting.during(sent).await;
        record("README's sample, msgpack", "proxy", flavour, budget, made);
        assert_eq!(support::common::pins(&pool), 0);
        assert_eq!(agent.stats().total_in_flight, 0);
    });
}

/// README shows the samples as they are compiled here.
#[test]
fn readme_shows_the_samples() {
    let readme = include_str!("../README.md");
    for sample in [
        include_str!("../examples/proxy.rs"),
        include_str!("../examples/agent.rs"),
    ] {
        let block = format!("```rust,no_run\n{sample}```");
        assert!(
            readme.contains(&block),
            "README.md lacks this sample:\n{sample}"
        );
    }
}
