//! `tollgate agent --dial`: an agent that dials proxies.

use crate::support::{TestDir, fails, run, tollgate};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tollgate::{
    AgentPool, Decision, RequestHeadersEvent, ReverseConnectionConfig, ReverseConnectionListener,
};

const TEST_TIMEOUT: Duration = Duration::from_secs(10);

#[test]
fn agent_registers_with_its_token_and_shuts_down_cleanly() {
    let dir = TestDir::new();
    let socket = dir.path("proxy.sock");
    let token = dir.file("token", "s3cret\n");
    let runtime = Runtime::new().expect("runtime");
    let config = ReverseConnectionConfig::default().auth_tokens(["s3cret".to_owned()].into());
    let listener = runtime
        .block_on(ReverseConnectionListener::bind_uds(&socket, config))
        .expect("listen");
    let options = [
        "--connections",
        "3",
        "--token-file",
        &token,
        "--block-path",
        "/admin",
    ];
    let mut agent = dial(&socket, &options);
    let pool = AgentPool::new();
    let handle = runtime.block_on(async {
        for _ in 0..3 {
            let accepted = timeout(TEST_TIMEOUT, listener.accept_one(&pool)).await;
            let accepted = accepted.expect("timed out").expect("accepted");
            assert_eq!(accepted.id(), "tollgate");
        }
        let handle = pool.agent("tollgate").expect("known");
        for (uri, is_allowed) in [("/", true), ("/admin/users", false)] {
            let event = RequestHeadersEvent {
                uri: uri.to_owned(),
                ..request()
            };
            let answer = handle.send(uri, &event).await.expect("answer");
            assert_eq!(answer.decision == Decision::Allow, is_allowed, "{uri}");
        }
        handle
    });
    let kill = Command::new("kill").arg(agent.id().to_string()).status();
    assert!(kill.expect("kill").success());
    assert!(agent.wait().expect("wait").success());
    assert_eq!(handle.stats().faults.invalid_frames, 0);
}

#[test]
fn rejected_agent_logs_the_rejection() {
    let dir = TestDir::new();
    let socket = dir.path("proxy.sock");
    let runtime = Runtime::new().expect("runtime");
    let config = ReverseConnectionConfig::default().auth_tokens(["s3cret".to_owned()].into());
    let listener = runtime
        .block_on(ReverseConnectionListener::bind_uds(&socket, config))
        .expect("listen");
    let mut agent = dial(&socket, &["--connections", "1"]);
    let rejected = runtime.block_on(listener.accept_one(&AgentPool::new()));
    assert!(rejected.is_err());
    let mut line = String::new();
    let stderr = agent.stderr.as_mut().expect("stderr");
    BufReader::new(stderr).read_line(&mut line).expect("line");
    assert!(
        line.contains(&socket) && line.contains("rejected"),
        "{line}"
    );
    agent.kill().expect("kill");
    agent.wait().expect("wait");
}

#[test]
fn agent_dials_again_if_its_log_has_no_space() {
    let dir = TestDir::new();
    let socket = dir.path("proxy.sock");
    let full = File::options().write(true).open("/dev/full");
    Runtime::new().expect("runtime").block_on(async {
        let listener = UnixListener::bind(&socket).expect("listen");
        let mut agent = tollgate(&["agent", "--dial", &socket, "--connections", "1"])
            .stderr(full.expect("open"))
            .spawn()
            .expect("spawn");
        let dialed = timeout(TEST_TIMEOUT, async {
            for _ in 0..3 {
                // The agent logs that the connection ended.
                drop(listener.accept().await.expect("accepted"));
            }
        });
        let dialed = dialed.await;
        agent.kill().expect("kill");
        agent.wait().expect("wait");
        dialed.expect("the agent dials no more");
    });
}

#[test]
fn agent_either_listens_or_dials() {
    for args in [
        &["agent"][..],
        &["agent", "--listen", "/a", "--dial", "/b"],
        &["agent", "--listen", "/a", "--token-file", "/t"],
        &["agent", "--dial", "proxy:7000"],
        &["agent", "--dial", "/a", "--connections", "0"],
    ] {
        assert_eq!(run(args).status.code(), Some(2), "{args:?}");
    }
    let long = format!("/{}", "x".repeat(200));
    fails(&run(&["agent", "--listen", &long]), 1, &["107"]);
}

/// Starts an agent and waits until it prints that it dials.
fn dial(socket: &str, options: &[&str]) -> Child {
    let mut agent = tollgate(&["agent", "--dial", socket])
        .args(options)
        .stderr(Stdio::piped())
        .spawn()
        .expect("spawn");
    // A buffer of one byte, so that nothing of the next line is consumed.
    let stderr = agent.stderr.as_mut().expect("stderr");
    let mut line = String::new();
    BufReader::with_capacity(1, stderr)
        .read_line(&mut line)
        .expect("line");
    assert_eq!(line, format!("dialing {socket}\n"));
    agent
}

fn request() -> RequestHeadersEvent {
    serde_json::from_value(serde_json::json!({
        "metadata": {
            "correlation_id": "c", "request_id": "r", "client_ip": "192.0.2.7", "client_port": 1,
            "protocol": "HTTP/1.1", "timestamp": "2026-01-02T03:04:05Z",
        },
        "method": "GET", "uri": "/", "headers": {},
    }))
    .expect("an event")
}
