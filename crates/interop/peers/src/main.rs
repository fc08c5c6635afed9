//! A helper program for tollgate's interop tests, based on `zentinel-agent-protocol`. It
//! has one source, and one binary for each version of that crate.
//!
//! `agent` answers, `dial` connects to the proxy and answers, `client` makes calls, and
//! `bench` measures. Results go to standard output as JSON, one object per line. Logs go
//! to standard error.

mod agent;
mod answers;
mod bench;
mod bodies;
mod client;
mod dial;
mod encoding;
mod events;
mod link;
mod output;
mod script;

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tollgate_load_driver::{CountingAlloc, Role as BenchRole};
use tracing_subscriber::filter::LevelFilter;

#[global_allocator]
static ALLOCATOR: CountingAlloc = CountingAlloc;

/// An agent, a proxy's client or a benchmark of zentinel-agent-protocol.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Level of the log on standard error: off, error, warn, info, debug or trace.
    #[arg(long, global = true, default_value = "warn")]
    log: LevelFilter,
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Serve a socket as an agent that records every event.
    Agent(agent::Args),
    /// Register with a proxy as an agent that records every event.
    Dial(dial::Args),
    /// Send every kind of event to an agent and print its answers.
    Client(client::Args),
    /// Measure zentinel-agent-protocol over Unix sockets.
    #[command(subcommand)]
    Bench(BenchRole),
    /// Measure zentinel-agent-protocol over gRPC.
    #[command(subcommand)]
    BenchGrpc(BenchRole),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(cli.log)
        .with_writer(std::io::stderr)
        .init();
    match run(cli.role) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(role: Role) -> anyhow::Result<ExitCode> {
    tollgate_load_driver::runtime()?.block_on(async {
        match role {
            Role::Agent(args) => agent::run(args).await.map(|()| ExitCode::SUCCESS),
            Role::Dial(args) => dial::run(args).await.map(|()| ExitCode::SUCCESS),
            Role::Client(args) => client::run(args).await,
            Role::Bench(role) => bench::run(role).await.map(|()| ExitCode::SUCCESS),
            Role::BenchGrpc(role) => bench::run_grpc(role).await.map(|()| ExitCode::SUCCESS),
        }
    })
}
