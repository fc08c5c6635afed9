//! Runs the proxy with an upstream and an agent on this machine, sends requests, and checks the
//! responses.

use crate::client::{Answer, Client};
use crate::server::Running;
use crate::upstream::{Recording, Upstream};
use anyhow::{Context, ensure};
use http::HeaderMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tollgate_example_settings::{AgentSettings, FailureMode, Settings};

/// Time limit for starting and finding an agent.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Starts an upstream, an agent and two proxies, one of which fails open.
///
/// # Errors
///
/// Returns an error if a response is not as expected.
pub async fn run() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("waf.sock");
    let mut agent = start_agent(&socket).await?;
    let upstream =
        Upstream::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Recording::All).await?;
    println!(
        "upstream at {}, agent at {}",
        upstream.address(),
        socket.display()
    );
    let closed = start(1, upstream.address(), &socket, FailureMode::Closed).await?;
    let open = start(2, upstream.address(), &socket, FailureMode::Open).await?;
    println!("proxy at {}, fails closed", closed.address());
    println!("proxy at {}, fails open", open.address());

    with_agent(closed.address(), &upstream).await?;
    heading("the agent is killed");
    agent.kill().await?;
    without_agent(closed.address(), open.address()).await?;
    heading("the agent is back");
    let _agent = start_agent(&socket).await?;
    agent_is_back(closed.address()).await?;
    agent_is_back(open.address()).await?;
    println!("\nall responses are as expected");
    // Dropping a proxy blocks until its thread has ended.
    tokio::task::spawn_blocking(move || drop((closed, open))).await?;
    Ok(())
}

/// Starts an agent in its own process, so that it can be killed.
async fn start_agent(socket: &Path) -> anyhow::Result<Child> {
    let agent = Command::new(std::env::current_exe()?)
        .arg("agent")
        .arg(socket)
        .kill_on_drop(true)
        .spawn()?;
    let deadline = Instant::now() + TIMEOUT;
    while UnixStream::connect(socket).await.is_err() {
        ensure!(
            Instant::now() < deadline,
            "the agent did not listen at {} within {TIMEOUT:?}",
            socket.display()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(agent)
}

async fn with_agent(proxy: SocketAddr, upstream: &Upstream) -> anyhow::Result<()> {
    heading("allowed");
    let answer = get(proxy, "/").await?;
    expect(&answer, 200, "hello\n")?;

    heading("a header is added to the request, another to the response");
    let seen = upstream.seen().last().cloned();
    let seen = seen.context("the upstream received no request")?;
    println!(
        "* the upstream received x-agent: {}",
        value(&seen.headers, "x-agent")
    );
    ensure!(value(&seen.headers, "x-agent") == "rules", "{seen:?}");
    ensure!(value(&answer.headers, "x-seen-by") == "rules", "{answer:?}");

    heading("blocked by its path");
    let answer = get(proxy, "/blocked").await?;
    expect(&answer, 403, "blocked by rules\n")?;
    ensure!(
        value(&answer.headers, "x-blocked-by") == "rules",
        "{answer:?}"
    );

    heading("redirected");
    let answer = get(proxy, "/moved").await?;
    ensure!(
        answer.status == 302 && value(&answer.headers, "location") == "/elsewhere",
        "{answer:?}"
    );

    heading("challenged to authenticate");
    let answer = get(proxy, "/members").await?;
    let challenge = value(&answer.headers, "www-authenticate");
    ensure!(
        answer.status == 401 && challenge == "Bearer realm=\"members\"",
        "{answer:?}"
    );

    heading("a body is allowed");
    let answer = post(proxy, &["a quiet", " body"]).await?;
    expect(&answer, 200, "a quiet body")?;

    heading("blocked by a word that is split across two chunks of a body");
    let answer = post(proxy, &["this is an att", "ack, no doubt"]).await?;
    expect(&answer, 403, "blocked by rules\n")?;
    let saw_word = upstream
        .seen()
        .iter()
        .any(|seen| seen.body.ends_with(b"att"));
    ensure!(!saw_word, "the upstream received the beginning of the word");
    Ok(())
}

async fn without_agent(closed: SocketAddr, open: SocketAddr) -> anyhow::Result<()> {
    expect(&get(closed, "/").await?, 503, "")?;
    expect(&get(open, "/blocked").await?, 200, "hello\n")
}

async fn agent_is_back(proxy: SocketAddr) -> anyhow::Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let answer = ask(proxy, "/blocked").await?;
        if answer.status == 403 {
            println!("> GET http://{proxy}/blocked");
            show(&answer);
            return expect(&answer, 403, "blocked by rules\n");
        }
        ensure!(
            Instant::now() < deadline,
            "the proxy did not reconnect to the agent within {TIMEOUT:?}: {answer:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn start(
    host: u8,
    upstream: SocketAddr,
    socket: &Path,
    failure_mode: FailureMode,
) -> anyhow::Result<Running> {
    let agent = AgentSettings {
        failure_mode,
        ..AgentSettings::new("waf", socket.display().to_string())
    };
    let settings = Settings {
        threads: 2,
        connections_per_agent: 2,
        agents: vec![agent],
        ..Settings::new(own_address(host), upstream)
    };
    tokio::task::spawn_blocking(move || Running::start(&settings)).await?
}

/// Returns a loopback address that is derived from the process id, so that no other process uses
/// it.
pub fn own_address(number: u8) -> SocketAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    // Avoids 127.0.x.x, which other programs use, and keeps the second byte below 255.
    let address = Ipv4Addr::new(127, 1 + high % 254, middle, low);
    SocketAddr::from((address, 8_000 + u16::from(number)))
}

fn heading(text: &str) {
    println!("\n# {text}");
}

async fn get(proxy: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    println!("> GET http://{proxy}{path}");
    let answer = ask(proxy, path).await?;
    show(&answer);
    Ok(answer)
}

async fn ask(proxy: SocketAddr, path: &str) -> anyhow::Result<Answer> {
    Client::http1(proxy).await?.get(path).await
}

async fn post(proxy: SocketAddr, chunks: &'static [&'static str]) -> anyhow::Result<Answer> {
    println!("> POST http://{proxy}/");
    chunks.iter().for_each(|chunk| println!("> {chunk:?}"));
    let answer = Client::http1(proxy).await?.post_chunks("/", chunks).await?;
    show(&answer);
    Ok(answer)
}

fn show(answer: &Answer) {
    println!("< {}", answer.status);
    for (name, value) in &answer.headers {
        println!("< {name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    println!("< {:?}", String::from_utf8_lossy(&answer.body));
}

fn expect(answer: &Answer, status: u16, body: &str) -> anyhow::Result<()> {
    ensure!(
        answer.status == status && answer.body == body,
        "expected {status} {body:?}, got {answer:?}"
    );
    Ok(())
}

fn value(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).map(|value| value.as_bytes());
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}
