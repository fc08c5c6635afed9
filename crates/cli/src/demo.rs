//! `tollgate demo`: an agent and a proxy's traffic for it, in two processes, and what that came to.

use crate::child_agent::{ChildAgent, Way};
use crate::connect::{AGENT_ID, Target};
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
    /// Have the agent connect to the proxy, instead of the proxy to the agent
    #[arg(long)]
    reverse: bool,
    #[command(flatten)]
    options: LoadOptions,
}

/// Starts an agent in a child process, sends requests to it and prints the figures.
///
/// However this ends, the agent has ended by then and its socket is gone.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let interruption = interruption().context("cannot catch signals")?;
    let page = args.options.page.open()?;
    let mut agent = ChildAgent::spawn(args.way(), &args.agent_options())?;
    let outcome = tokio::select! {
        run = demonstrate(&args, &mut agent) => run,
        () = interruption => Err(anyhow!("interrupted")),
    };
    agent.stop().await;
    outcome?.conclude(page, args.options.json)
}

async fn demonstrate(args: &Args, agent: &mut ChildAgent) -> anyhow::Result<Recording> {
    let options = &args.options;
    let connected = match args.way() {
        Way::Forward => {
            agent.ready(options.timeout()).await?;
            options.connect(&Target::local(agent.endpoint())).await?
        }
        Way::Reverse => {
            let endpoint = agent.endpoint().to_owned();
            let (ready, connected) =
                tokio::join!(agent.ready(options.timeout()), options.accept(&endpoint));
            ready?;
            connected?
        }
    };
    let corpus = demo_traffic::corpus();
    let length = Length::Time(args.seconds);
    let mut run = measure(
        agent.endpoint(),
        connected,
        corpus,
        length,
        options.concurrency(),
    )
    .await?;
    run.report = run.report.with_setting(Setting {
        connections: options.connections(),
        concurrency: options.concurrency(),
    });
    Ok(run)
}

impl Args {
    const fn way(&self) -> Way {
        if self.reverse {
            Way::Reverse
        } else {
            Way::Forward
        }
    }

    fn agent_options(&self) -> Vec<String> {
        let mut options = demo_traffic::agent_options();
        if self.reverse {
            let connections = self.options.connections().to_string();
            let more = ["--agent-id", AGENT_ID, "--connections", &connections];
            options.extend(more.map(str::to_owned));
        }
        options
    }
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
