//! Agents behind a real Envoy, with the configuration that the command prints.

mod agents;
mod refusals;

use crate::support::{Agent, TestDir, fails, run, succeeds};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const RULES: &str = r#"
[[rule]]
on = "request_headers"
path = "/admin"
block = { status = 403, body = "no" }
rule_ids = ["admin"]

[[rule]]
on = "request_headers"
client_ip = "127.0.0.0/8"
set_request_headers = [["x-user", "7"]]
set_response_headers = [["x-rule", "yes"]]

[[rule]]
on = "request_body"
hold = true
body_contains = "attack"
block = { status = 403, body = "bad body" }
"#;

/// Envoy in a child process, killed when dropped.
struct Envoy {
    process: Child,
    address: SocketAddr,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the Envoy that `scripts/setup` installs.
fn binary() -> PathBuf {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = target
        .parent()
        .expect("target")
        .join("envoy/envoy/_bin/envoy");
    assert!(
        path.exists(),
        "{} is missing; run scripts/setup",
        path.display()
    );
    path
}

fn config(dir: &TestDir, args: &[&str]) -> String {
    let mut all = vec!["config", "envoy"];
    all.extend(args);
    let output = run(&all);
    assert!(output.status.success(), "{output:?}");
    dir.file(
        "envoy.yaml",
        &String::from_utf8(output.stdout).expect("text"),
    )
}

impl Envoy {
    /// Starts an Envoy that asks the agent at an endpoint, with more options of `config envoy`.
    fn start(dir: &TestDir, agent: &str, upstream: &str, more: &[&str]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = free.local_addr().expect("address");
        drop(free);
        let listen = address.to_string();
        let args = [
            "--agent",
            agent,
            "--listen",
            &listen,
            "--upstream",
            upstream,
        ];
        let file = config(dir, &[&args, more].concat());
        let process = Command::new(binary())
            .args([
                "--concurrency",
                "1",
                "--use-dynamic-base-id",
                "-l",
                "error",
                "-c",
                &file,
            ])
            .stdin(Stdio::null())
            .spawn()
            .expect("spawn");
        let envoy = Self { process, address };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < deadline, "Envoy does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        envoy
    }

    /// Sends a request and returns the response.
    fn send(&self, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("connect");
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("write");
        let mut response = String::new();
        stream.read_to_string(&mut response).expect("read");
        response
    }
}

/// Answers with the head of each request, and counts requests.
fn upstream() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address");
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accept");
            let mut received = Vec::new();
            let mut buffer = [0; 4096];
            while !received.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => received.extend_from_slice(&buffer[..read]),
                }
            }
            counted.fetch_add(1, Ordering::Relaxed);
            let head = String::from_utf8_lossy(&received).into_owned();
            let length = head.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{head}"
            );
            // Envoy may have reset the connection.
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (address, count)
}

#[test]
fn printed_configurations_run_as_they_are() {
    let dir = TestDir::new();
    let rules = dir.file("rules.toml", RULES);
    let agent = Agent::start("envoy://127.0.0.1:0", &["--rules", &rules]);
    for body in ["none", "streamed", "buffered", "duplex"] {
        let (address, count) = upstream();
        let envoy = Envoy::start(
            &dir,
            agent.endpoint(),
            &address.to_string(),
            &["--body", body],
        );
        let allowed = envoy.send("/ok", "fine");
        assert!(allowed.starts_with("HTTP/1.1 200"), "{body}: {allowed}");
        assert!(
            allowed.contains("x-user: 7") && allowed.contains("x-rule: yes"),
            "{allowed}"
        );
        let before = count.load(Ordering::Relaxed);
        let denied = envoy.send("//x/../%61dmin", "fine");
        assert!(
            denied.starts_with("HTTP/1.1 403") && denied.ends_with("no"),
            "{denied}"
        );
        let attack = envoy.send("/ok", "an attack");
        let status = if body == "none" {
            "HTTP/1.1 200"
        } else {
            "HTTP/1.1 403"
        };
        assert!(attack.starts_with(status), "{body}: {attack}");
        if body == "buffered" || body == "duplex" {
            assert_eq!(count.load(Ordering::Relaxed), before, "{body}");
        }
    }
    let (address, count) = upstream();
    let envoy = Envoy::start(&dir, agent.endpoint(), &address.to_string(), &[]);
    drop(agent);
    let failed = envoy.send("/ok", "fine");
    assert!(failed.starts_with("HTTP/1.1 500"), "{failed}");
    assert_eq!(count.load(Ordering::Relaxed), 0, "it fails closed");
}

#[test]
fn configurations_with_tls_and_sockets_are_valid() {
    let dir = TestDir::new();
    let certificate =
        rcgen::generate_simple_self_signed(["agent".to_owned()]).expect("certificate");
    let ca = dir.file("ca.pem", &certificate.cert.pem());
    let key = dir.file("key.pem", &certificate.signing_key.serialize_pem());
    let socket = format!("envoy+unix://{}", dir.path("agent.sock"));
    for args in [
        &["--agent", "envoys://agent:1", "--tls-ca", &ca][..],
        &[
            "--agent",
            "envoys://127.0.0.1:1",
            "--tls-ca",
            &ca,
            "--tls-cert",
            &ca,
            "--tls-key",
            &key,
            "--may-set-host",
            "--trusted-hops",
            "2",
        ],
        &[
            "--agent",
            &socket,
            "--upstream",
            "[::1]:80",
            "--listen",
            "0.0.0.0:80",
        ],
    ] {
        let file = config(&dir, args);
        let mut envoy = Command::new(binary());
        let output = envoy
            .args(["--mode", "validate", "-l", "error", "-c", &file])
            .output();
        let output = output.expect("run");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[test]
fn agents_are_probed_loaded_and_asked_as_envoy_does() {
    let dir = TestDir::new();
    let rules = dir.file("rules.toml", RULES);
    let socket = format!("envoy+unix://{}", dir.path("agent.sock"));
    let agent = Agent::start(
        "envoy://127.0.0.1:0",
        &["--rules", &rules, "--listen", &socket],
    );
    let endpoint = agent
        .endpoint()
        .split(", ")
        .next()
        .expect("endpoint")
        .to_owned();
    for endpoint in [&endpoint, &socket] {
        let probed = succeeds(run(&["probe", endpoint, "--json"]));
        assert_eq!(probed["healthy"], true);
        assert_eq!(probed["decision"], "allow");
        let loaded = succeeds(run(&["load", endpoint, "--json", "--requests", "50"]));
        assert_eq!(
            (&loaded["requests"], &loaded["errors"]),
            (&50.into(), &0.into())
        );
    }
    let body = dir.file("body", "an attack");
    let sent = succeeds(run(&[
        "send",
        &endpoint,
        "--json",
        "--body",
        &body,
        "--chunk-size",
        "4",
        "--trailer",
        "a: b",
    ]));
    assert_eq!(sent["decision"], "block");
    let steps = sent["steps"].as_array().expect("steps");
    assert_eq!(steps.last().expect("step")["status"], 403);
    let denied = succeeds(run(&["send", &endpoint, "--json", "--uri", "/admin"]));
    assert_eq!(denied["steps"][0]["audit"]["rule_ids"][0], "admin");
    fails(&run(&["probe", "envoy://127.0.0.1:1"]), 1, &["refused"]);
}
