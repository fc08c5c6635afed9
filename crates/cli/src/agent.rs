//! `tollgate agent`: an agent with simple rules that listens for proxies or dials them, until a
//! signal stops it.

use crate::counted::{Counted, Counts};
use crate::exit::{AgentFailure, UsageError};
#[cfg(feature = "haproxy")]
use crate::haproxy::HaproxyOptions;
use crate::rules::{self, Effects, Phase, Rule, Rules, parse_path_prefix, parse_text};
use crate::scrape;
#[cfg(feature = "tls")]
use crate::tls::{AgentTls, is_encrypted, with_tls};
use crate::values::{
    is_envoy, is_haproxy, parse_assignment, parse_duration, parse_encoding, parse_listen,
    parse_proxy, parse_timeout,
};
use anyhow::Context;
use clap::builder::NonEmptyStringValueParser;
use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tollgate::{
    AgentControl, AgentHandler, AgentServer, Decision, Encoding, HeaderOp, control::MetricsReport,
    error::BindError, response::AuditMetadata,
};
use tracing_subscriber::filter::LevelFilter;

/// Options of `tollgate agent`.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("direction").args(["listen", "dial"]).required(true)))]
pub(crate) struct Args {
    /// Endpoint to listen on: /path, unix:/path, tcp://address:port, or systemd: or systemd:NAME
    /// for sockets that systemd passes; with gRPC also grpc://address:port, grpcs://address:port,
    /// grpc+unix:///path, tls://address:port, and grpc+systemd:, grpcs+systemd: and tls+systemd:;
    /// for Envoy envoy://address:port, envoys://address:port and envoy+unix:///path; for HAProxy
    /// haproxy://address:port and haproxy+unix:///path. May be repeated
    #[arg(long, value_name = "ENDPOINT", value_parser = parse_listen)]
    listen: Vec<String>,
    /// Proxy to dial: /path, unix:/path or tcp://host:port; with gRPC also tls://host:port. Lost
    /// connections are dialed again. May be repeated
    #[arg(long, value_name = "ENDPOINT", value_parser = parse_proxy)]
    dial: Vec<String>,
    /// Number of connections to each proxy, 1 to 1024
    #[arg(
        long, value_name = "N", default_value_t = 4, conflicts_with = "listen",
        value_parser = clap::value_parser!(u32).range(1..=1_024)
    )]
    connections: u32,
    /// File with the token that proxies require; read again for each connection
    #[arg(long, value_name = "FILE", conflicts_with = "listen")]
    token_file: Option<PathBuf>,
    /// Agent id to register with proxies
    #[arg(
        long, value_name = "ID", default_value = "tollgate", conflicts_with = "listen",
        value_parser = NonEmptyStringValueParser::new()
    )]
    agent_id: String,
    #[command(flatten)]
    rules: RuleOptions,
    /// Encodings to accept, separated by commas: msgpack, json
    #[arg(
        long,
        default_value = "msgpack,json",
        value_delimiter = ',',
        value_parser = parse_encoding
    )]
    encodings: Vec<Encoding>,
    /// Serve Prometheus metrics of the agent's decisions at http://ADDRESS/metrics
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// Report the same metrics to every connected proxy at this interval, such as 10s
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    report_every: Option<Duration>,
    #[cfg(feature = "envoy")]
    #[command(flatten)]
    envoy: crate::envoy::AgentOptions,
    #[cfg(feature = "haproxy")]
    #[command(flatten)]
    haproxy: HaproxyOptions,
    #[cfg(feature = "tls")]
    #[command(flatten)]
    tls: AgentTls,
}

/// Options of the rules by which the agent decides.
#[derive(Default, clap::Args)]
pub(crate) struct RuleOptions {
    /// TOML file with rules; the agent subscribes to the events that they look at
    #[arg(long, value_name = "FILE")]
    pub(crate) rules: Option<PathBuf>,
    /// Block requests whose path starts with PREFIX, in any spelling; may be repeated
    #[arg(long, value_name = "PREFIX", value_parser = parse_path_prefix)]
    pub(crate) block_path: Vec<String>,
    /// Block requests and responses whose body contains TEXT; may be repeated
    #[arg(long, value_name = "TEXT", value_parser = parse_text)]
    pub(crate) block_body: Vec<String>,
    /// Set this header on every allowed request; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_assignment)]
    pub(crate) set_request_header: Vec<(String, String)>,
    /// Set headers only if the path starts with PREFIX (for the demo); may be repeated
    #[arg(
        long,
        hide = true,
        value_name = "PREFIX",
        requires = "set_request_header",
        value_parser = parse_path_prefix
    )]
    pub(crate) set_header_path: Vec<String>,
    /// Delay before each answer, such as 5ms; at most a day
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = parse_duration)]
    pub(crate) delay: Duration,
}

