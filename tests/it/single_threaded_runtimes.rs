//! One pool shared by several single-threaded runtimes, as Pingora runs them.

use crate::common::*;
use std::thread;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};
use tollgate::{AgentConfig, AgentPool, AgentPoolConfig, Decision};

const WORKERS: usize = 4;
const CALLS: usize = 200;

fn worker() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn config() -> AgentPoolConfig {
    AgentPoolConfig::default()
        .connections_per_agent(2)
        .request_timeout(TEST_TIMEOUT)
        .circuit_breaker_threshold(0)
}

/// Runs the exchanges of one worker. Returns the number of answers.
async fn exchanges(pool: &AgentPool, worker: usize) -> usize {
    let mut answered = 0;
    for number in 0..CALLS {
        let id = format!("{worker}-{number}");
        let uri = if number % 2 == 0 { "/block" } else { "/" };
        let Ok(mut exchange) = pool.agent("agent").unwrap().exchange(&id) else {
            continue;
        };
        if let Ok(response) = exchange.send(&request(&id, uri)).await {
            assert_eq!(response.decision != Decision::Allow, uri == "/block");
            answered += 1;
        }
    }
    answered
}

#[test]
fn workers_share_connections_of_another_runtime() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("agent.sock");
    serve_on_thread(&path, RuleAgent::default());

    let pool = AgentPool::with_config(config());
    let opener = worker();
    opener
        .block_on(pool.add(AgentConfig::new("agent", path.to_str().unwrap()).require_connection()))
        .unwrap();

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let opener = thread::spawn(move || opener.block_on(stopped));

    let answered: usize = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let pool = &pool;
                scope.spawn(move || worker().block_on(exchanges(pool, number)))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum()
    });

    assert_eq!(answered, WORKERS * CALLS);
    drop(stop);
    assert!(opener.join().unwrap().is_err());
}

#[test]
fn workers_continue_after_the_opening_runtime_ends() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("agent.sock");
    serve_on_thread(&path, RuleAgent::default());

    let pool = AgentPool::with_config(config());
    let opener = worker();
    opener
        .block_on(pool.add(AgentConfig::new("agent", path.to_str().unwrap()).require_connection()))
        .unwrap();

    thread::scope(|scope| {
        for number in 0..WORKERS {
            let pool = &pool;
            scope.spawn(move || {
                let deadline = Instant::now() + TEST_TIMEOUT;
                // A worker that finishes closes the connections that it has opened.
                worker().block_on(async {
                    while exchanges(pool, number).await < CALLS {
                        assert!(
                            Instant::now() < deadline,
                            "the connections are not replaced"
                        );
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                });
            });
        }
        drop(opener);
    });
}
