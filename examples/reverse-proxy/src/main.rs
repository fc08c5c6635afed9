//! `reverse-proxy FILE` forwards requests to an upstream and asks agents about each of them.
//! `reverse-proxy upstream ADDRESS` runs a server to use as the upstream.
//!
//! The settings file is that of the example on Pingora, see `examples/pingora-proxy/proxy.toml`.
//! `RUST_LOG` sets the log filter.

use anyhow::{Context, bail};
use std::path::Path;
use tollgate_example_settings::Settings;
use tollgate_reverse_proxy::server;
use tollgate_reverse_proxy::test_upstream::{Recording, Upstream};
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
usage: reverse-proxy FILE                    run the proxy with a settings file such as proxy.toml
       reverse-proxy upstream ADDRESS        run a server to use as the upstream";

fn main() -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let words: Vec<String> = std::env::args().skip(1).collect();
    match &words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["upstream", address] => runtime(2)?.block_on(run_upstream(address)),
        [file] if !file.starts_with('-') => {
            let settings = Settings::load(Path::new(file))?;
            runtime(settings.threads)?.block_on(server::run(&settings))
        }
        _ => bail!(USAGE),
    }
}

fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
}

async fn run_upstream(address: &str) -> anyhow::Result<()> {
    let address = address.parse().with_context(|| address.to_owned())?;
    let upstream = Upstream::start(address, Recording::Off).await?;
    eprintln!("listening at {}", upstream.address());
    Ok(tokio::signal::ctrl_c().await?)
}
