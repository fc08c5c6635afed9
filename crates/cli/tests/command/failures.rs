//! Failures: each prints one line, and the exit status distinguishes agent failures from wrong
//! usage.

use crate::send;
use crate::support::{self, TestDir, fails, run, tollgate};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn unsupported_encoding_is_a_failure() {
    let dir = TestDir::new();
    let agent = dir.agent(&["--encodings", "json"]);
    let output = run(&["send", agent.endpoint(), "--encoding", "msgpack"]);
    fails(&output, 1, &[agent.endpoint(), "msgpack"]);
}

#[test]
fn missing_socket_is_a_failure() {
    let dir = TestDir::new();
    let endpoint = dir.path("nobody.sock");
    for command in ["probe", "send"] {
        fails(
            &run(&[command, &endpoint]),
            1,
            &[&endpoint, "no such socket"],
        );
    }
}

#[test]
fn file_and_directory_are_not_sockets() {
    let dir = TestDir::new();
    let file = dir.file("file", "plain");
    let directory = dir.path("directory");
    fs::create_dir(&directory).expect("directory");
    for endpoint in [&file, &directory] {
        fails(&run(&["probe", endpoint]), 1, &[endpoint, "not a socket"]);
        fails(
            &run(&["agent", "--listen", endpoint]),
            1,
            &[endpoint, "not a socket"],
        );
        assert!(Path::new(endpoint).exists());
    }
}

#[test]
fn socket_without_a_listener_is_a_failure() {
    let dir = TestDir::new();
    let endpoint = dir.path("left.sock");
    drop(UnixListener::bind(&endpoint).expect("bind"));
    fails(&run(&["probe", &endpoint]), 1, &[&endpoint, "refused"]);
}

#[test]
fn inaccessible_socket_is_a_failure() {
    let dir = TestDir::new();
    let endpoint = dir.path("private.sock");
    let _listener = UnixListener::bind(&endpoint).expect("bind");
    fs::set_permissions(&endpoint, fs::Permissions::from_mode(0o600)).expect("mode");
    let Some(output) = dir.run_unprivileged(&["probe", &endpoint]) else {
        return;
    };
    fails(&output, 1, &[&endpoint, "permission denied"]);
}

#[test]
fn listener_that_never_answers_times_out() {
    let dir = TestDir::new();
    let endpoint = dir.path("stalled.sock");
    let _listener = UnixListener::bind(&endpoint).expect("bind");
    for command in ["probe", "send"] {
        let started = Instant::now();
        let output = run(&[command, &endpoint, "--timeout", "200ms"]);
        fails(&output, 1, &[&endpoint, "timed out"]);
        assert!(started.elapsed() < Duration::from_secs(3));
    }
}

#[test]
fn rejected_handshake_prints_the_reason() {
    let dir = TestDir::new();
    let endpoint = dir.scripted_agent(support::reject("no room\nfor you"));
    fails(
        &run(&["probe", &endpoint]),
        1,
        &[&endpoint, "rejected", "no room\\nfor you"],
    );
}

#[test]
fn agent_that_disconnects_is_a_failure() {
    let dir = TestDir::new();
    let endpoint = dir.scripted_agent(support::accept_then_hang_up());
    let output = run(&["send", &endpoint, "--json"]);
    fails(&output, 1, &[&endpoint, "closed"]);
    assert!(output.stdout.is_empty());
}

#[test]
fn agent_that_stops_answering_is_a_failure() {
    let dir = TestDir::new();
    let endpoint = dir.scripted_agent(support::accept_then_stop_answering());
    let started = Instant::now();
    let output = run(&["send", &endpoint, "--timeout", "200ms"]);
    fails(&output, 1, &[&endpoint, "timed out"]);
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[test]
fn wrong_usage_has_status_2() {
    let wrong: [&[&str]; 11] = [
        &[],
        &["dance"],
        &["probe"],
        &["probe", "ftp://example.com"],
        &["send", "/a.sock", "--chunk-size", "0"],
        &["send", "/a.sock", "--chunk-size", "64KB"],
        &["send", "/a.sock", "-H", "no colon"],
        &["send", "/a.sock", "--timeout", "soon"],
        &["send", "/a.sock", "--encoding", "xml"],
        &["send", "/a.sock", "--body", "/nowhere/at/all"],
        &["agent", "--listen", "/a.sock", "--block-body", ""],
    ];
    for args in wrong {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn closed_stdout_is_not_a_failure() {
    let dir = TestDir::new();
    let agent = dir.agent(&[]);
    for command in ["probe", "send"] {
        let (reader, writer) = std::io::pipe().expect("pipe");
        drop(reader);
        let output = tollgate(&[command, agent.endpoint()])
            .stdout(writer)
            .output()
            .expect("run");
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn unwritable_output_is_a_failure() {
    let dir = TestDir::new();
    let agent = dir.agent(&[]);
    let full = fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("full");
    let output = tollgate(&["probe", agent.endpoint()])
        .stdout(full)
        .output()
        .expect("run");
    fails(&output, 1, &["standard output"]);
}

#[test]
fn chunk_larger_than_a_frame_is_a_failure() {
    let dir = TestDir::new();
    let agent = dir.agent(&[]);
    let body = dir.file("body", &"x".repeat(17 << 20));
    let args = ["send", agent.endpoint(), "--body", &body];
    let output = run(&[&args[..], &["--chunk-size", "17MiB"]].concat());
    fails(
        &output,
        1,
        &[agent.endpoint(), "request_body_chunk", "too large"],
    );
    let report = send(&agent, &["--body", &body, "--chunk-size", "4MiB"]);
    assert_eq!(report["decision"], "allow");
}
