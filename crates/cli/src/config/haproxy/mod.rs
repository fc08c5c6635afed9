//! `tollgate config haproxy`: a configuration of HAProxy that asks agents and fails closed.

mod addresses;
mod headers;
mod limits;
mod proxy;
mod spoe;

use crate::exit::UsageError;
use crate::rules::{self, ChangedMessage, Rules};
use crate::values::header_name;
use addresses::{parse_agent, parse_bind, parse_server};
use headers::HeaderNames;
use limits::{parse_status, parse_wait};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tollgate_haproxy::SpopEndpoint;

/// Size limit of the headers of a request, in bytes.
const MAX_HEAD: u32 = 16 * 1024;

/// Size limit of the URL of a request, in bytes.
const MAX_URL: u32 = 8 * 1024;

/// Size limit of the method of a request, in bytes.
const MAX_METHOD: u32 = 64;

/// Size limit, in bytes, of bodies whose end HAProxy does not know. With the head they have to fit
/// into a buffer.
const MAX_UNSIZED_BODY: u32 = 32 * 1024;

/// Size of HAProxy's buffers in bytes.
const BUFFER_SIZE: u32 = 64 * 1024;

/// Statuses of denials that have a line of their own. Others become 403, or 502 for responses.
const STATUSES: [u16; 14] = [
    400, 401, 404, 405, 406, 409, 410, 413, 415, 429, 451, 500, 502, 503,
];

/// Options of `tollgate config haproxy`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Endpoint of an agent: haproxy://host:port or haproxy+unix:///path; may be repeated
    #[arg(long, value_name = "ENDPOINT", required = true, value_parser = parse_agent)]
    agent: Vec<SpopEndpoint>,
    /// Address at which HAProxy listens, such as :80, 127.0.0.1:8080 or unix@/path
    #[arg(long, value_name = "ADDRESS", default_value = ":8080", value_parser = parse_bind)]
    listen: String,
    /// Address of the upstream, such as 127.0.0.1:8000 or unix@/path
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000", value_parser = parse_server)]
    upstream: String,
    /// Folder to write haproxy.cfg and spoe.conf to, which is HAProxy's working folder; made if it
    /// does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// TOML file with the agent's rules: HAProxy before 3.4 changes the headers that they name, and
    /// their statuses come through
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Header of requests that agents change, for HAProxy before 3.4; may be repeated
    #[arg(long, value_name = "NAME", value_parser = header_name)]
    request_header: Vec<String>,
    /// Header of responses that agents change, for HAProxy before 3.4; may be repeated
    #[arg(long, value_name = "NAME", value_parser = header_name)]
    response_header: Vec<String>,
    /// Further status of denials that comes through; may be repeated
    #[arg(long, value_name = "STATUS", value_parser = parse_status)]
    status: Vec<u16>,
    /// Name of the routing hints of agents, which become variables; may be repeated
    #[arg(long, value_name = "KEY", value_parser = header_name)]
    route: Vec<String>,
    /// Time limit of an answer, such as 500ms
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = parse_wait)]
    timeout: Duration,
    /// Tell agents about TLS connections of clients; HAProxy has to be built with TLS
    #[arg(long)]
    tls_fetches: bool,
    /// Ask about requests only
    #[arg(long)]
    no_responses: bool,
}

/// Contents of a configuration.
struct Plan<'a> {
    args: &'a Args,
    statuses: Vec<u16>,
    names: HeaderNames,
}

/// Writes both files.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let plan = Plan::of(args)?;
    let failed = |path: &Path, error: std::io::Error| {
        UsageError(format!("cannot write {}: {error}", path.display()))
    };
    let files = [
        ("haproxy.cfg", proxy::text(&plan)),
        ("spoe.conf", spoe::text(&plan)),
    ];
    for (_, text) in &files {
        limits::check_lines(text)?;
    }
    fs::create_dir_all(&args.out).map_err(|error| failed(&args.out, error))?;
    for (name, text) in files {
        let path = args.out.join(name);
        fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

impl<'a> Plan<'a> {
    fn of(args: &'a Args) -> Result<Self, UsageError> {
        let rules = match &args.rules {
            Some(file) => rules::read(file)?,
            None => Vec::new(),
        };
        let rules = Rules::new(rules, Duration::ZERO);
        if args.no_responses && rules.judge_responses() {
            let reason = "--no-responses, but a rule of the file is about responses";
            return Err(UsageError(reason.to_owned()));
        }
        let mut names = HeaderNames::default();
        for name in &args.request_header {
            names.add(ChangedMessage::Request, name);
        }
        for name in &args.response_header {
            names.add(ChangedMessage::Response, name);
            names.add(ChangedMessage::Denial, name);
        }
        names.check()?;
        addresses::check(args)?;
        headers::check_routes(&args.route)?;
        for (message, op) in rules.header_changes() {
            names.add(message, headers::name_of(op));
        }
        for name in rules.denial_headers() {
            names.add(ChangedMessage::Denial, name);
        }
        names.keep_usable();
        let mut statuses: Vec<u16> = STATUSES.into_iter().chain(rules.statuses()).collect();
        statuses.extend(&args.status);
        statuses.retain(|status| limits::is_answered(*status));
        statuses.sort_unstable();
        statuses.dedup();
        Ok(Self {
            args,
            statuses,
            names,
        })
    }
}
