//! Agents that Envoy reaches by name, by TLS, and agents that fail.

use super::{Envoy, RULES, upstream};
use crate::certificates::Authority;
use crate::support::{Agent, TestDir, fails, run, succeeds};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;

const PANICS: &str = r#"
[[rule]]
on = "request_headers"
path = "/deny"
block = { status = 500, body = "by a rule" }

[[rule]]
on = "request_headers"
path = "/panic"
panic = true

[[rule]]
on = "request_body"
body_contains = "late"
set_request_headers = [["x-late", "1"]]

[[rule]]
on = "response_headers"
path = "/response"
panic = true
"#;

#[test]
fn names_of_hosts_are_resolved() {
    let dir = TestDir::new();
    let rules = dir.file("rules.toml", RULES);
    let agent = Agent::start("envoy://127.0.0.1:0", &["--rules", &rules]);
    let named = agent.endpoint().replace("127.0.0.1", "localhost");
    let (address, _) = upstream();
    let upstream = format!("http://localhost:{}", address.port());
    let envoy = Envoy::start(&dir, &named, &upstream, &[]);
    let allowed = envoy.send("/ok", "fine");
    assert!(allowed.starts_with("HTTP/1.1 200"), "{allowed}");
    let denied = envoy.send("/admin", "fine");
    assert!(denied.starts_with("HTTP/1.1 403"), "{denied}");
}

#[test]
fn both_sides_prove_who_they_are() {
    let dir = TestDir::new();
    let rules = dir.file("rules.toml", RULES);
    let authority = Authority::new(&dir, "ca");
    let other = Authority::new(&dir, "other");
    let server = authority.identity(&dir, "127.0.0.1");
    let client = authority.identity(&dir, "envoy");
    let stranger = other.identity(&dir, "stranger");
    let plain = [&["--rules", &rules], &server.options()[..]].concat();
    let mutual = [&plain[..], &["--tls-client-ca", &authority.file]].concat();
    let none: &[&str] = &[];
    for (of_agent, trust, identity, status) in [
        (&plain, &authority.file, none, 200),
        (&plain, &other.file, none, 500),
        (&mutual, &authority.file, &client.options()[..], 200),
        (&mutual, &authority.file, &stranger.options()[..], 500),
        (&mutual, &authority.file, none, 500),
    ] {
        let agent = Agent::start("envoys://127.0.0.1:0", of_agent);
        let (address, count) = upstream();
        let options = [&["--body", "duplex", "--tls-ca", trust], identity].concat();
        let envoy = Envoy::start(&dir, agent.endpoint(), &address.to_string(), &options);
        let answer = envoy.send("/ok", "fine");
        let expected = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&expected), "{options:?}: {answer}");
        let passed = usize::from(status == 200);
        assert_eq!(count.load(Ordering::Relaxed), passed, "{options:?}");
        let denied = envoy.send("/admin", "fine");
        assert!(!denied.starts_with("HTTP/1.1 200"), "{denied}");
    }
}

#[test]
fn failures_of_agents_are_no_denials() {
    let dir = TestDir::new();
    let rules = dir.file("rules.toml", PANICS);
    let agent = Agent::start("envoy://127.0.0.1:0", &["--rules", &rules]);
    let endpoint = agent.endpoint();
    let denied = succeeds(run(&["send", endpoint, "--json", "--uri", "/deny"]));
    assert_eq!(denied["decision"], "block");
    assert_eq!(denied["steps"][0]["status"], 500);

    let late = dir.file("late", "it is late");
    for more in [
        &["--uri", "/panic"][..],
        &["--uri", "/response"],
        &["--uri", "/ok", "--body", &late],
    ] {
        for json in [&["--json"][..], &[]] {
            let output = run(&[&["send", endpoint], more, json].concat());
            fails(&output, 1, &[endpoint, "the agent failed: status 500"]);
        }
    }
    let har = dir.file(
        "requests.har",
        &json!({"log": {"entries": [
            {"request": {"method": "GET", "url": "http://a/panic", "headers": []}},
            {"request": {"method": "GET", "url": "http://a/deny", "headers": []}},
        ]}})
        .to_string(),
    );
    let output = run(&[
        "load",
        endpoint,
        "--json",
        "--requests",
        "20",
        "--har",
        &har,
    ]);
    let loaded: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(loaded["errors"], 10, "{loaded}");
    assert_eq!(loaded["decisions"], json!({"allow": 0, "block": 10}));
}

#[test]
fn metrics_have_the_counts_of_envoys_exchanges() {
    let dir = TestDir::new();
    let rules = dir.file("rules.toml", PANICS);
    let free = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = free.local_addr().expect("address").to_string();
    drop(free);
    let socket = format!("envoy+unix://{}", dir.path("agent.sock"));
    let options = [
        "--rules",
        &rules,
        "--listen",
        &socket,
        "--metrics",
        &address,
    ];
    let agent = Agent::start("envoy://127.0.0.1:0", &options);
    let endpoint = agent.endpoint().split(", ").next().expect("endpoint");
    for endpoint in [endpoint, &socket] {
        succeeds(run(&["send", endpoint, "--json", "--uri", "/deny"]));
        fails(&run(&["send", endpoint, "--uri", "/panic"]), 1, &["failed"]);
    }
    let mut stream = TcpStream::connect(&address).expect("connect");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        .expect("write");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("read");
    for (name, count) in [
        ("exchanges", 4),
        ("denials", 2),
        ("panics", 2),
        ("checks", 0),
    ] {
        let line = format!("agent_envoy_{name}_total{{agent_id=\"tollgate\"}} {count}\n");
        assert!(page.contains(&line), "{line} in {page}");
    }
    assert!(
        page.contains("# HELP agent_envoy_exchanges_total Streams of ext_proc"),
        "{page}"
    );
}
