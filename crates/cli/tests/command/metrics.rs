//! `--metrics` and `tollgate top`.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use crate::support::{TestDir, run, succeeds, tollgate};
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections that the metrics port of the command serves.
const MOST_SCRAPES: usize = 64;

/// Time limit for the head of a request to the metrics port.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Descriptors of the command that are not those of scrapes, and were opened late.
const OTHERS: usize = 8;

#[test]
fn agent_serves_metrics_of_its_decisions() {
    let address = free_address();
    let dir = TestDir::new();
    let agent = dir.agent(&["--block-path", "/products", "--metrics", &address]);
    let report = succeeds(run(&[
        "load",
        agent.endpoint(),
        "--requests",
        "300",
        "--json",
    ]));
    let page = get(&address, "/metrics");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert_eq!(report["decisions"], json!({"allow": 0, "block": 300}));
    for (decision, count) in [("allow", 0), ("block", 300)] {
        let line = format!(
            "agent_decisions_total{{agent_id=\"tollgate\",decision=\"{decision}\"}} {count}\n"
        );
        assert!(page.contains(&line), "{line} in {page}");
    }
    assert!(
        page.contains("agent_request_duration_seconds_count{agent_id=\"tollgate\"} 300\n"),
        "{page}"
    );
    assert!(get(&address, "/elsewhere").starts_with("HTTP/1.1 404"));
}

#[test]
fn silent_connections_keep_no_scrape_out() {
    let address = free_address();
    let dir = TestDir::new();
    let agent = dir.agent(&["--metrics", &address]);
    let most = agent.descriptors() + MOST_SCRAPES + OTHERS;
    let mut silent: Vec<_> = (0..10 * MOST_SCRAPES)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\nx: ").unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    assert!(get(&address, "/metrics").starts_with("HTTP/1.1 200"));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");

    // The oldest were closed for the newest, long before the time limit for heads.
    let is_bounded = || agent.descriptors() <= most;
    wait_at_most(Duration::from_secs(2), "few descriptors", is_bounded);
    assert!(is_closed(&mut silent[0], Duration::from_secs(1)));
    assert!(!is_closed(
        silent.last_mut().unwrap(),
        Duration::from_millis(1)
    ));
}

