//! `tollgate load` and `tollgate demo`.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use crate::support::{self, TestDir, fails, run, succeeds, tollgate};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CAPTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/capture.har");
const ATTACK: [&str; 2] = ["--block-body", "' OR '1'='1"];

#[test]
fn load_reports_every_request_in_both_encodings() {
    let agent = Agent::start(&[]);
    for encoding in ["msgpack", "json"] {
        let report = agent.load(&["--requests", "500", "--encoding", encoding]);
        assert_eq!(
            keys(&report),
            [
                "requests",
                "errors",
                "seconds",
                "requests_per_second",
                "latency_us",
                "decisions",
                "encoding",
                "link",
                "allocations_per_request"
            ]
        );
        assert_eq!(
            keys(&report["latency_us"]),
            ["p50", "p90", "p99", "p999", "max"]
        );
        assert_eq!(report["requests"], 500);
        assert_eq!(report["errors"], 0);
        assert_eq!(report["decisions"], json!({ "allow": 500 }));
        assert_eq!(report["encoding"], encoding);
        assert!(number(&report["seconds"]) > 0.0);
        assert!(number(&report["requests_per_second"]) > 0.0);
        assert!(number(&report["allocations_per_request"]) >= 0.0);
        let latency =
            ["p50", "p90", "p99", "p999", "max"].map(|name| number(&report["latency_us"][name]));
        assert!(latency[0] > 0.0 && latency.is_sorted(), "{latency:?}");
    }
}

/// The link can be chosen, and the report names it.
#[test]
fn link_can_be_chosen() {
    let agent = Agent::start(&[]);
    for (link, used) in [
        ("socket", "socket"),
        ("shared-memory", "shared-memory"),
        ("auto", "shared-memory"),
    ] {
        let report = agent.load(&["--requests", "200", "--link", link]);
        assert_eq!(
            (&report["link"], &report["errors"]),
            (&json!(used), &json!(0))
        );
    }
    let demo = succeeds(run(&[
        "demo",
        "--seconds",
        "0.1",
        "--link",
        "shared-memory",
        "--json",
    ]));
    assert_eq!(demo["link"], "shared-memory");
}

/// Shared memory needs a Unix socket.
#[test]
fn shared_memory_over_tcp_is_an_error() {
    let agent = support::Agent::start("tcp://127.0.0.1:0", &[]);
    let args = [
        "load",
        agent.endpoint(),
        "--requests",
        "1",
        "--link",
        "shared-memory",
    ];
    fails(&run(&args), 1, &["no shared memory", "Unix socket"]);
    let probed = succeeds(run(&["probe", agent.endpoint(), "--json"]));
    assert_eq!(probed["link"], "socket");
}

#[test]
fn load_sends_exactly_one_request() {
    let agent = Agent::start(&[]);
    let report = agent.load(&["--requests", "1", "--concurrency", "64"]);
    assert_eq!(report["decisions"], json!({ "allow": 1 }));
}

#[test]
fn load_ends_after_the_given_time() {
    let agent = Agent::start(&[]);
    let report = agent.load(&[
        "--seconds",
        "0.2",
        "--concurrency",
        "8",
        "--connections",
        "2",
    ]);
    assert_eq!(report["errors"], 0);
    assert!(number(&report["seconds"]) >= 0.2);
}

#[test]
fn load_sends_bodies_in_several_chunks() {
    let agent = Agent::start(&ATTACK);
    for encoding in ["msgpack", "json"] {
        let report = agent.load(&[
            "--requests",
            "100",
            "--body-bytes",
            "200000",
            "--encoding",
            encoding,
        ]);
        assert_eq!(report["errors"], 0);
        assert_eq!(report["decisions"], json!({ "allow": 100 }));
    }
}

#[test]
fn load_replays_a_capture_with_its_bodies() {
    let agent = Agent::start(&ATTACK);
    for encoding in ["msgpack", "json"] {
        // Two of its four requests contain the attack, one of them in base64.
        let report = agent.load(&[
            "--requests",
            "100",
            "--har",
            CAPTURE,
            "--encoding",
            encoding,
        ]);
        assert_eq!(report["errors"], 0);
        assert_eq!(report["decisions"], json!({ "allow": 50, "block": 50 }));
    }
}

