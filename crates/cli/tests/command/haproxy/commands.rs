//! `probe`, `send` and `load` as HAProxy.

use crate::support::{Agent, TestDir, fails, run, run_with_input, succeeds};
use serde_json::json;

/// Starts an agent for HAProxy with these options.
fn agent(dir: &TestDir, options: &[&str]) -> Agent {
    Agent::start(
        &format!("haproxy+unix://{}", dir.path("agent.sock")),
        options,
    )
}

#[test]
fn probe_tells_the_protocol() {
    let agent = Agent::start("haproxy://127.0.0.1:0", &[]);
    let report = succeeds(run(&["probe", agent.endpoint(), "--json"]));
    assert_eq!(report["protocol"], "SPOP 2.0");
    assert_eq!(report["health"], "up");
    assert_eq!(report["max_frame_size"], 65_532);
    let output = run(&["probe", agent.endpoint()]);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("SPOP 2.0"), "{text}");
    fails(
        &run(&["probe", "haproxy+unix:///nowhere"]),
        1,
        &["haproxy+unix:///nowhere"],
    );
}

#[test]
fn send_asks_about_a_request_and_its_response() {
    let dir = TestDir::new();
    let options = ["--block-path", "/admin", "--block-body", "attack"];
    let options = [&options[..], &["--set-request-header", "x-user=7"]].concat();
    let agent = agent(&dir, &options);
    let endpoint = agent.endpoint();
    let report = succeeds(run(&["send", endpoint, "--uri", "/a?b", "--json"]));
    assert_eq!(report["encoding"], "spop");
    assert_eq!(report["decision"], "allow");
    let steps = report["steps"].as_array().expect("steps");
    assert_eq!(steps[0]["event"], "request_headers");
    assert_eq!(steps[1]["event"], "response_headers");
    let set = json!([{"set": {"name": "x-user", "value": "7"}}]);
    assert_eq!(steps[0]["request_headers"], set);

    let report = succeeds(run(&["send", endpoint, "--uri", "//admin", "--json"]));
    assert_eq!(report["decision"], "block");
    assert_eq!(report["steps"][0]["status"], 403);
    assert_eq!(
        report["steps"][0]["audit"]["reason_codes"],
        json!(["blocked_path"])
    );

    let arguments = ["send", endpoint, "--body", "-", "--json"];
    let report = succeeds(run_with_input(&arguments, "an attack"));
    assert_eq!(report["decision"], "block");
    let report = succeeds(run_with_input(&arguments, &"a".repeat(70_000)));
    assert_eq!(report["steps"][0]["status"], 413);
}

#[test]
fn load_counts_decisions() {
    let dir = TestDir::new();
    let agent = agent(&dir, &[]);
    let arguments = [
        "load",
        agent.endpoint(),
        "--requests",
        "1000",
        "--concurrency",
        "10",
    ];
    let report = succeeds(run(
        &[&arguments[..], &["--connections", "3", "--json"]].concat()
    ));
    assert_eq!(report["requests"], 1000);
    assert_eq!(report["errors"], 0);
    assert_eq!(report["decisions"], json!({"allow": 1000}));
    assert_eq!(report["encoding"], "spop");
    let denied = [&arguments[..], &["--body-bytes", "100000", "--json"]].concat();
    let report = succeeds(run(&denied));
    // No rule looks at bodies, so those that are not shown do not matter.
    assert_eq!(report["decisions"], json!({"allow": 1000}));
}
