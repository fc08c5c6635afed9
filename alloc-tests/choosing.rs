//! Heap budgets of the work before anything is sent: choosing a connection, checking flow control,
//! reading the agent's state.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod support;

use support::common::{AgentProcess, message, raw_pool};
use support::{
    AGENT, Allocations, Answers, Budget, Counting, EVENTS, Flavour, HEADERS, Ids, WARM_UP, config,
    record, request,
};
use tollgate::Encoding::MessagePack;
use tollgate::{AgentConfig, AgentPool, AgentPoolConfig, Placement, stats::CircuitBreakerState};

/// Runs the agent that the other tests start as a process.
#[test]
#[ignore = "the other tests start it as the process of their agent"]
fn agent_process() {
    Answers::run_process();
}

/// Work of a proxy before a call.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Chooses a connection of one of this many agents.
    Choose(usize),
    /// Chooses a connection that the caller's own runtime serves.
    ChooseLocal,
    /// Chooses a connection of an agent that has paused another exchange.
    ChooseBesidePause,
    /// Reads the agent's state.
    ReadState,
}

on_both_runtimes! { hold:
    one_agent: Step::Choose(1), Budget::NONE;
    a_thousand_agents: Step::Choose(1_000), Budget::NONE;
    on_own_runtime: Step::ChooseLocal, Budget::NONE;
    beside_a_pause: Step::ChooseBesidePause, Budget::NONE;
    state: Step::ReadState, Budget::NONE;
}

fn hold(flavour: Flavour, step: Step, budget: Budget) {
    let counting = Counting::begin();
    let (what, made) = flavour.runtime().block_on(async {
        match step {
            Step::Choose(agents) => {
                let what = format!("choosing a connection, {agents} agents");
                (what, choose(&counting, agents, quiet()).await)
            }
            Step::ChooseLocal => {
                let what = "choosing a connection of the caller's own runtime";
                let config = quiet().placement(Placement::PerRuntime);
                (what.to_owned(), choose(&counting, 1, config).await)
            }
            Step::ChooseBesidePause => {
                let what = "choosing a connection, another exchange paused";
                (what.to_owned(), choose_beside_a_pause(&counting).await)
            }
            Step::ReadState => {
                let what = "looking at an agent's state";
                (what.to_owned(), look_at_state(&counting).await)
            }
        }
    });
    record(&what, "proxy", flavour, budget, made);
}

/// Returns a configuration with one connection per agent and without maintenance.
fn quiet() -> AgentPoolConfig {
    config(MessagePack)
        .connections_per_agent(1)
        .self_maintained(false)
}

async fn choose(counting: &Counting, agents: usize, config: AgentPoolConfig) -> Allocations {
    let dir = tempfile::tempdir().unwrap();
    let (agent, _) = AgentProcess::start(&dir.path().join("agent.sock")).await;
    let pool = AgentPool::with_config(config);
    let names: Vec<_> = (0..agents).map(|n| format!("agent-{n}")).collect();
    for name in &names {
        let endpoint = agent.socket.display().to_string();
        pool.add(AgentConfig::new(name, endpoint).require_connection())
            .await
            .unwrap();
        // After one answered call the tasks of a new connection are idle.
        let event = request("/", &HEADERS[..10]);
        pool.agent(name)
            .unwrap()
            .send("warm-up", &event)
            .await
            .unwrap();
    }
    pool.unpin("warm-up");
    count_choices(counting, &pool, &names).await
}

async fn choose_beside_a_pause(counting: &Counting) -> Allocations {
    let (_agent, pool, mut connection) = raw_pool(quiet()).await;
    let pause = br#"{"correlation_id":"another","action":{"type":"pause"},"timestamp_ms":1}"#;
    connection.send(message::FLOW_CONTROL, pause).await;
    connection.sync().await;
    assert!(pool.agent(AGENT).unwrap().exchange("another").is_err());
    count_choices(counting, &pool, &[AGENT.to_owned()]).await
}

/// Chooses connections of these agents in turn.
async fn count_choices(counting: &Counting, pool: &AgentPool, names: &[String]) -> Allocations {
    let mut ids = Ids::default();
    let mut choose = async |events: u64| {
        for name in names.iter().cycle().take(events as usize) {
            drop(pool.agent(name).unwrap().exchange(ids.next()).unwrap());
        }
        events
    };
    choose(WARM_UP).await;
    counting.during(choose(EVENTS)).await
}

async fn look_at_state(counting: &Counting) -> Allocations {
    let (_agent, pool, _connection) = raw_pool(quiet()).await;
    let agent = pool.agent(AGENT).unwrap();
    let look = async |events: u64| {
        for _ in 0..events {
            assert!(agent.is_healthy());
            let breaker = agent.circuit_breaker_state();
            assert_eq!(breaker, CircuitBreakerState::Closed);
            assert_eq!(agent.encoding(), Some(MessagePack));
        }
        events
    };
    look(WARM_UP).await;
    counting.during(look(EVENTS)).await
}
