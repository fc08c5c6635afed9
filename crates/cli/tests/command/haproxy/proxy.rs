//! A HAProxy between a client and an upstream, with an agent.

use crate::support::{Agent, TestDir, tollgate};
use std::env;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Time in which anything that is waited for has to happen.
const DEADLINE: Duration = Duration::from_secs(20);

/// Interval at which a socket is tried until something listens there.
const RETRY: Duration = Duration::from_millis(10);

/// A HAProxy in a child process, with its agents and its upstream.
pub(super) struct Proxy {
    agents: Vec<Agent>,
    haproxy: Child,
    options: Vec<String>,
    socket: String,
    dir: TestDir,
}

impl Proxy {
    /// Starts everything. The agent gets these rules, and these options beside.
    pub(super) fn start(rules: &str, options: &[&str]) -> Self {
        Self::with_agents(rules, options, 1)
    }

    /// Starts everything, with this number of agents.
    pub(super) fn with_agents(rules: &str, options: &[&str], count: usize) -> Self {
        let dir = TestDir::new();
        let rules = dir.file("rules.toml", rules);
        let mut options: Vec<String> = options.iter().map(|it| (*it).to_owned()).collect();
        options.extend(["--rules".to_owned(), rules.clone()]);
        let upstream = dir.path("upstream.sock");
        serve_upstream(&upstream);
        let (socket, out) = (dir.path("http.sock"), dir.path("haproxy"));
        let mut config = tollgate(&["config", "haproxy", "--rules", &rules, "--out", &out]);
        config.args(["--listen", &format!("unix@{socket}")]);
        config.args(["--upstream", &format!("unix@{upstream}")]);
        let mut agents = Vec::new();
        for number in 0..count {
            let endpoint = format!("haproxy+unix://{}", dir.path(&format!("{number}.sock")));
            agents.push(start_agent(&endpoint, &options));
            config.args(["--agent", &endpoint]);
        }
        let written = config.output().expect("run");
        assert!(written.status.success(), "{written:?}");
        let haproxy = haproxy(&out, &["-f", "haproxy.cfg"]);
        let proxy = Self {
            agents,
            haproxy,
            options,
            socket,
            dir,
        };
        drop(proxy.connect());
        proxy
    }

    /// Takes the first of the agents.
    pub(super) fn take_agent(&mut self) -> Agent {
        self.agents.remove(0)
    }

    fn connect(&self) -> UnixStream {
        let began = Instant::now();
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => return stream,
                Err(error) => assert!(began.elapsed() < DEADLINE, "no HAProxy: {error}"),
            }
            thread::sleep(RETRY);
        }
    }

    pub(super) fn get(&self, path: &str) -> Answer {
        self.send(&Request::get(path))
    }

    /// Sends a request on a connection of its own, and returns the response.
    pub(super) fn send(&self, request: &Request) -> Answer {
        let mut stream = self.connect();
        stream.set_read_timeout(Some(DEADLINE)).expect("timeout");
        let sent = request.to_bytes();
        // HAProxy may answer before it has read all.
        let _ = stream.write_all(&sent);
        let mut answer = Vec::new();
        // A response may be followed by a reset of what was not read.
        let _ = stream.read_to_end(&mut answer);
        Answer::parse(&String::from_utf8_lossy(&answer))
    }

    /// Starts another agent in place of the first one, which has ended.
    pub(super) fn restart_agent(&mut self) {
        let endpoint = format!("haproxy+unix://{}", self.dir.path("0.sock"));
        self.agents.push(start_agent(&endpoint, &self.options));
    }

    /// Waits until HAProxy has found that the agent is there.
    pub(super) fn wait_until_allowed(&self, path: &str) {
        let began = Instant::now();
        while self.get(path).status != 200 {
            assert!(began.elapsed() < DEADLINE, "the agent is not asked again");
            thread::sleep(RETRY);
        }
    }
}

/// Returns whether HAProxy makes any change to headers, as 3.4 and later do.
pub(super) fn takes_header_lists() -> bool {
    let mut command = haproxy_command(".", &["-v"]);
    let output = command.stdout(Stdio::piped()).output().expect("run");
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text.split_whitespace().nth(2).unwrap_or_default();
    let mut numbers = version
        .split(['.', '-'])
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(3u32), Some(4))
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.haproxy.kill();
        let _ = self.haproxy.wait();
    }
}

fn start_agent(endpoint: &str, options: &[String]) -> Agent {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Agent::start(endpoint, &options)
}

