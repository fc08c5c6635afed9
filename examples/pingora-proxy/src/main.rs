//! `pingora-proxy FILE` runs the proxy with a settings file. `pingora-proxy demo` runs a
//! demonstration. `pingora-proxy agent SOCKET` and `pingora-proxy upstream ADDRESS` run an agent
//! and an upstream to use with it.

use anyhow::{Context, bail};
use std::path::Path;
use tollgate::{AgentHandler, AgentServer, EventType, SharedMemory};
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
       pingora-proxy agent ... busy-poll     never sleep where shared memory is used
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

async fn agent(socket: &Path, words: &[&str]) -> anyhow::Result<()> {
    let (words, link) = match words {
        [words @ .., "busy-poll"] => (words, SharedMemory::BusyPoll),
        _ => (words, SharedMemory::Adaptive),
    };
    let allow = |events| serve(AllowAgent { events }, socket, link);
    match words {
        [] => serve(RuleAgent::new("rules", EventType::ALL), socket, link).await,
        ["allow"] => allow(vec![EventType::RequestHeaders]).await,
        ["allow-all"] => allow(vec![EventType::RequestHeaders, EventType::RequestBodyChunk]).await,
        _ => bail!(USAGE),
    }
}

async fn serve(
    handler: impl AgentHandler,
    socket: &Path,
    link: SharedMemory,
) -> anyhow::Result<()> {
    AgentServer::builder(handler)
        .listen(socket.display().to_string())
        .shared_memory(link)
        .serve()
        .await?;
    Ok(())
}

async fn upstream(address: &str) -> anyhow::Result<()> {
    let address = address.parse().with_context(|| address.to_owned())?;
    let upstream = Upstream::start(address, Recording::Off).await?;
    eprintln!("listening at {}", upstream.address());
    Ok(tokio::signal::ctrl_c().await?)
}