impl RuleOptions {
    /// Returns the rules of the options that block, then those of the file, then those of the
    /// options that set headers.
    pub(crate) fn rules(&self) -> Result<Rules, UsageError> {
        let mut rules = Vec::new();
        if !self.block_path.is_empty() {
            let rule = Rule::new(Phase::RequestHeaders, forbid("blocked_path"));
            rules.push(rule.on_paths(self.block_path.clone()));
        }
        for text in &self.block_body {
            for body in [Phase::RequestBody, Phase::ResponseBody] {
                rules.push(Rule::new(body, forbid("blocked_body")).on_text(text));
            }
        }
        if let Some(file) = &self.rules {
            rules.extend(rules::read(file)?);
        }
        if !self.set_request_header.is_empty() {
            let rule = Rule::new(Phase::RequestHeaders, set_headers(&self.set_request_header));
            rules.push(rule.on_paths(self.set_header_path.clone()));
        }
        let rules = Rules::new(rules, self.delay);
        Ok(match self.rules {
            Some(_) => rules.with_their_events(),
            None => rules,
        })
    }
}

fn forbid(reason: &str) -> Effects {
    Effects {
        verdict: Some(Decision::Block {
            status: 403,
            body: Some("Forbidden".to_owned()),
            headers: None,
        }),
        audit: AuditMetadata {
            reason_codes: vec![reason.to_owned()],
            ..AuditMetadata::default()
        },
        ..Effects::default()
    }
}

fn set_headers(pairs: &[(String, String)]) -> Effects {
    let set = |(name, value): &(String, String)| HeaderOp::Set {
        name: name.clone(),
        value: value.clone(),
    };
    Effects {
        request_headers: pairs.iter().map(set).collect(),
        ..Effects::default()
    }
}

/// Serves until SIGINT or SIGTERM, then finishes the calls in flight. A second signal stops at
/// once.
pub(crate) async fn run(
    #[cfg_attr(not(feature = "haproxy"), allow(unused_mut))] mut args: Args,
) -> anyhow::Result<()> {
    #[cfg(feature = "envoy")]
    args.envoy.check(&args.listen)?;
    let rules = args.rules.rules()?;
    #[cfg(feature = "haproxy")]
    args.haproxy.prepare(&rules);
    if args.metrics.is_none() && args.report_every.is_none() {
        return serve(&args, rules, |_| {}).await;
    }
    let mut handler = Counted::new(rules);
    let counts = handler.counts();
    let server = Arc::new(OnceLock::new());
    if let Some(address) = args.metrics {
        let (counts, agent_id) = (Arc::clone(&counts), args.agent_id.clone());
        let server = Arc::clone(&server);
        #[cfg(feature = "envoy")]
        let add_listeners = {
            let counts = args.envoy.counts();
            move |report: &mut MetricsReport| counts.add_to(report)
        };
        #[cfg(not(feature = "envoy"))]
        let add_listeners = |_: &mut MetricsReport| {};
        scrape::serve(address, move || {
            counts.to_prometheus(&agent_id, server.get(), &add_listeners)
        })
        .await?;
    }
    if args.report_every.is_some() {
        handler = handler.with_metrics_reports();
    }
    serve(&args, handler, |control| {
        if let Some(interval) = args.report_every {
            let agent_id = args.agent_id.clone();
            tokio::spawn(report(control.clone(), counts, agent_id, interval));
        }
        // Set once, by the only server of this process.
        let _ = server.set(control);
    })
    .await
}

async fn report(control: AgentControl, counts: Arc<Counts>, agent_id: String, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        control.report_metrics(counts.report(&agent_id, interval));
    }
}