#[test]
fn load_prints_the_figures_as_text() {
    let agent = Agent::start(&[]);
    let output = run(&["load", agent.endpoint(), "--requests", "200"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for figure in [
        "requests per second",
        "p99.9",
        "█",
        "allow 200",
        "errors       0",
        "msgpack",
    ] {
        assert!(text.contains(figure), "{figure} in:\n{text}");
    }
    assert!(output.stderr.is_empty(), "progress is for terminals");
}

#[test]
fn load_rejects_invalid_captures() {
    let directory = TempDir::new().unwrap();
    let no_json = directory.path().join("no.har");
    std::fs::write(&no_json, "<html>").unwrap();
    let no_requests = directory.path().join("empty.har");
    std::fs::write(&no_requests, r#"{"log":{"entries":[]}}"#).unwrap();
    let missing = directory.path().join("missing.har");
    for (file, cause) in [
        (&no_json, "not a HAR capture"),
        (&no_requests, "no HTTP request"),
        (&missing, "No such file"),
    ] {
        let file = file.to_str().unwrap();
        let output = run(&["load", "/nowhere.sock", "--har", file, "--json"]);
        fails(&output, 2, &[file, cause]);
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn load_without_an_agent_prints_endpoint_and_cause() {
    let output = run(&["load", "unix:/nowhere/agent.sock", "--json"]);
    fails(&output, 1, &["/nowhere/agent.sock", "no such socket"]);
    assert!(output.stdout.is_empty());
}

#[test]
fn load_reports_after_the_agent_disconnects() {
    let agent = Agent::start(&[]);
    let endpoint = &relay_closing_after(64 * 1024, &agent);
    let output = run(&[
        "load",
        endpoint,
        "--seconds",
        "600",
        "--connections",
        "1",
        "--json",
    ]);
    let report = json_of(&output);
    assert!(number(&report["errors"]) > 0.0);
    assert!(number(&report["decisions"]["allow"]) > 0.0);
    assert!(number(&report["seconds"]) < 300.0);
    // The first to fail is a call on the connection or one that finds none.
    fails(&output, 1, &[endpoint, "requests failed", "closed"]);
}

#[test]
fn load_reports_events_that_time_out() {
    let agent = Agent::start(&["--delay", "10s"]);
    let output = run(&[
        "load",
        agent.endpoint(),
        "--requests",
        "3",
        "--concurrency",
        "1",
        "--timeout",
        "100ms",
        "--json",
    ]);
    let report = json_of(&output);
    assert_eq!(report["requests"], 3);
    assert_eq!(report["errors"], 3);
    assert_eq!(report["decisions"], json!({ "allow": 0 }));
    fails(&output, 1, &["3 of 3 requests failed"]);
}

#[test]
fn demo_runs_an_agent_and_reports() {
    let output = run(&["demo", "--seconds", "1", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "progress is for terminals");
    let report = json_of(&output);
    assert_eq!(report["errors"], 0);
    assert_eq!(report["encoding"], "msgpack");
    assert_eq!(report["connections"], 4);
    assert_eq!(report["concurrency"], 64);
    assert!(number(&report["allocations_per_request"]) < 1.0, "{report}");
    let decided = |kind: &str| number(&report["decisions"][kind]);
    let blocked = decided("block") / (decided("allow") + decided("block"));
    assert!((0.03..0.07).contains(&blocked), "{report}");
}

#[test]
fn demo_supports_json_and_cleans_up() {
    let directory = TempDir::new().unwrap();
    let output = tollgate(&["demo", "--seconds", "0.3", "--encoding", "json", "--json"])
        .env("TMPDIR", directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(json_of(&output)["encoding"], "json");
    assert_eq!(json_of(&output)["errors"], 0);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn demo_supports_agents_that_dial_the_proxy() {
    let directory = TempDir::new().unwrap();
    let options = [
        "--reverse",
        "--seconds",
        "0.5",
        "--connections",
        "2",
        "--json",
    ];
    for encoding in ["msgpack", "json"] {
        let output = tollgate(&["demo", "--encoding", encoding])
            .args(options)
            .env("TMPDIR", directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let report = json_of(&output);
        assert_eq!(report["errors"], 0);
        assert_eq!(report["encoding"], encoding);
        assert_eq!(report["connections"], 2);
        assert!(number(&report["decisions"]["block"]) > 0.0, "{report}");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn demo_runs_the_agent_in_its_own_process() {
    let output = run(&["demo", "--local", "--seconds", "0.5", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report = json_of(&output);
    assert_eq!(report["errors"], 0);
    assert_eq!(report["encoding"], "none");
    let decided = |kind: &str| number(&report["decisions"][kind]);
    let blocked = decided("block") / (decided("allow") + decided("block"));
    assert!((0.03..0.07).contains(&blocked), "{report}");
    for other in [&["--reverse"][..], &["--encoding", "json"]] {
        let refused = run(&[&["demo", "--local"], other].concat());
        assert_eq!(refused.status.code(), Some(2));
    }
}

#[test]
fn demo_cleans_up_after_a_signal() {
    let directory = TempDir::new().unwrap();
    let demo = tollgate(&["demo", "--seconds", "600"])
        .env("TMPDIR", directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut agent = connect_below(directory.path());
    let terminated = Command::new("kill").arg(demo.id().to_string()).status();
    assert!(terminated.unwrap().success());
    let ended = demo.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    // Before it the agent may have logged that the pool left in the middle of its handshake.
    let last = text(&ended.stderr).lines().last();
    assert_eq!(last, Some("tollgate: interrupted"));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let read = agent.read(&mut [0]);
    assert!(!matches!(read, Ok(1..)), "the agent still answers");
}

/// Connects to the agent that a demo starts below `directory`, as soon as it listens.
fn connect_below(directory: &Path) -> UnixStream {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let entries = std::fs::read_dir(directory).unwrap().flatten();
        let mut sockets = entries.map(|entry| entry.path().join("agent.sock"));
        if let Some(agent) = sockets.find_map(|socket| UnixStream::connect(socket).ok()) {
            return agent;
        }
        thread::sleep(Duration::from_millis(2));
    }
    panic!("no agent in {}", directory.display());
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", text(&output.stdout), text(&output.stderr))
    })
}

fn keys(object: &Value) -> Vec<&str> {
    object
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// `tollgate agent` in its own temporary directory.
struct Agent {
    process: support::Agent,
    dir: TestDir,
}

impl Agent {
    fn start(options: &[&str]) -> Self {
        let dir = TestDir::new();
        Self {
            process: dir.agent(options),
            dir,
        }
    }

    fn endpoint(&self) -> &str {
        self.process.endpoint()
    }

    fn load(&self, options: &[&str]) -> Value {
        let command = ["load", self.endpoint(), "--json"];
        succeeds(run(&[&command[..], options].concat()))
    }
}

/// Relays one connection between a proxy and an agent, and closes it after `bytes` bytes of
/// answers. Returns the path of the relay's socket.
fn relay_closing_after(bytes: u64, agent: &Agent) -> String {
    let socket = agent.dir.path("relay.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let agent = UnixStream::connect(agent.endpoint()).unwrap();
    thread::spawn(move || {
        let (proxy, _) = listener.accept().unwrap();
        drop(listener);
        relay(&proxy, &agent, bytes);
    });
    socket
}

fn relay(proxy: &UnixStream, agent: &UnixStream, bytes: u64) {
    let (mut events, mut to_agent) = (proxy.try_clone().unwrap(), agent.try_clone().unwrap());
    let forward = thread::spawn(move || std::io::copy(&mut events, &mut to_agent));
    let mut to_proxy = proxy;
    // Ignored: either side may close first, which ends the relay too.
    let _ = std::io::copy(&mut agent.take(bytes), &mut to_proxy).and_then(|_| to_proxy.flush());
    let _ = proxy.shutdown(Shutdown::Both);
    let _ = agent.shutdown(Shutdown::Both);
    let _ = forward.join().unwrap();
}
