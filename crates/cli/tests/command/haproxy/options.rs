//! Options of `tollgate config haproxy`.

use super::RULES;
use super::proxy;
use crate::support::{TestDir, fails, run, tollgate};
use std::fs;
use std::process::Output;

const AGENT: &str = "haproxy://127.0.0.1:9001";

/// Writes a configuration to a folder, with an agent and these options.
fn write(out: &str, options: &[&str]) -> Output {
    let mut command = tollgate(&["config", "haproxy", "--agent", AGENT, "--out", out]);
    command.args(options).output().expect("run")
}

/// Checks that options are refused, and that the reason has these parts.
fn is_refused(output: &Output, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{parts:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{part} in {text}");
    }
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
fn time_limit_of_servers_is_twice_that_of_answers() {
    let dir = TestDir::new();
    let out = dir.path("out");
    for (options, expected) in [
        (&[][..], "timeout server 2000ms"),
        (&["--timeout", "3s"][..], "timeout server 6000ms"),
    ] {
        assert!(write(&out, options).status.success());
        let text = fs::read_to_string(format!("{out}/haproxy.cfg")).expect("file");
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("res_action=%[var(txn.tollgate.res_action)]"));
    }
}

#[test]
fn longest_values_are_taken() {
    let dir = TestDir::new();
    let out = dir.path("out");
    let socket = |name: &str| format!("unix@/tmp/{}", name.repeat(97 - "/tmp/".len()));
    let agent = format!("haproxy+unix:///tmp/{}", "c".repeat(97 - "/tmp/".len()));
    let header = "x".repeat(40);
    let route = "r".repeat(44);
    let options = [
        ["--listen", &socket("a")],
        ["--upstream", &socket("b")],
        ["--agent", &agent],
        ["--request-header", &header],
        ["--response-header", &header],
        ["--route", &route],
        ["--timeout", "24h"],
    ];
    let written = write(&out, options.as_flattened());
    assert!(written.status.success(), "{written:?}");
    proxy::check(&out);
}

#[test]
fn wrong_options_are_refused() {
    let dir = TestDir::new();
    let out = dir.path("out");
    is_refused(&run(&["config", "haproxy", "--out", &out]), &["--agent"]);
    let long = "x".repeat(98);
    let socket = format!("unix@/{long}");
    let agent = format!("haproxy+unix:///{long}");
    for (option, value, reason) in [
        ("--agent", "tcp://127.0.0.1:1", "haproxy://host:port"),
        ("--agent", "haproxy://127.0.0.1:0", "port"),
        ("--agent", "haproxy://0.0.0.0:1", "no address of a server"),
        ("--agent", "haproxy+unix:///a b", "characters"),
        ("--agent", &agent, "97"),
        ("--agent", AGENT, "twice"),
        ("--listen", "a b:1", "host:port"),
        ("--listen", ":0", "port"),
        ("--listen", ":+80", "port"),
        ("--listen", ":80,:81", "port"),
        ("--listen", "a#:80", "host:port"),
        ("--listen", &socket, "97"),
        ("--listen", "127.0.0.1:9001", "agent"),
        ("--upstream", ":80", "host:port"),
        ("--upstream", "[::]:80", "no address of a server"),
        ("--upstream", "a..test:80", "host:port"),
        ("--upstream", "unix@/a\"b", "characters"),
        ("--upstream", ":8080", "host:port"),
        ("--timeout", "100us", "1ms"),
        ("--timeout", "25h", "a day"),
        ("--status", "204", "204"),
        ("--status", "600", "599"),
        ("--request-header", "content-length", "may not change"),
        ("--request-header", &long, "variable"),
        ("--response-header", "proxy-authenticate", "may not change"),
        ("--route", &long, "too long"),
    ] {
        is_refused(&write(&out, &[option, value]), &[reason]);
    }
    for (options, reason) in [
        (
            ["--listen", "a.test:1", "--upstream", "a.test:1"],
            "same address",
        ),
        (
            ["--request-header", "x-user", "--request-header", "x_user"],
            "another",
        ),
        (["--route", "a-b", "--route", "a_b"], "another"),
    ] {
        is_refused(&write(&out, &options), &[reason]);
    }
    let names: Vec<String> = (0..200)
        .map(|number| format!("x-header-{number}"))
        .collect();
    let many = names.iter().flat_map(|name| ["--request-header", name]);
    is_refused(&write(&out, &many.collect::<Vec<_>>()), &["fewer"]);
    let rules = dir.file("rules.toml", RULES);
    is_refused(
        &write(&out, &["--no-responses", "--rules", &rules]),
        &["--no-responses"],
    );
    assert!(fs::read_dir(&out).is_err(), "nothing is written");
}

#[test]
fn endpoints_that_cannot_be_listened_at_are_refused() {
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
