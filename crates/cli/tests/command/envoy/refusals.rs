//! Options and endpoints that cannot be used.

use crate::support::{TestDir, fails, run};

/// Checks that the command refuses these arguments with exit status 2 and a message with this part.
/// clap prints its messages in several lines.
fn refuses(args: &[&str], part: &str) {
    let output = run(args);
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
    assert!(text.contains(part), "{args:?}: {part} in {text}");
    assert!(output.stdout.is_empty(), "{args:?}");
}

#[test]
fn endpoints_that_cannot_be_are_refused_by_each_command() {
    let long = format!("envoy+unix:///{}", "a".repeat(107));
    for (endpoint, part) in [
        ("envoy://", "a host and a port"),
        ("envoy://a", "a host and a port"),
        ("envoy://a:70000", "at most 65535"),
        ("envoy://a b:1", "neither an IP address nor a name"),
        ("envoy://999.1.1.1:1", "neither an IP address nor a name"),
        ("envoys://::1:1", "brackets"),
        ("envoy+unix://a.sock", "envoy+unix:///path"),
        ("envoy+unix:///run/", "directory"),
        (&long, "at most 107 bytes"),
    ] {
        refuses(&["agent", "--listen", endpoint], part);
        refuses(&["config", "envoy", "--agent", endpoint], part);
        for command in ["probe", "send", "load"] {
            refuses(&[command, endpoint], part);
        }
    }
    refuses(
        &["config", "envoy", "--agent", "grpc://a:1"],
        "expected envoy://",
    );
}

#[test]
fn configurations_that_cannot_run_are_refused() {
    let agent = ["config", "envoy", "--agent", "envoy://agent:1"];
    for (option, value, part) in [
        ("--listen", "127.0.0.1:0", "port 0"),
        ("--listen", "localhost:80", "listens on an IP address"),
        ("--upstream", "127.0.0.1:0", "port 0"),
        ("--upstream", "a\"b:80", "expected host:port"),
        ("--upstream", "https://a:80", "expected host:port"),
        ("--upstream", "127.1:80", "expected host:port"),
    ] {
        refuses(&[&agent[..], &[option, value]].concat(), part);
    }
    refuses(&["config", "envoy", "--agent", "envoy://agent:0"], "port 0");
    let tls = ["config", "envoy", "--agent", "envoys://agent:1"];
    fails(&run(&tls), 2, &["--tls-ca"]);
    let output = run(&[&agent[..], &["--tls-ca", "ca.pem"]].concat());
    fails(&output, 2, &["--tls-ca"]);
}

#[test]
fn options_without_an_effect_are_refused() {
    let dir = TestDir::new();
    let socket = dir.path("agent.sock");
    for option in [&["--trusted-hops", "1"][..], &["--may-set-host"]] {
        let listen = [&["agent", "--listen", &socket], option].concat();
        fails(&run(&listen), 2, &[option[0], "envoy://"]);
        let dial = [&["agent", "--dial", &socket], option].concat();
        fails(&run(&dial), 2, &[option[0], "envoy://"]);
    }
}
