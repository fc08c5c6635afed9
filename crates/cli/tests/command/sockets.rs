//! Sockets of `tollgate agent`: those that systemd passes, TCP, a locked folder, and the limit of
//! open files.

use crate::support::{Agent, TestDir, fails, run, send_signal, succeeds, tollgate};
use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Returns a shell that sets variables and becomes the agent, with a socket as descriptor 3.
fn activated(variables: &str, listen: &str, socket: OwnedFd) -> Command {
    let mut command = Command::new("sh");
    let script = format!(r#"{variables} exec "$0" agent --listen {listen} 3<&0"#);
    command
        .args(["-c", &script, env!("CARGO_BIN_EXE_tollgate")])
        .stdin(Stdio::from(socket));
    command
}

fn expect_probed(endpoint: &str) {
    succeeds(run(&["probe", endpoint, "--json"]));
}

#[test]
fn inherited_unix_socket_is_served() {
    let dir = TestDir::new();
    let path = dir.path("inherited.sock");
    let socket = UnixListener::bind(&path).expect("bind");
    let variables = "LISTEN_FDS=1 LISTEN_PID=$$";
    let agent = Agent::spawn(&mut activated(variables, "systemd:", socket.into()));
    expect_probed(&path);
    assert!(agent.stop("TERM").success());
    // It belongs to systemd.
    assert!(fs::exists(&path).expect("an accessible folder"));
}

#[test]
fn inherited_tcp_socket_is_chosen_by_its_name() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = socket.local_addr().expect("an address");
    let variables = "LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=waf";
    let agent = Agent::spawn(&mut activated(variables, "systemd:waf", socket.into()));
    assert_eq!(agent.endpoint(), format!("tcp://{address}"));
    expect_probed(agent.endpoint());
}

#[cfg(feature = "grpc")]
#[test]
fn inherited_socket_is_served_over_grpc() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = socket.local_addr().expect("an address");
    let variables = "LISTEN_FDS=1 LISTEN_PID=$$";
    let agent = Agent::spawn(&mut activated(variables, "grpc+systemd:", socket.into()));
    assert_eq!(agent.endpoint(), format!("grpc://{address}"));
    expect_probed(agent.endpoint());
}

fn output(variables: &str, listen: &str, socket: OwnedFd) -> Output {
    let mut command = activated(variables, listen, socket);
    command.output().expect("run")
}

#[test]
fn wrong_inherited_sockets_are_named() {
    let listener = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("bind"));
    let fails_with = |variables, listen, socket, parts: &[&str]| {
        fails(&output(variables, listen, socket), 1, parts);
    };
    for (variables, parts) in [
        ("", &["LISTEN_FDS is not set"][..]),
        ("LISTEN_FDS=x", &["LISTEN_FDS", "'x'", "number"]),
        ("LISTEN_FDS=0", &["LISTEN_FDS", "'0'"]),
        ("LISTEN_FDS=-1", &["LISTEN_FDS", "'-1'"]),
        ("LISTEN_FDS=99999999999", &["LISTEN_FDS", "99999999999"]),
        (
            "LISTEN_FDS=1 LISTEN_PID=1",
            &["LISTEN_PID", "'1'", "another process"],
        ),
        ("LISTEN_FDS=2", &["inherited socket 1"]),
    ] {
        fails_with(variables, "systemd:", listener(), parts);
    }
    let null = || OwnedFd::from(fs::File::open("/dev/null").expect("a device"));
    let parts = ["inherited socket 0", "neither a Unix nor a TCP"];
    fails_with("LISTEN_FDS=1", "systemd:", null(), &parts);
    let (connected, _peer) = UnixStream::pair().expect("a pair");
    let parts = ["inherited socket 0", "does not listen"];
    fails_with("LISTEN_FDS=1", "systemd:", connected.into(), &parts);
    let parts = ["no inherited socket is named 'other'"];
    let names = "LISTEN_FDS=1 LISTEN_FDNAMES=waf";
    fails_with(names, "systemd:other", listener(), &parts);
}

#[test]
fn agent_listens_on_tcp() {
    let agent = Agent::start("tcp://127.0.0.1:0", &[]);
    assert!(agent.endpoint().starts_with("tcp://127.0.0.1:"));
    expect_probed(agent.endpoint());
}

