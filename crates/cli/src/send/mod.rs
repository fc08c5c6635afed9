//! `tollgate send`: sends all events of one HTTP request to an agent.

#[cfg(feature = "envoy")]
mod as_envoy;
mod body;
mod exchange;
mod step;

use crate::connect::{LinkChoice, Target, connect};
use crate::output::{print_json, print_line};
#[cfg(feature = "envoy")]
use crate::values::is_envoy;
#[cfg(feature = "haproxy")]
use crate::values::is_haproxy;
use crate::values::{
    parse_encoding, parse_header, parse_method, parse_nonzero_size, parse_timeout,
};
use body::Body;
use exchange::Exchange;
use serde::Serialize;
use std::fmt::Display;
use std::time::Duration;
use step::Step;
use tollgate::Encoding;

/// Options of `tollgate send`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Method of the request [default: GET, or POST with a body]
    #[arg(short = 'X', long, value_parser = parse_method)]
    method: Option<String>,
    /// Path and query of the request
    #[arg(long, default_value = "/")]
    uri: String,
    /// Header of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Trailer of the request, for Envoy's endpoints; may be repeated
    #[cfg(feature = "envoy")]
    #[arg(long = "trailer", value_name = "NAME: VALUE", value_parser = parse_header)]
    trailers: Vec<(String, String)>,
    /// File with the body of the request, - for stdin; exit status 2 if it cannot be read
    #[arg(long, value_name = "FILE|-")]
    body: Option<String>,
    /// Size of the chunks in which the body is sent, such as 4096 (bytes) or 64KiB
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse_nonzero_size)]
    chunk_size: usize,
    /// Encoding to offer, msgpack or json [default: both, msgpack preferred]
    #[arg(long, value_parser = parse_encoding)]
    encoding: Option<Encoding>,
    /// Time limit for connecting and for each event, such as 500ms or 5s
    #[arg(long, default_value = "5s", value_parser = parse_timeout)]
    timeout: Duration,
    /// Print the decisions as one JSON object
    #[arg(long)]
    json: bool,
}

/// The request line and headers.
struct Request {
    method: String,
    uri: String,
    headers: Vec<(String, String)>,
}

/// Sends one request and prints what the agent decides at each step.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    // Open the body before connecting, so that an unreadable file is reported without an exchange.
    let body = match &args.body {
        Some(file) => Body::open(file, args.chunk_size)?,
        None => Body::none(),
    };
    #[cfg(feature = "haproxy")]
    if is_haproxy(&args.target.endpoint) {
        return send_as_haproxy(&args, body).await;
    }
    #[cfg(feature = "envoy")]
    {
        if is_envoy(&args.target.endpoint) {
            return as_envoy::send(&args, body).await;
        }
        if !args.trailers.is_empty() {
            let unknown = "--trailer: the agent protocol has no trailers";
            return Err(crate::exit::UsageError(unknown.to_owned()).into());
        }
    }
    let connected = connect(
        &args.target,
        args.encoding,
        1,
        args.timeout,
        LinkChoice::Auto,
    )
    .await?;
    let steps = Exchange::new(&connected.agent, &args.target.endpoint, !args.json)
        .run(&args.request(), body)
        .await?;
    conclude(connected.agent.encoding(), &steps, args.json)
}

#[cfg(feature = "haproxy")]
async fn send_as_haproxy(args: &Args, mut body: Body) -> anyhow::Result<()> {
    let mut whole = Vec::new();
    while let Some(chunk) = body.next_chunk()? {
        whole.extend_from_slice(&chunk.data);
    }
    let request = args.request();
    let asked = crate::haproxy::Asked {
        method: &request.method,
        uri: &request.uri,
        headers: &request.headers,
        body: &whole,
    };
    let answers = crate::haproxy::send(&args.target.endpoint, &asked, args.timeout).await?;
    let mut steps = Vec::new();
    for (kind, response, time) in answers {
        let step = Step::new(kind, response, time);
        if !args.json {
            print_line(&step)?;
        }
        steps.push(step);
    }
    conclude(Some("spop"), &steps, args.json)
}

impl Args {
    fn request(&self) -> Request {
        let default = if self.body.is_some() { "POST" } else { "GET" };
        Request {
            method: self.method.clone().unwrap_or_else(|| default.to_owned()),
            uri: self.uri.clone(),
            headers: self.headers.clone(),
        }
    }
}

#[derive(Serialize)]
struct Report<'a, E> {
    encoding: Option<E>,
    steps: &'a [Step],
    decision: &'a str,
}

fn conclude(
    encoding: Option<impl Serialize + Display>,
    steps: &[Step],
    json: bool,
) -> anyhow::Result<()> {
    let report = Report {
        encoding,
        steps,
        decision: step::final_decision(steps),
    };
    if json {
        return print_json(&report);
    }
    let encoding = report
        .encoding
        .map_or_else(|| "?".to_owned(), |it| it.to_string());
    let decision = report.decision;
    Ok(print_line(format_args!(
        "decision: {decision} ({encoding})"
    ))?)
}