async fn serve<H: AgentHandler>(
    args: &Args,
    handler: H,
    with_control: impl FnOnce(AgentControl),
) -> anyhow::Result<()> {
    log_to_stderr();
    // Install the handlers before printing "listening": a signal after that line must not meet the
    // default action.
    let mut signals = Signals::install().context("cannot install signal handlers")?;
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async {
        // An error means that the sender was dropped, which stops serving too.
        let _ = stopped.await;
    };
    let served = async {
        if args.listen.is_empty() {
            dial(args, handler, with_control, stopped).await
        } else {
            listen(args, handler, with_control, stopped).await
        }
    };
    tokio::select! {
        served = served => served,
        () = signals.wait_for_two(stop) => Ok(()),
    }
}

async fn listen<H: AgentHandler>(
    args: &Args,
    handler: H,
    with_control: impl FnOnce(AgentControl),
    stopped: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    // A connection takes a descriptor or two. If the limit cannot be raised, the library logs when
    // it is reached.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let failed = |error| failure(&args.listen, &error);
    let mut server = AgentServer::builder(handler).encodings(args.encodings.clone());
    let (of_envoy, mut endpoints): (Vec<_>, Vec<_>) = args
        .listen
        .iter()
        .cloned()
        .partition(|endpoint| is_envoy(endpoint));
    #[cfg(feature = "tls")]
    let tls = args.tls.listening(&args.listen)?;
    #[cfg(feature = "tls")]
    if let Some(tls) = &tls {
        endpoints = endpoints.iter().map(|it| with_tls(it)).collect();
        if endpoints.iter().any(|endpoint| is_encrypted(endpoint)) {
            server = server.tls(tls.clone());
        }
    }
    #[cfg(feature = "haproxy")]
    {
        server = args.haproxy.listen(server, &endpoints).await?;
    }
    endpoints.retain(|endpoint| !is_haproxy(endpoint));
    for endpoint in endpoints.drain(..) {
        server = server.listen(endpoint);
    }
    #[cfg(feature = "envoy")]
    for endpoint in of_envoy {
        server = server.listen_on(args.envoy.listen(&endpoint, tls.as_ref()).await?);
    }
    #[cfg(not(feature = "envoy"))]
    drop(of_envoy);
    with_control(server.control());
    let mut stopped = pin!(stopped);
    let server = tokio::select! {
        bound = server.bind() => bound.map_err(failed)?,
        () = &mut stopped => return Ok(()),
    };
    announce(format_args!(
        "listening on {}",
        server.endpoints().join(", ")
    ));
    Ok(server.serve_until(stopped).await.map_err(failed)?)
}

async fn dial<H: AgentHandler>(
    args: &Args,
    handler: H,
    with_control: impl FnOnce(AgentControl),
    stopped: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let proxies = args.dial.join(", ");
    let mut dialer = AgentServer::builder(handler)
        .agent_id(&args.agent_id)
        .encodings(args.encodings.clone())
        .dial_connections(args.connections as usize);
    #[cfg(feature = "tls")]
    {
        dialer = dialer.dial_tls(args.tls.dialing(&args.dial)?);
    }
    if let Some(file) = &args.token_file {
        dialer = dialer.token_file(file);
    }
    for endpoint in &args.dial {
        dialer = dialer.dial(endpoint);
    }
    with_control(dialer.control());
    announce(format_args!("dialing {proxies}"));
    let failed = |error| failure(&args.dial, &error);
    Ok(dialer.serve_until(stopped).await.map_err(failed)?)
}

/// Describes a failure at one of these endpoints.
fn failure(endpoints: &[String], error: &BindError) -> AgentFailure {
    match (endpoints, error) {
        ([_, _, ..], BindError::Listen { endpoint, .. }) => AgentFailure::of(endpoint, error),
        ([_, _, ..], BindError::InvalidEndpoint(invalid)) => {
            AgentFailure::of(invalid.endpoint(), error)
        }
        _ => AgentFailure::of(&endpoints.join(", "), error),
    }
}

fn announce(message: fmt::Arguments<'_>) {
    // The parent process may have closed stderr; that does not stop the agent.
    let _ = writeln!(io::stderr(), "{message}");
}

fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(LevelFilter::WARN)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        // A failure to write would be reported to stderr, where writing fails as well: a panic.
        .log_internal_errors(false)
        .init();
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Reports the first signal through `first` and returns at the second.
    async fn wait_for_two(&mut self, first: oneshot::Sender<()>) {
        self.next().await;
        // The receiver is gone if serving ended by itself.
        let _ = first.send(());
        self.next().await;
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