#[test]
fn agent_listens_at_several_endpoints() {
    let dir = TestDir::new();
    let (one, two) = (dir.path("one.sock"), dir.path("two.sock"));
    let more = ["--listen", &two, "--listen", "tcp://127.0.0.1:0"];
    let agent = Agent::start(&one, &more);
    let endpoints: Vec<&str> = agent.endpoint().split(", ").collect();
    assert_eq!(endpoints.len(), 3);
    assert_eq!(endpoints[..2], [&one, &two]);
    for endpoint in endpoints {
        expect_probed(endpoint);
    }
    assert!(agent.stop("TERM").success());
    assert!(!fs::exists(&one).expect("a folder") && !fs::exists(&two).expect("a folder"));

    // Only the endpoint that fails is named.
    let file = dir.file("file", "plain");
    let output = run(&["agent", "--listen", &one, "--listen", &file]);
    fails(
        &output,
        1,
        &[&format!("tollgate: {file}: "), "not a socket"],
    );
}

#[cfg(not(feature = "grpc"))]
#[test]
fn missing_feature_is_named() {
    for (way, endpoint) in [
        ("--listen", "grpc://127.0.0.1:0"),
        ("--listen", "tls://127.0.0.1:0"),
        ("--listen", "grpc+systemd:"),
        ("--dial", "tls://127.0.0.1:1"),
    ] {
        let output = run(&["agent", way, endpoint]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let message = String::from_utf8(output.stderr).expect("text");
        assert!(message.contains("built without `grpc`"), "{message}");
    }
}

/// Starts an agent with a limit of 64 open files, set by an option of `ulimit`, and opens more
/// silent connections than that. Returns the log once a proxy has been served.
fn log_with_silent_connections(limit: &str, listen: &str, path: &str) -> String {
    let script = format!(r#"ulimit {limit} 64; exec "$0" agent --listen {listen}"#);
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_tollgate")]);
    let agent = Agent::spawn(&mut command);
    let connect = |_| UnixStream::connect(path).expect("it listens");
    let _silent: Vec<_> = (0..100).map(connect).collect();
    expect_probed(agent.endpoint());
    agent.log()
}

fn expect_silent_connections_give_way(listen: &str, path: &str) {
    let log = log_with_silent_connections("-n", listen, path);
    assert!(log.contains("open files"), "{log}");
    assert!(log.contains("closed the oldest connection"), "{log}");
}

#[test]
fn limit_of_open_files_is_raised() {
    let dir = TestDir::new();
    let path = dir.path("agent.sock");
    assert_eq!(log_with_silent_connections("-S -n", &path, &path), "");
}

#[test]
fn silent_connections_give_way_when_descriptors_run_out() {
    let dir = TestDir::new();
    let path = dir.path("agent.sock");
    expect_silent_connections_give_way(&path, &path);
}

#[cfg(feature = "grpc")]
#[test]
fn silent_http2_connections_give_way_when_descriptors_run_out() {
    let dir = TestDir::new();
    let path = dir.path("agent.sock");
    expect_silent_connections_give_way(&format!("grpc+unix://{path}"), &path);
}

/// Returns whether a process handles SIGTERM.
fn handles_sigterm(id: u32) -> bool {
    const SIGTERM: u32 = 15;
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << (SIGTERM - 1)) != 0)
}

#[test]
fn signal_ends_an_agent_that_waits_for_a_locked_folder() {
    let dir = TestDir::new();
    let path = dir.path("agent.sock");
    let folder = std::path::Path::new(&path).parent().expect("a folder");
    let folder = fs::File::open(folder).expect("a folder");
    folder.lock().expect("no other lock");
    let mut agent = tollgate(&["agent", "--listen", &path])
        .spawn()
        .expect("spawn");
    let began = Instant::now();
    while !handles_sigterm(agent.id()) {
        assert!(began.elapsed() < TIME_LIMIT, "the agent does not start");
        std::thread::yield_now();
    }
    send_signal(&agent, "TERM");
    assert!(agent.wait().expect("wait").success());

    fails(
        &run(&["agent", "--listen", &path]),
        1,
        &[&path, "holds a lock on the folder"],
    );
}
