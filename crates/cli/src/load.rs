//! `tollgate load`: measures an agent's throughput and latency under load.

use crate::connect::{Connected, LinkKind, Target};
use crate::driver::{Length, drive};
use crate::har;
use crate::options::{LoadOptions, parse_seconds};
use crate::recording::{Details, Recording, Stage};
use crate::report::Report;
use crate::traffic::RequestList;
#[cfg(feature = "envoy")]
use crate::values::is_envoy;
#[cfg(feature = "haproxy")]
use crate::values::is_haproxy;
use crate::values::parse_size;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

const DEFAULT_LENGTH: Length = Length::Time(Duration::from_secs(5));

/// Options of `tollgate load`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Stop after exactly this many requests
    #[arg(
        long, value_name = "N", conflicts_with = "seconds",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    requests: Option<u64>,
    /// Stop after this many seconds; fractions are allowed [default: 5]
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    seconds: Option<Duration>,
    /// Replay the requests of a browser's HAR capture with their bodies, in order and repeatedly
    #[arg(long, value_name = "FILE")]
    har: Option<PathBuf>,
    /// Send each request with a body of this size, such as 200000 (bytes) or 64KiB [default: 0, no
    /// body]
    #[arg(
        long, value_name = "N", default_value = "0", hide_default_value = true,
        value_parser = parse_size, conflicts_with = "har"
    )]
    body_bytes: usize,
    #[command(flatten)]
    options: LoadOptions,
}

/// Sends requests as fast as the agent answers and prints the figures.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let request_list = args.request_list()?;
    let page = args.options.page.open()?;
    #[cfg(feature = "haproxy")]
    if is_haproxy(&args.target.endpoint) {
        let (began, length) = (SystemTime::now(), args.length());
        let endpoint = &args.target.endpoint;
        let measured = crate::haproxy::drive(endpoint, request_list, length, &args.options).await?;
        let run = recording(endpoint, began, measured, "spop");
        return run.conclude(page, args.options.json);
    }
    #[cfg(feature = "envoy")]
    if is_envoy(&args.target.endpoint) {
        let (began, length) = (SystemTime::now(), args.length());
        let target = &args.target;
        let measured = crate::envoy::drive(target, request_list, length, &args.options).await?;
        let run = recording(&target.endpoint, began, measured, "ext_proc");
        return run.conclude(page, args.options.json);
    }
    let connected = args.options.connect(&args.target).await?;
    let concurrency = args.options.concurrency();
    let run = measure(
        &args.target.endpoint,
        connected,
        request_list,
        args.length(),
        concurrency,
    )
    .await?;
    run.conclude(page, args.options.json)
}

/// Sends requests to a connected agent and records the run.
pub(crate) async fn measure(
    endpoint: &str,
    (connected, encoding): (Connected, &'static str),
    request_list: RequestList,
    length: Length,
    concurrency: usize,
) -> anyhow::Result<Recording> {
    let began = SystemTime::now();
    let link = LinkKind::of(&connected.agent, endpoint);
    let measured = drive(&connected.agent, request_list, concurrency, length).await?;
    Ok(Recording {
        details: Details {
            endpoint: endpoint.to_owned(),
            began_at: humantime::format_rfc3339_seconds(began).to_string(),
            quantiles: measured.latencies.quantiles(),
            timeline: measured.timeline.points().to_vec(),
            stages: Stage::all(&connected.pool),
        },
        report: Report::new(measured, encoding, link),
    })
}

/// Records a run over the protocol of another proxy, which has no stages.
#[cfg(any(feature = "envoy", feature = "haproxy"))]
fn recording(
    endpoint: &str,
    began: SystemTime,
    measured: crate::driver::Measurement,
    encoding: &'static str,
) -> Recording {
    Recording {
        details: Details {
            endpoint: endpoint.to_owned(),
            began_at: humantime::format_rfc3339_seconds(began).to_string(),
            quantiles: measured.latencies.quantiles(),
            timeline: measured.timeline.points().to_vec(),
            stages: Vec::new(),
        },
        report: Report::new(measured, encoding, LinkKind::Socket),
    }
}

impl Args {
    fn request_list(&self) -> anyhow::Result<RequestList> {
        match &self.har {
            Some(file) => Ok(har::read(file)?),
            None => Ok(RequestList::browsing(self.body_bytes)),
        }
    }

    fn length(&self) -> Length {
        match (self.requests, self.seconds) {
            (Some(requests), _) => Length::Requests(requests),
            (None, Some(time)) => Length::Time(time),
            (None, None) => DEFAULT_LENGTH,
        }
    }
}
