//! `tollgate demo`: an agent and a proxy's traffic for it, in two processes, and what that came to.

use crate::child_agent::ChildAgent;
use crate::demo_traffic;
use crate::driver::Length;
use crate::load::measure;
use crate::options::{LoadOptions, parse_seconds};
use crate::recording::Recording;
use crate::report::Setting;
use anyhow::{Context, anyhow};
use std::io;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Options of `tollgate demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long to send requests
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds)]
    seconds: Duration,
    #[command(flatten)]
    options: LoadOptions,
}

/// Starts an agent in a child process, sends requests to it and prints the figures.
///
/// However this ends, the agent has ended by then and its socket is gone.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let interruption = interruption().context("cannot catch signals")?;
    let page = args.options.page.open()?;
    let mut agent = ChildAgent::spawn(&demo_traffic::agent_options())?;
    let outcome = tokio::select! {
        run = demonstrate(&args, &mut agent) => run,
        () = interruption => Err(anyhow!("interrupted")),
    };
    agent.stop().await;
    outcome?.conclude(page, args.options.json)
}

async fn demonstrate(args: &Args, agent: &mut ChildAgent) -> anyhow::Result<Recording> {
    let options = &args.options;
    agent.ready(options.timeout()).await?;
    let corpus = demo_traffic::corpus();
    let length = Length::Time(args.seconds);
    let mut run = measure(agent.endpoint(), corpus, length, options).await?;
    run.report = run.report.with_setting(Setting {
        connections: options.connections(),
        concurrency: options.concurrency(),
    });
    Ok(run)
}

/// Resolves when the user, the system or the terminal wants this process to end.
fn interruption() -> io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}
