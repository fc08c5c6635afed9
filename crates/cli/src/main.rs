//! The `tollgate` command: runs, probes, loads and watches agents.

#![warn(missing_docs)]

mod agent;
mod browsers;
mod child_agent;
#[cfg(any(feature = "envoy", feature = "haproxy"))]
mod config;
mod connect;
mod correlation_id;
mod counted;
mod demo;
mod demo_traffic;
mod driver;
#[cfg(feature = "envoy")]
mod envoy;
mod exit;
#[cfg(feature = "haproxy")]
mod haproxy;
mod har;
mod latency;
mod load;
mod numerals;
mod options;
mod output;
mod page;
mod probe;
mod progress;
mod recording;
mod report;
mod rules;
mod scrape;
mod send;
mod tally;
mod timeline;
#[cfg(feature = "tls")]
mod tls;
mod top;
mod traffic;
mod values;

use anyhow::Context;
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tollgate_counting_alloc::CountingAlloc;

/// Counts allocations, so that reports can state the heap allocations per request, and returns the
/// memory of large blocks at once, so that hostile peers cannot make it keep more than its limit.
#[global_allocator]
static ALLOCATOR: CountingAlloc<{ 64 * 1024 }> = CountingAlloc;

/// Run, probe, load and watch agents that decide on a proxy's requests (agent protocol v2)
///
/// Agents are reached over Unix sockets, and over gRPC if the command is built with the `grpc`
/// feature. Exit status: 0 success, 1 the agent failed or rejected the call, 2 wrong usage.
#[derive(Parser)]
#[command(name = "tollgate", version, arg_required_else_help = true)]
struct Tollgate {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start an agent in a child process, send it generated traffic and print the figures
    Demo(demo::Args),
    /// Run an agent with simple rules until SIGINT or SIGTERM
    Agent(Box<agent::Args>),
    /// Print the configuration with which a proxy asks an agent
    #[cfg(any(feature = "envoy", feature = "haproxy"))]
    Config(config::Args),
    /// Print an agent's capabilities, and its handshake and ping times
    Probe(probe::Args),
    /// Send all events of one HTTP request to an agent and print each decision
    Send(send::Args),
    /// Send requests to an agent as fast as it answers and print the figures
    Load(load::Args),
    /// Watch agents in the terminal: one agent, or all agents of a proxy through its metrics
    Top(top::Args),
}

impl Command {
    async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Demo(args) => demo::run(args).await,
            Self::Agent(args) => agent::run(*args).await,
            #[cfg(any(feature = "envoy", feature = "haproxy"))]
            Self::Config(args) => config::run(&args),
            Self::Probe(args) => probe::run(args).await,
            Self::Send(args) => send::run(args).await,
            Self::Load(args) => load::run(args).await,
            Self::Top(args) => top::run(args).await,
        }
    }
}

fn main() -> ExitCode {
    let command = Tollgate::parse().command;
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")
        .and_then(|runtime| runtime.block_on(command.run()));
    exit::conclude(outcome)
}
