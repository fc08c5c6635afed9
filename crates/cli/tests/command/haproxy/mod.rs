//! Agents behind a real HAProxy, with the configuration that the command writes.

mod bodies;
mod commands;
mod headers;
mod ids;
mod options;
mod proxy;

use proxy::{Proxy, Request};
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
method = "PURGE"
block = { status = 405 }

[[rule]]
on = "response_headers"
path = "/private"
challenge = { type = "Basic", params = { realm = "b" } }

[[rule]]
on = "response_headers"
path = "/moved"
redirect = { url = "https://b.test/", status = 308 }

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
    let purge = Request::get("/ok").with_method("PURGE");
    assert_eq!(proxy.send(&purge).status, 405);
    let challenge = proxy.get("/private");
    assert_eq!(challenge.status, 401);
    assert_eq!(
        challenge.header("www-authenticate"),
        Some("Basic realm=\"b\"")
    );
    let redirect = proxy.get("/moved");
    assert_eq!(redirect.status, 308);
    assert_eq!(redirect.header("location"), Some("https://b.test/"));
    let began = Instant::now();
    let silent = proxy.get("/slow");
    assert_eq!((silent.status, &*silent.body), (503, "no decision"));
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[test]
fn requests_cannot_follow_in_another_protocol() {
    let proxy = Proxy::start("", &[]);
    let upgrade = |protocol: &str| Request::get("/ok").with_header("upgrade", protocol);
    let allowed = proxy.send(&upgrade("websocket").upgrading());
    assert!(
        allowed.body.contains("upgrade: websocket\r\n"),
        "{allowed:?}"
    );
    let two = upgrade("websocket").with_header("upgrade", "h2c");
    for request in [upgrade("h2c"), upgrade("websocket, h2c"), two] {
        let answer = proxy.send(&request.upgrading());
        assert_eq!(answer.status, 200);
        assert!(!answer.body.contains("h2c"), "{answer:?}");
    }
    let connect = Request::get("a.test:443").with_method("CONNECT");
    assert_eq!(proxy.send(&connect).status, 405);
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
