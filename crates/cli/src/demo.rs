//! `tollgate demo`: runs an agent in a child process or in this one, sends it a proxy's traffic and
//! prints the figures.

use crate::child_agent::{ChildAgent, Direction};
use crate::connect::{AGENT_ID, Connected, LOCAL, Target};
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
    /// Seconds to send requests for; fractions are allowed
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds)]
    seconds: Duration,
    /// Let the agent dial the proxy, instead of the proxy connecting to the agent
    #[arg(long)]
    reverse: bool,
    /// Run the agent's handler in this process, in the tasks that send the requests
    #[arg(long, conflicts_with_all = ["reverse", "encoding", "link"])]
    local: bool,
    #[command(flatten)]
    options: LoadOptions,
}

/// Starts an agent, sends requests to it and prints the figures.
///
/// When this returns, with or without an error, the agent has exited and its socket is removed.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let termination_signal = termination_signal().context("cannot install signal handlers")?;
    let page = args.options.page.open()?;
    if args.local {
        let connected = args
            .options
            .add_local(demo_traffic::rule_options().rules()?);
        let outcome = tokio::select! {
            run = async { send(&args, LOCAL, connected.await?).await } => run,
            () = termination_signal => Err(anyhow!("interrupted")),
        };
        return outcome?.conclude(page, args.options.json);
    }
    let mut agent = ChildAgent::spawn(args.direction(), &args.agent_options())?;
    let outcome = tokio::select! {
        run = run_traffic(&args, &mut agent) => run,
        () = termination_signal => Err(anyhow!("interrupted")),
    };
    agent.stop().await;
    outcome?.conclude(page, args.options.json)
}

async fn run_traffic(args: &Args, agent: &mut ChildAgent) -> anyhow::Result<Recording> {
    let options = &args.options;
    let connected = match args.direction() {
        Direction::Forward => {
            agent.ready(options.timeout()).await?;
            options.connect(&Target::local(agent.endpoint())).await?
        }
        Direction::Reverse => {
            let endpoint = agent.endpoint().to_owned();
            let (ready, connected) =
                tokio::join!(agent.ready(options.timeout()), options.accept(&endpoint));
            ready?;
            connected?
        }
    };
    send(args, agent.endpoint(), connected).await
}

/// Sends the demo's requests.
async fn send(
    args: &Args,
    endpoint: &str,
    connected: (Connected, &'static str),
) -> anyhow::Result<Recording> {
    let options = &args.options;
    let request_list = demo_traffic::request_list();
    let length = Length::Time(args.seconds);
    let mut run = measure(
        endpoint,
        connected,
        request_list,
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
    const fn direction(&self) -> Direction {
        if self.reverse {
            Direction::Reverse
        } else {
            Direction::Forward
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

/// Returns a future that resolves at SIGINT, SIGTERM or SIGHUP.
fn termination_signal() -> io::Result<impl Future<Output = ()>> {
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
