//! The client: makes each call of the [script](crate::script) and prints its result
//! on a line.

use crate::agent::grpc_address;
use crate::encoding::{Agreed, Expected};
use crate::link::{
    accept_agent, connect_client, connect_grpc_client, connect_pool, probe_encoding, within,
    Failure, Link,
};
use crate::output;
use crate::script::{self, Step};
use anyhow::Result;
use clap::ValueEnum;
use serde_json::{json, Value};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use zentinel_agent_protocol::v2::UdsEncoding;
use zentinel_agent_protocol::AgentProtocolError;

/// The command line of `client`.
#[derive(clap::Args)]
pub struct Args {
    /// The agent's socket or `grpc://ADDRESS:PORT`; with `--via listener` the socket to listen on.
    #[arg(long, value_name = "PATH")]
    connect: PathBuf,
    /// Which of the crate's clients to use.
    #[arg(long, value_enum)]
    via: Via,
    /// Stop after connecting unless this encoding was negotiated.
    #[arg(long, value_enum, default_value = "auto")]
    encoding: Expected,
    /// Connections of the pool.
    #[arg(long, default_value = "1")]
    connections: NonZeroUsize,
    /// Settings to give the agent on every connection, as JSON. Since 0.6.54.
    #[arg(long, value_name = "JSON", value_parser = json_value)]
    settings: Option<Value>,
    /// Timeout of an answer.
    #[arg(long, default_value_t = 5000)]
    timeout_ms: u64,
    /// Make only the call of this name.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Make the calls of different exchanges at the same time, so that calls that are
    /// never answered time out together.
    #[arg(long)]
    at_once: bool,
}

fn json_value(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text)
}

/// Type of zentinel-agent-protocol that makes the calls.
#[derive(Clone, Copy, ValueEnum)]
enum Via {
    /// `AgentPool`
    Pool,
    /// `AgentClientV2Uds`, or `AgentClientV2` over gRPC
    Client,
    /// `AgentPool`, with an agent that `ReverseConnectionListener` accepted
    Listener,
}

/// Connects and makes every call. Failed calls do not fail the run.
pub async fn run(args: Args) -> Result<ExitCode> {
    let limit = Duration::from_millis(args.timeout_ms);
    let (link, agreed) = match connect(&args, limit).await {
        Ok(connected) => connected,
        Err(error) => {
            report("connect", Err(error.into()))?;
            return Ok(ExitCode::FAILURE);
        }
    };
    output::emit(&json!({
        "call": "connect",
        "ok": true,
        "encoding": agreed.name(),
        "capabilities": link.capabilities().await,
    }))?;
    let link = Arc::new(link);
    let mut steps = script::steps();
    if let Some(name) = &args.only {
        steps.retain(|step| step.name == *name);
    }
    if args.at_once {
        let unanswered = steps.iter().position(|step| !step.call.is_answered());
        let in_order = steps.split_off(unanswered.unwrap_or(steps.len()));
        make_at_once(&link, steps, limit).await?;
        steps = in_order;
    }
    make_in_order(&link, steps, limit).await?;
    link.close().await?;
    output::emit(&json!({"call": "end", "ok": true}))?;
    Ok(ExitCode::SUCCESS)
}

async fn connect(args: &Args, limit: Duration) -> Result<(Link, Agreed), AgentProtocolError> {
    let settings = args.settings.clone();
    let connections = args.connections.get();
    let (link, agreed) = match (args.via, grpc_address(&args.connect)) {
        (Via::Client, Some(address)) => {
            let client = connect_grpc_client(address, settings, limit).await?;
            (Link::GrpcClient(Box::new(client)), Agreed::Protobuf)
        }
        (Via::Client, None) => {
            let client = connect_client(&args.connect, settings, limit).await?;
            let agreed = client.encoding().await;
            (Link::Client(Box::new(client)), Agreed::Of(agreed))
        }
        (Via::Listener, _) => {
            let pool = accept_agent(&args.connect, limit).await?;
            // The listener supports no other encoding.
            (Link::Pool(Box::new(pool)), Agreed::Of(UdsEncoding::Json))
        }
        (Via::Pool, address) => {
            let agreed = match address {
                Some(_) => Agreed::Protobuf,
                None => Agreed::Of(probe_encoding(&args.connect, limit).await?),
            };
            let pool = connect_pool(&args.connect, connections, settings, limit).await?;
            (Link::Pool(Box::new(pool)), agreed)
        }
    };
    if args.encoding.matches(agreed) {
        Ok((link, agreed))
    } else {
        Err(AgentProtocolError::InvalidMessage(format!(
            "the agent negotiated {}",
            agreed.name()
        )))
    }
}

/// Makes the calls of each exchange in order, and of all exchanges at the same time.
async fn make_at_once(link: &Arc<Link>, steps: Vec<Step>, limit: Duration) -> Result<()> {
    let mut exchanges: BTreeMap<String, Vec<Step>> = BTreeMap::new();
    for step in steps {
        exchanges.entry(step.id.clone()).or_default().push(step);
    }
    let mut running = JoinSet::new();
    for steps in exchanges.into_values() {
        let link = Arc::clone(link);
        running.spawn(async move { make_in_order(&link, steps, limit).await });
    }
    while let Some(made) = running.join_next().await {
        made??;
    }
    Ok(())
}

async fn make_in_order(link: &Link, steps: Vec<Step>, limit: Duration) -> Result<()> {
    for step in steps {
        report(&step.name, make(link, &step, limit).await)?;
    }
    Ok(())
}

/// Makes one call. The crate has its own timeout; this one is a little longer, in case
/// the other has no effect.
async fn make(link: &Link, step: &Step, limit: Duration) -> Result<Value, Failure> {
    let limit = limit + Duration::from_secs(1);
    within(limit, async { Ok(link.make(step).await) }).await?
}

fn report(call: &str, result: Result<Value, Failure>) -> Result<()> {
    let line = match result {
        Ok(response) => json!({"call": call, "ok": true, "response": response}),
        Err(Failure { error, kind }) => {
            json!({"call": call, "ok": false, "error": error, "kind": kind})
        }
    };
    Ok(output::emit(&line)?)
}
