//! Runs the command as its users do: as child processes, with sockets in temporary directories.

#[cfg(any(feature = "envoy", feature = "grpc"))]
mod certificates;
mod dialing;
#[cfg(feature = "envoy")]
mod envoy;
mod failures;
#[cfg(feature = "grpc")]
mod grpc;
#[cfg(feature = "haproxy")]
mod haproxy;
mod load;
mod metrics;
mod rules;
mod sockets;
mod support;
#[cfg(feature = "grpc")]
mod tls;

use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use support::{Agent, TestDir, fails, run, run_with_input, succeeds, tollgate};

fn send(agent: &Agent, options: &[&str]) -> Value {
    let mut args = vec!["send", agent.endpoint(), "--json"];
    args.extend(options);
    succeeds(run(&args))
}

fn events(report: &Value) -> Vec<&str> {
    let steps = report["steps"].as_array().expect("steps");
    steps
        .iter()
        .filter_map(|step| step["event"].as_str())
        .collect()
}

#[test]
fn allowed_request_sends_all_its_events() {
    let dir = TestDir::new();
    let agent = dir.agent(&[]);
    let body = dir.file("body", "0123456789");
    for encoding in ["msgpack", "json"] {
        let options = ["--encoding", encoding, "--body", &body, "--chunk-size", "4"];
        let report = send(&agent, &options);
        assert_eq!(report["encoding"], encoding);
        assert_eq!(report["decision"], "allow");
        assert_eq!(
            events(&report),
            [
                "request_headers",
                "request_body_chunk",
                "request_body_chunk",
                "request_body_chunk",
                "response_headers",
                "response_body_chunk",
                "request_complete"
            ]
        );
    }
}

#[test]
fn step_has_exactly_the_documented_fields() {
    let dir = TestDir::new();
    let agent = dir.agent(&[]);
    let report = send(&agent, &["-H", "host: example.com"]);
    let keys = |value: &Value| -> Vec<String> {
        value.as_object().expect("object").keys().cloned().collect()
    };
    assert_eq!(keys(&report), ["encoding", "steps", "decision"]);
    assert_eq!(report["encoding"], "msgpack");
    for step in report["steps"].as_array().expect("steps") {
        assert_eq!(
            keys(step),
            ["event", "decision", "request_headers", "latency_us"]
        );
        assert!(
            step["latency_us"]
                .as_f64()
                .is_some_and(|latency| latency > 0.0)
        );
    }
}

#[test]
fn blocked_path_ends_the_request() {
    let dir = TestDir::new();
    let agent = dir.agent(&["--block-path", "/admin"]);
    let report = send(&agent, &["--uri", "/admin/users?page=2"]);
    assert_eq!(report["decision"], "block");
    assert_eq!(events(&report), ["request_headers", "request_complete"]);
    assert_eq!(report["steps"][0]["status"], 403);
    assert_eq!(send(&agent, &["--uri", "/"])["decision"], "allow");
}

#[test]
fn blocked_text_is_found_across_chunks() {
    let dir = TestDir::new();
    let agent = dir.agent(&["--block-body", "forbidden"]);
    let body = dir.file("body", "this is a forbidden text, you know");
    for encoding in ["msgpack", "json"] {
        for size in ["1", "4", "7", "64KiB"] {
            let options = [
                "--body",
                &body,
                "--chunk-size",
                size,
                "--encoding",
                encoding,
            ];
            let report = send(&agent, &options);
            assert_eq!(report["decision"], "block", "{encoding}, chunks of {size}");
            assert_eq!(events(&report).last(), Some(&"request_complete"));
        }
    }
    let harmless = dir.file("harmless", "this is for bidden guests");
    let report = send(&agent, &["--body", &harmless, "--chunk-size", "4"]);
    assert_eq!(report["decision"], "allow");
}

#[test]
fn blocked_text_is_found_in_response_bodies() {
    let dir = TestDir::new();
    // The command acts as an upstream that answers with "hello".
    let agent = dir.agent(&["--block-body", "hello"]);
    let report = send(&agent, &[]);
    assert_eq!(report["decision"], "block");
    let last = &report["steps"][2];
    assert_eq!(
        (&last["event"], &last["status"]),
        (&json!("response_body_chunk"), &json!(403))
    );
}

#[test]
fn headers_are_set_on_allowed_requests() {
    let dir = TestDir::new();
    let agent = dir.agent(&[
        "--set-request-header",
        "x-seen-by=tollgate",
        "--set-request-header",
        "x-level=a=b",
    ]);
    let report = send(&agent, &[]);
    let expected = json!([
        {"set": {"name": "x-seen-by", "value": "tollgate"}},
        {"set": {"name": "x-level", "value": "a=b"}},
    ]);
    assert_eq!(report["steps"][0]["request_headers"], expected);
    assert_eq!(report["steps"][1]["request_headers"], json!([]));
}

