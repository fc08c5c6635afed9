//! The pool under attack, and the good proxy of the server under attack.

use crate::Failure;
use crate::agent::{DIALED, Memory, TOKEN};
use crate::calls::{Callers, HOSTILE_DEADLINE, first_answer};
use crate::common::addresses::Address;
use crate::hostile_agents;
use crate::places::Places;
use std::sync::Arc;
use tollgate::{AgentConfig, AgentPool, ReverseConnectionConfig, ReverseConnectionListener};

/// Name of the record of all calls to hostile agents.
pub(crate) const HOSTILE: &str = "hostile";

const GOOD: &str = "good";

/// Calls the server under attack over each of its links.
pub(crate) async fn run_good(places: &Places) -> Result<(), Failure> {
    let pool = Arc::new(AgentPool::new());
    for (link, endpoint) in Places::LINKS.into_iter().zip(places.endpoints()) {
        pool.add(AgentConfig::new(link, endpoint).require_connection())
            .await?;
    }
    println!("ready");
    let mut callers = Callers::start(&pool, &Places::LINKS);
    callers.run(async |_, _| {}).await;
    callers.stop().await
}

/// Calls good agents, and from the first phase on hostile ones too.
pub(crate) async fn run_attacked(places: &Places) -> Result<(), Failure> {
    let pool = Arc::new(AgentPool::new());
    let good = format!("unix:{}", places.good_agent);
    pool.add(AgentConfig::new(GOOD, good).require_connection())
        .await?;
    let listener = Arc::new(listen(&places.pool).await?);
    tokio::spawn(listener.accept_loop(Arc::clone(&pool)));
    first_answer(&pool, DIALED).await;
    println!("ready");

    let mut callers = Callers::start(&pool, &[GOOD, DIALED]);
    let hostile = callers.recorder(HOSTILE);
    let mut is_attacked = false;
    let attacked = callers.run(async |callers, _| {
        if std::mem::replace(&mut is_attacked, true) {
            return;
        }
        for name in hostile_agents::NAMES {
            let socket = places.hostile_agent(name);
            if !socket.exists() {
                continue;
            }
            let socket = socket.display().to_string();
            // An agent that does not connect stays in the pool.
            if let Err(error) = pool.add(AgentConfig::new(name, socket)).await {
                panic!("cannot add the agent {name}: {error}");
            }
            callers.add(name, 0, HOSTILE_DEADLINE, &hostile);
        }
    });
    attacked.await;
    callers.stop().await?;
    let metrics = pool.metrics().snapshot();
    let memory = Memory {
        held: metrics.memory_bytes,
        closed: metrics.connections_ended_for_memory_total,
    };
    println!("{}", serde_json::to_string(&memory)?);
    Ok(())
}

async fn listen(address: &Address) -> Result<ReverseConnectionListener, Failure> {
    let Address::Tcp(address) = address else {
        return Err("agents dial over TCP".into());
    };
    let config = ReverseConnectionConfig::default()
        .agent_tokens([(DIALED.to_owned(), [TOKEN.to_owned()].into())].into());
    Ok(ReverseConnectionListener::bind_tcp(address, config).await?)
}