/// Waits for this time until the other side has closed a connection. Returns whether it has.
fn is_closed(stream: &mut TcpStream, time: Duration) -> bool {
    stream.set_read_timeout(Some(time)).unwrap();
    match stream.read(&mut [0; 1024]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

#[test]
fn heads_of_scrapes_have_to_arrive_in_time() {
    let address = free_address();
    let dir = TestDir::new();
    let _agent = dir.agent(&["--metrics", &address]);
    let head = "GET /metrics HTTP/1.1\r\nx: ";
    // What comes at first, and whether a byte comes every 100 ms afterwards, for ten times as long.
    let kinds = [("", false), (head, false), ("", true), (head, true)];
    let took = kinds.map(|(begin, goes_on)| {
        let address = address.clone();
        thread::spawn(move || {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(begin.as_bytes()).unwrap();
            let began = Instant::now();
            while !is_closed(&mut stream, Duration::from_millis(100))
                && began.elapsed() < 10 * HEAD_TIMEOUT
            {
                if goes_on {
                    // Fails once the connection is closed.
                    let _ = stream.write_all(b"x");
                }
            }
            began.elapsed()
        })
    });
    for (kind, took) in kinds.iter().zip(took) {
        let took = took.join().unwrap();
        let expected = HEAD_TIMEOUT - Duration::from_millis(500)..HEAD_TIMEOUT * 19 / 10;
        assert!(expected.contains(&took), "{kind:?}: {took:?}");
    }
}

#[test]
fn connection_of_the_metrics_port_serves_one_request() {
    let address = free_address();
    let dir = TestDir::new();
    let _agent = dir.agent(&["--metrics", &address]);
    let mut stream = TcpStream::connect(&address).unwrap();
    let requests = "GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n".repeat(10);
    stream.write_all(requests.as_bytes()).unwrap();
    let mut page = Vec::new();
    // The unread requests may make the system reset the connection after the response.
    let _ = stream.read_to_end(&mut page);
    let page = String::from_utf8(page).unwrap();
    assert_eq!(page.matches("HTTP/1.1 200").count(), 1, "{page}");
}

#[test]
fn top_shows_agents_from_a_proxys_metrics() {
    let address = free_address();
    let mut demo = tollgate(&[
        "demo",
        "--seconds",
        "30",
        "--concurrency",
        "2",
        "--metrics",
        &address,
    ])
    .stdout(Stdio::null())
    .spawn()
    .unwrap();
    wait_until("metrics", || TcpStream::connect(&address).is_ok());
    let url = format!("http://{address}/metrics");
    let mut top = Terminal::running(&["top", "--prometheus", &url, "--interval", "100ms"]);
    top.wait_until("a row with rates", |screen| {
        let row = screen
            .lines()
            .find(|line| line.starts_with("agent ") && line.contains(" up "));
        let columns: Vec<_> = row.into_iter().flat_map(str::split_whitespace).collect();
        // The columns after the connections: calls in flight, allowed and blocked events per
        // second.
        matches!(columns[..], ["agent", "up", "4/4", _, allowed, blocked, ..]
            if allowed != "0" && blocked != "0")
            && row.is_some_and(|row| row.contains("µs") || row.contains("ms"))
    });
    // SIGTERM, because a killed demo could not stop its agent.
    assert_eq!(terminate(&mut demo).code(), Some(1));
    top.wait_until("an error", |screen| {
        screen.contains(&url) && !screen.contains("q quits")
    });
    assert_eq!(top.quit_with("q"), 0);
}

#[test]
fn top_shows_an_agent_that_reports_metrics() {
    let dir = TestDir::new();
    let agent = dir.agent(&["--report-every", "50ms"]);
    let mut top = Terminal::running(&["top", agent.endpoint(), "--interval", "100ms"]);
    top.wait_until("its state", |screen| {
        screen.contains(" up ") && screen.contains("ping")
    });
    let mut load = tollgate(&[
        "load",
        agent.endpoint(),
        "--seconds",
        "30",
        "--concurrency",
        "2",
    ])
    .stdout(Stdio::null())
    .spawn()
    .unwrap();
    top.wait_until("its decisions", |screen| {
        let row = screen.lines().find(|line| line.contains(" up "));
        row.is_some_and(|row| {
            row.split_whitespace()
                .nth(4)
                .is_some_and(|allowed| allowed != "0")
        })
    });
    load.kill().unwrap();
    load.wait().unwrap();
    assert_eq!(top.quit_with("\x03"), 0);
}

#[test]
fn top_needs_a_terminal_and_something_to_watch() {
    for (arguments, expected) in [
        (vec!["top", "/run/agent.sock"], "terminal"),
        (vec!["top"], "required"),
        (
            vec![
                "top",
                "/run/agent.sock",
                "--prometheus",
                "http://localhost/",
            ],
            "cannot be used",
        ),
        (vec!["top", "--prometheus", "https://localhost/"], "http://"),
    ] {
        let output = tollgate(&arguments).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(expected), "{expected} in {message}");
    }
}

fn terminate(child: &mut Child) -> ExitStatus {
    let signal = Command::new("kill").arg(child.id().to_string()).status();
    assert!(signal.unwrap().success());
    child.wait().unwrap()
}

/// Returns an address that was free a moment ago.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn wait_until(description: &str, condition: impl FnMut() -> bool) {
    wait_at_most(TEST_TIMEOUT, description, condition);
}

fn wait_at_most(limit: Duration, description: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < limit, "{description}");
        thread::yield_now();
    }
}

/// The command in a pseudo-terminal.
struct Terminal {
    child: Box<dyn portable_pty::Child + Send + Sync>,
    keyboard: Box<dyn Write + Send>,
    output: mpsc::Receiver<Vec<u8>>,
    shown: vt100::Parser,
    _pair: Box<dyn portable_pty::MasterPty + Send>,
}

impl Terminal {
    fn running(arguments: &[&str]) -> Self {
        let size = PtySize {
            rows: 24,
            cols: 140,
            pixel_width: 0,
            pixel_height: 0,
        };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(arguments);
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).unwrap();
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (sender, output) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut bytes) {
                if sender.send(bytes[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            keyboard: pair.master.take_writer().unwrap(),
            output,
            shown: vt100::Parser::new(size.rows, size.cols, 0),
            _pair: pair.master,
        }
    }

    fn wait_until(&mut self, description: &str, condition: impl Fn(&str) -> bool) {
        let began = Instant::now();
        loop {
            let screen = self.shown.screen().contents();
            if condition(&screen) {
                return;
            }
            assert!(
                began.elapsed() < TEST_TIMEOUT,
                "no {description} in:\n{screen}"
            );
            let bytes = self.output.recv_timeout(TEST_TIMEOUT).expect("output");
            self.shown.process(&bytes);
        }
    }

    /// Presses a key and waits for the command to exit. Returns the exit status.
    fn quit_with(mut self, key: &str) -> u32 {
        self.keyboard.write_all(key.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
        self.child.wait().unwrap().exit_code()
    }
}