#[test]
fn text_output_shows_decisions_and_mutations() {
    let dir = TestDir::new();
    let agent = dir.agent(&["--block-path", "/admin", "--set-request-header", "x-a=b"]);
    let text = |uri: &str| {
        let output = run(&["send", agent.endpoint(), "--uri", uri]);
        assert!(output.status.success());
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(text("/").contains("set request header x-a: b"));
    assert!(text("/").contains("decision: allow"));
    assert!(text("/admin").contains("block 403"));
}

#[test]
fn body_is_read_from_stdin() {
    let dir = TestDir::new();
    let agent = dir.agent(&["--block-body", "forbidden"]);
    let args = [
        "send",
        agent.endpoint(),
        "--json",
        "--body",
        "-",
        "--chunk-size",
        "4",
    ];
    assert_eq!(
        succeeds(run_with_input(&args, "so forbidden"))["decision"],
        "block"
    );
    let report = succeeds(run_with_input(&args, ""));
    assert!(!events(&report).contains(&"request_body_chunk"));
}

#[test]
fn agent_waits_before_each_answer() {
    let dir = TestDir::new();
    let agent = dir.agent(&["--delay", "20ms"]);
    let report = send(&agent, &[]);
    for step in report["steps"].as_array().expect("steps") {
        assert!(
            step["latency_us"]
                .as_f64()
                .is_some_and(|latency| latency >= 20_000.0)
        );
    }
}

#[test]
fn delayed_answers_do_not_block_each_other() {
    let dir = TestDir::new();
    let agent = dir.agent(&["--delay", "100ms"]);
    let started = Instant::now();
    let children: Vec<_> = (0..8)
        .map(|_| {
            tollgate(&["send", agent.endpoint()])
                .stdout(Stdio::null())
                .spawn()
                .expect("spawn")
        })
        .collect();
    for mut child in children {
        assert!(child.wait().expect("wait").success());
    }
    // One after another, 8 requests of 4 events each would take 3.2 s.
    assert!(started.elapsed() < Duration::from_millis(2500));
}

#[test]
fn probe_reports_the_agents_capabilities() {
    let dir = TestDir::new();
    let agent = dir.agent(&["--encodings", "json"]);
    let report = succeeds(run(&["probe", agent.endpoint(), "--json"]));
    assert_eq!(report["endpoint"], agent.endpoint());
    assert_eq!(report["encoding"], "json");
    let capabilities = &report["capabilities"];
    assert_eq!(capabilities["protocol_version"], 2);
    assert_eq!(
        capabilities["supported_events"].as_array().map(Vec::len),
        Some(8)
    );
    assert_eq!(capabilities["features"]["streaming_body"], true);
    let round_trip = &report["round_trip_us"];
    assert!(round_trip["min"].as_f64() > Some(0.0));
    assert!(round_trip["min"].as_f64() <= round_trip["median"].as_f64());
    assert!(report["handshake_us"].as_f64() > Some(0.0));
}

#[test]
fn probe_text_output_has_all_fields() {
    let dir = TestDir::new();
    let agent = dir.agent(&[]);
    let endpoint = format!("unix:{}", agent.endpoint());
    let output = run(&["probe", &endpoint]);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    for part in [
        "encoding",
        "msgpack",
        "request_headers",
        "streaming body",
        "round trip",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn signals_stop_the_agent_and_remove_its_socket() {
    let dir = TestDir::new();
    for signal in ["TERM", "INT"] {
        let agent = dir.agent(&[]);
        let endpoint = agent.endpoint().to_owned();
        assert!(Path::new(&endpoint).exists());
        assert_eq!(agent.stop(signal).code(), Some(0));
        assert!(!Path::new(&endpoint).exists());
    }
}

#[test]
fn stale_socket_is_replaced_and_a_live_one_rejected() {
    let dir = TestDir::new();
    let mut agent = dir.agent(&[]);
    let endpoint = agent.endpoint().to_owned();
    fails(&run(&["agent", "--listen", &endpoint]), 1, &[&endpoint]);
    assert_eq!(send(&agent, &[])["decision"], "allow");

    agent.kill();
    assert!(Path::new(&endpoint).exists());
    let successor = dir.agent(&[]);
    assert_eq!(successor.endpoint(), endpoint);
    assert_eq!(send(&successor, &[])["decision"], "allow");
}
