//! Agents behind a real HAProxy, with the configuration that the command writes.

mod commands;
mod ids;
mod proxy;

use crate::support::{TestDir, fails, run, tollgate};
use proxy::{Proxy, Request};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Rules for each thing that HAProxy makes of a decision.
const RULES: &str = r#"
[[rule]]
on = "request_headers"
path = "/admin"
block = { status = 403, body = "no" }
rule_ids = ["admin"]

[[rule]]
on = "request_headers"
path = "/busy"
block = { status = 429, body = "later", headers = [["retry-after", "7"]] }

[[rule]]
on = "request_headers"
path = "/teapot"
block = { status = 418 }

[[rule]]
on = "request_headers"
path = "/login"
redirect = { url = "https://a.test/in", status = 307 }

[[rule]]
on = "request_headers"
path = "/members"
challenge = { type = "Bearer", params = { realm = "a" } }

[[rule]]
on = "request_headers"
path = "/slow"
delay = "3s"

[[rule]]
on = "request_headers"
set_request_headers = [["x-user", "7"]]
add_request_headers = [["x-tag", "a"]]
remove_request_headers = ["authorization"]

[[rule]]
on = "request_body"
body_contains = "attack"
block = { status = 403, body = "bad body" }

[[rule]]
on = "response_headers"
path = "/secret"
block = { status = 404, body = "hidden" }

[[rule]]
on = "response_headers"
set_response_headers = [["x-rule", "yes"]]
remove_response_headers = ["server"]
"#;

#[test]
fn decisions_come_through() {
    let proxy = Proxy::start(RULES, &[]);
    let allowed = proxy.get("/ok?x=1");
    assert_eq!(allowed.status, 200, "{allowed:?}");
    // The upstream answers with the head that it got.
    assert!(allowed.body.contains("GET /ok?x=1 "), "{allowed:?}");
    assert!(allowed.body.contains("x-user: 7\r\n"), "{allowed:?}");
    assert!(allowed.body.contains("x-tag: a\r\n"), "{allowed:?}");
    assert!(!allowed.body.contains("authorization"), "{allowed:?}");
    assert_eq!(allowed.header("x-rule"), Some("yes"));
    assert_eq!(allowed.header("server"), None);
    for (path, status, body) in [
        ("/admin/x", 403, "no"),
        ("//x/../%61dmin", 403, "no"),
        ("/busy", 429, "later"),
        ("/teapot", 418, ""),
        ("/secret", 404, "hidden"),
    ] {
        let answer = proxy.get(path);
        assert_eq!((answer.status, &*answer.body), (status, body), "{path}");
    }
    assert_eq!(proxy.get("/busy").header("retry-after"), Some("7"));
    let redirect = proxy.get("/login");
    assert_eq!(redirect.status, 307);
    assert_eq!(redirect.header("location"), Some("https://a.test/in"));
    let challenge = proxy.get("/members");
    assert_eq!(challenge.status, 401);
    assert_eq!(
        challenge.header("www-authenticate"),
        Some("Bearer realm=\"a\"")
    );
    let began = Instant::now();
    let silent = proxy.get("/slow");
    assert_eq!((silent.status, &*silent.body), (503, "no decision"));
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[test]
fn bodies_are_judged_whole_or_refused() {
    let proxy = Proxy::start(RULES, &[]);
    let filler = |len: usize| "a".repeat(len);
    for (body, is_chunked, status) in [
        (filler(5), false, 200),
        (format!("{}attack", filler(20_000)), false, 403),
        (format!("{}attack", filler(20_000)), true, 403),
        (filler(30_000), false, 200),
        (filler(30_000), true, 200),
        // Fits into the buffer, and HAProxy knows that it is all there.
        (filler(47_000), false, 200),
        (format!("{}attack", filler(47_000)), false, 403),
        (filler(100_000), false, 413),
        (filler(100_000), true, 413),
    ] {
        let request = Request::post("/upload", &body);
        let request = if is_chunked {
            request.chunked()
        } else {
            request
        };
        let answer = proxy.send(&request);
        assert_eq!(
            answer.status,
            status,
            "{} bytes, chunked: {is_chunked}",
            body.len()
        );
    }
    let long = Request::get("/").with_header("x-long", &filler(20_000));
    assert_eq!(proxy.send(&long).status, 431);
    let long = Request::get(&format!("/{}", filler(9_000)));
    assert_eq!(proxy.send(&long).status, 414);
}

#[test]
fn large_bodies_pass_an_agent_that_looks_at_none() {
    let rules = "[[rule]]\non = 'request_headers'\npath = '/admin'\nblock = { status = 403 }\n";
    let proxy = Proxy::start(rules, &[]);
    for request in [
        Request::post("/", &"a".repeat(100_000)),
        Request::post("/", &"a".repeat(100_000)).chunked(),
    ] {
        assert_eq!(proxy.send(&request).status, 200);
    }
    assert_eq!(proxy.send(&Request::post("/admin", "a")).status, 403);
}

#[test]
fn header_that_the_configuration_does_not_know_is_refused() {
    let proxy = Proxy::start("", &["--set-request-header", "x-other=1"]);
    let answer = proxy.get("/");
    assert_eq!(
        (answer.status, &*answer.body),
        (500, "unknown header change")
    );
}

#[test]
fn killed_agent_is_a_503_and_a_new_one_is_found() {
    let mut proxy = Proxy::start(RULES, &[]);
    assert_eq!(proxy.get("/ok").status, 200);
    proxy.take_agent().kill();
    let answer = proxy.get("/ok");
    assert_eq!((answer.status, &*answer.body), (503, "no decision"));
    proxy.restart_agent();
    proxy.wait_until_allowed("/ok");
}

#[test]
fn graceful_stop_loses_no_request() {
    /// Pause between requests, in which the agent finds the connection silent and leaves.
    const PAUSE: Duration = Duration::from_millis(60);
    let mut proxy = Proxy::with_agents(RULES, &[], 2);
    let first = proxy.take_agent();
    let is_over = AtomicBool::new(false);
    let statuses = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut statuses = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                statuses.push(proxy.get("/ok").status);
                thread::sleep(PAUSE);
            }
            statuses.push(proxy.get("/ok").status);
            statuses
        });
        let stopped = first.stop("TERM");
        is_over.store(true, Ordering::Relaxed);
        assert!(stopped.success());
        client.join().expect("join")
    });
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    // All agents have gone.
    assert!(proxy.take_agent().stop("TERM").success());
    assert_eq!(proxy.get("/ok").status, 503);
}

