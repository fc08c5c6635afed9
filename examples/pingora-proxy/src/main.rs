//! `pingora-proxy FILE` runs the proxy with a settings file. `pingora-proxy demo` runs a
//! demonstration. `pingora-proxy agent SOCKET` and `pingora-proxy upstream ADDRESS` run an agent
//! and an upstream to use with it.

use anyhow::{Context, bail};
use std::path::Path;
use tollgate::{AgentServer, EventType};
use tollgate_example_settings::Settings;
use tollgate_pingora::rules::{AllowAgent, RuleAgent};
use tollgate_pingora::upstream::{Recording, Upstream};
use tollgate_pingora::{demo, server};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
usage: pingora-proxy FILE                    run the proxy with settings such as proxy.toml
       pingora-proxy demo                    run upstream, agent and proxy, and send requests
       pingora-proxy agent SOCKET            run an agent that decides by path and body content
       pingora-proxy agent SOCKET allow      run an agent that allows all request headers
       pingora-proxy agent SOCKET allow-all  run an agent that allows all request headers and bodies
       pingora-proxy upstream ADDRESS        run a server to use as the upstream";

fn main() -> anyhow::Result<()> {
    // RUST_LOG sets the log filter. Pingora logs through `log`, which the subscriber captures too.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["demo"] => runtime()?.block_on(demo::run()),
        ["agent", socket, rest @ ..] => {
            // A single thread avoids handing events from one thread to another.
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build()?;
            runtime.block_on(agent(Path::new(socket), rest))
        }
        ["upstream", address] => runtime()?.block_on(upstream(address)),
        [file] if !file.starts_with('-') => server::run(&Settings::load(Path::new(file))?),
        _ => bail!(USAGE),
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
}

async fn agent(socket: &Path, kind: &[&str]) -> anyhow::Result<()> {
    match kind {
        [] => {
            let events = EventType::ALL;
            AgentServer::builder(RuleAgent::new("rules", events))
                .listen(socket.display().to_string())
                .serve()
                .await?;
        }
        ["allow"] => {
            let events = vec![EventType::RequestHeaders];
            AgentServer::builder(AllowAgent { events })
                .listen(socket.display().to_string())
                .serve()
                .await?;
        }
        ["allow-all"] => {
            let events = vec![EventType::RequestHeaders, EventType::RequestBodyChunk];
            AgentServer::builder(AllowAgent { events })
                .listen(socket.display().to_string())
                .serve()
                .await?;
        }
        _ => bail!(USAGE),
    }
    Ok(())
}

async fn upstream(address: &str) -> anyhow::Result<()> {
    let address = address.parse().with_context(|| address.to_owned())?;
    let upstream = Upstream::start(address, Recording::Off).await?;
    eprintln!("listening at {}", upstream.address());
    Ok(tokio::signal::ctrl_c().await?)
}