/// Starts HAProxy in a folder.
fn haproxy(folder: &str, arguments: &[&str]) -> Child {
    haproxy_command(folder, arguments).spawn().expect("sh")
}

/// Returns the command of HAProxy, which Debian puts where the path of normal users does not lead.
fn haproxy_command(folder: &str, arguments: &[&str]) -> Command {
    let path = env::var("PATH").unwrap_or_default();
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec haproxy \"$@\"", "sh"])
        .args(arguments)
        .env("PATH", format!("{path}:/usr/sbin"))
        .current_dir(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Checks that HAProxy accepts the configuration in a folder, without a warning.
pub(super) fn check(folder: &str) {
    let checked = haproxy(folder, &["-c", "-f", "haproxy.cfg"]).wait_with_output();
    let checked = checked.expect("wait");
    let text = String::from_utf8_lossy(&checked.stderr);
    assert!(
        checked.status.success(),
        "{text}; is it installed? scripts/setup haproxy"
    );
    assert!(!text.contains("WARNING"), "{text}");
}

/// A request of a client.
pub(super) struct Request {
    method: String,
    path: String,
    headers: String,
    body: String,
    /// Size of the chunks of the body, if it is sent in chunks.
    chunk_size: Option<usize>,
    connection: &'static str,
}

impl Request {
    pub(super) fn get(path: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            path: path.to_owned(),
            headers: "authorization: secret\r\n".to_owned(),
            body: String::new(),
            chunk_size: None,
            connection: "close",
        }
    }

    pub(super) fn post(path: &str, body: &str) -> Self {
        Self {
            method: "POST".to_owned(),
            body: body.to_owned(),
            ..Self::get(path)
        }
    }

    pub(super) fn chunked(self) -> Self {
        self.chunked_by(10_000)
    }

    pub(super) fn chunked_by(self, size: usize) -> Self {
        Self {
            chunk_size: Some(size),
            ..self
        }
    }

    /// Asks for another protocol, which a header names.
    pub(super) fn upgrading(self) -> Self {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let request = self.with_header("sec-websocket-key", key);
        Self {
            connection: "upgrade, close",
            ..request.with_header("sec-websocket-version", "13")
        }
    }

    pub(super) fn with_method(self, method: &str) -> Self {
        Self {
            method: method.to_owned(),
            ..self
        }
    }

    pub(super) fn with_header(mut self, name: &str, value: &str) -> Self {
        // Writing to a `String` never fails.
        let _ = write!(self.headers, "{name}: {value}\r\n");
        self
    }

    fn to_bytes(&self) -> Vec<u8> {
        let Self {
            method,
            path,
            headers,
            body,
            connection,
            ..
        } = self;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: a.test\r\nconnection: {connection}\r\n{headers}"
        );
        let text = if let Some(size) = self.chunk_size {
            let mut text = format!("{head}transfer-encoding: chunked\r\n\r\n");
            for chunk in body.as_bytes().chunks(size) {
                let chunk = String::from_utf8_lossy(chunk);
                let _ = write!(text, "{:x}\r\n{chunk}\r\n", chunk.len());
            }
            text + "0\r\n\r\n"
        } else if body.is_empty() {
            head + "\r\n"
        } else {
            format!("{head}content-length: {}\r\n\r\n{body}", body.len())
        };
        text.into_bytes()
    }
}

/// A response.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
        Self {
            status: status.unwrap_or_default(),
            head: head.to_owned(),
            body: body.to_owned(),
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers(name).first().copied()
    }

    /// Returns the values of a header.
    pub(super) fn headers(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        let fields = fields.filter(|(found, _)| found.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| value).collect()
    }
}

/// Serves responses whose body is the head of the request. The threads end with the test.
fn serve_upstream(path: &str) {
    let listener = UnixListener::bind(path).expect("bind");
    thread::spawn(move || {
        for stream in listener.incoming() {
            thread::spawn(move || serve(stream.expect("accept")));
        }
    });
}

fn serve(mut stream: UnixStream) {
    let mut reader = BufReader::new(stream.try_clone().expect("clone"));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let answer = format!(
        "HTTP/1.1 200 OK\r\nserver: hidden\r\ncontent-length: {}\r\n\r\n{head}",
        head.len()
    );
    // The request's body is of no interest; it is read until HAProxy closes.
    let _ = stream.write_all(answer.as_bytes());
    let _ = std::io::copy(&mut reader, &mut std::io::sink());
}