#[test]
fn configuration_is_valid_with_all_options() {
    let dir = TestDir::new();
    let rules = dir.file("rules.toml", RULES);
    let out = dir.path("out");
    let written = run(&[
        "config",
        "haproxy",
        "--agent",
        "haproxy://127.0.0.1:9001",
        "--agent",
        "haproxy+unix:///run/a.sock",
        "--agent",
        "haproxy://[::1]:9001",
        "--listen",
        "127.0.0.1:8080",
        "--upstream",
        "127.0.0.1:8000",
        "--rules",
        &rules,
        "--request-header",
        "X-A",
        "--response-header",
        "x.b",
        "--status",
        "423",
        "--route",
        "pool",
        "--timeout",
        "50ms",
        "--tls-fetches",
        "--out",
        &out,
    ]);
    assert!(written.status.success(), "{written:?}");
    proxy::check(&out);
    let spoe = fs::read_to_string(format!("{out}/spoe.conf")).expect("file");
    for name in [
        "req_set_x_a",
        "res_set_x.b",
        "route_pool",
        "deny_set_retry_after",
        "ssl_fc",
    ] {
        assert!(spoe.contains(name), "{name}");
    }
    let plain = dir.path("plain");
    let arguments = [
        "config",
        "haproxy",
        "--agent",
        "haproxy://127.0.0.1:1",
        "--no-responses",
    ];
    let written = tollgate(&arguments)
        .args(["--out", &plain])
        .output()
        .expect("run");
    assert!(written.status.success(), "{written:?}");
    proxy::check(&plain);
    let spoe = fs::read_to_string(format!("{plain}/spoe.conf")).expect("file");
    assert!(
        !spoe.contains("tollgate-res\n") && !spoe.contains("ssl_fc"),
        "{spoe}"
    );
}

#[test]
fn wrong_options_are_refused() {
    let dir = TestDir::new();
    let out = dir.path("out");
    let refused = |arguments: &[&str]| -> i32 {
        let mut command: Command = tollgate(&["config", "haproxy", "--out", &out]);
        let output = command.args(arguments).output().expect("run");
        output.status.code().expect("code")
    };
    assert_eq!(refused(&[]), 2);
    assert_eq!(refused(&["--agent", "tcp://127.0.0.1:1"]), 2);
    assert_eq!(
        refused(&["--agent", "haproxy://127.0.0.1:1", "--listen", "a b:1"]),
        2
    );
    let long = "x".repeat(60);
    assert_eq!(
        refused(&[
            "--agent",
            "haproxy://127.0.0.1:1",
            "--request-header",
            &long
        ]),
        2
    );
    fails(
        &run(&["agent", "--listen", "haproxy+unix:///nowhere/a.sock"]),
        1,
        &["/nowhere"],
    );
    assert_eq!(
        run(&["agent", "--listen", "haproxy://a"]).status.code(),
        Some(2)
    );
}
