//! `tollgate top`: shows the current state of agents in the terminal.

mod counts;
mod page;
mod source;
mod view;

use crate::connect::Target;
use crate::exit::UsageError;
use crate::output::printable;
use crate::scrape::parse_http_uri;
#[cfg(feature = "tls")]
use crate::tls::ClientTls;
use crate::values::{parse_endpoint, parse_timeout};
use anyhow::Context;
use counts::CountsByAgent;
use hyper::Uri;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use source::{Reading, Source};
use std::io::{self, IsTerminal};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{Receiver, channel};
use view::Screen;

/// The agent or metrics to watch.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Watched {
    /// Endpoint of an agent, to show whether it answers and the metrics that it reports
    #[arg(value_parser = parse_endpoint)]
    endpoint: Option<String>,
    /// URL of the metrics of a proxy or of `tollgate demo --metrics`, http://host:port/path
    #[arg(long, value_name = "URL", value_parser = parse_http_uri)]
    prometheus: Option<Uri>,
}

/// Options of `tollgate top`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    watched: Watched,
    /// Refresh interval, such as 500ms or 1s
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_timeout)]
    interval: Duration,
    #[cfg(feature = "tls")]
    #[command(flatten)]
    tls: ClientTls,
}

/// Shows agents until the user presses q, Esc or Ctrl-C.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    if !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        return Err(UsageError("top needs a terminal on stdin and stdout".to_owned()).into());
    }
    let interval = args.interval;
    let source = args.source().await?;
    let mut terminal = ratatui::try_init().context("cannot set up the terminal")?;
    let outcome = watch(&source, interval, &mut terminal).await;
    ratatui::try_restore().context("cannot restore the terminal")?;
    outcome
}

impl Args {
    async fn source(self) -> anyhow::Result<Source> {
        if let Some(uri) = self.watched.prometheus {
            #[cfg(feature = "tls")]
            self.tls.ensure_unused(&uri.to_string())?;
            return Ok(Source::Prometheus(uri));
        }
        let target = Target {
            endpoint: self.watched.endpoint.context("no agent to watch")?,
            #[cfg(feature = "tls")]
            tls: self.tls,
        };
        Source::agent(&target, self.interval.max(Duration::from_secs(5))).await
    }
}

async fn watch(
    source: &Source,
    interval: Duration,
    terminal: &mut DefaultTerminal,
) -> anyhow::Result<()> {
    let mut events = events();
    let mut ticks = tokio::time::interval(interval);
    let mut screen = Screen {
        source: source.name(),
        ..Screen::default()
    };
    let mut shown: Option<(Instant, CountsByAgent)> = None;
    loop {
        terminal
            .draw(|frame| screen.draw(frame))
            .context("cannot draw to the terminal")?;
        tokio::select! {
            event = events.recv() => match event {
                Some(event) if !is_quit(&event) => {}
                _ => return Ok(()),
            },
            _ = ticks.tick() => match source.read(interval).await {
                Ok(reading) => screen.update(reading, &mut shown),
                Err(error) => screen.error_message = Some(printable(&format!("{error:#}")).into_owned()),
            },
        }
    }
}

impl Screen {
    fn update(&mut self, reading: Reading, shown: &mut Option<(Instant, CountsByAgent)>) {
        let now = Instant::now();
        let nothing = CountsByAgent::default();
        self.rows = match shown {
            Some((then, counts)) => reading.counts.rows(counts, now - *then),
            // The first reading has no predecessor; the longest interval makes its rates 0.
            None => reading.counts.rows(&nothing, Duration::MAX),
        };
        self.round_trip = reading.round_trip;
        let too_large = "too many series: only those at the beginning of the page are shown";
        self.error_message = reading.is_cut.then(|| too_large.to_owned());
        *shown = Some((now, reading.counts));
    }
}

/// Returns a channel of terminal events. A thread reads them, because reading blocks.
fn events() -> Receiver<Event> {
    let (sender, receiver) = channel(16);
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                break;
            }
        }
    });
    receiver
}

fn is_quit(event: &Event) -> bool {
    let Event::Key(key) = event else {
        return false;
    };
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}
