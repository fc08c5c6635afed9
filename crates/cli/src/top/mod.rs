//! `tollgate top`: agents on the terminal, as they are now.

mod board;
mod source;
mod view;

use crate::connect::Target;
use crate::exit::UsageError;
use crate::output::printable;
use crate::scrape::parse_http_uri;
#[cfg(feature = "grpc")]
use crate::tls::ClientTls;
use crate::values::{parse_endpoint, parse_timeout};
use anyhow::Context;
use board::Board;
use hyper::Uri;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use source::{Look, Source};
use std::io::{self, IsTerminal};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{Receiver, channel};
use view::Screen;

/// Options of `tollgate top`.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Watched {
    /// An agent: whether it answers, and what it reports of itself
    #[arg(value_parser = parse_endpoint)]
    endpoint: Option<String>,
    /// The metrics of a proxy, or of `tollgate demo --metrics`
    #[arg(long, value_name = "URL", value_parser = parse_http_uri)]
    prometheus: Option<Uri>,
}

/// Options of `tollgate top`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    watched: Watched,
    /// How often to look
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_timeout)]
    interval: Duration,
    #[cfg(feature = "grpc")]
    #[command(flatten)]
    tls: ClientTls,
}

/// Shows agents until somebody presses q.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    if !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        return Err(UsageError("top needs a terminal".to_owned()).into());
    }
    let interval = args.interval;
    let source = args.source().await?;
    let mut terminal = ratatui::try_init().context("the terminal")?;
    let outcome = watch(&source, interval, &mut terminal).await;
    ratatui::try_restore().context("the terminal")?;
    outcome
}

impl Args {
    async fn source(self) -> anyhow::Result<Source> {
        if let Some(uri) = self.watched.prometheus {
            #[cfg(feature = "grpc")]
            self.tls.refuse(&uri.to_string())?;
            return Ok(Source::Prometheus(uri));
        }
        let target = Target {
            endpoint: self.watched.endpoint.context("nothing to watch")?,
            #[cfg(feature = "grpc")]
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
    let mut shown: Option<(Instant, Board)> = None;
    loop {
        terminal
            .draw(|frame| screen.draw(frame))
            .context("the terminal")?;
        tokio::select! {
            event = events.recv() => match event {
                Some(event) if !quits(&event) => {}
                _ => return Ok(()),
            },
            _ = ticks.tick() => match source.look(interval).await {
                Ok(look) => screen.update(look, &mut shown),
                Err(error) => screen.trouble = Some(printable(&format!("{error:#}")).into_owned()),
            },
        }
    }
}

impl Screen {
    fn update(&mut self, look: Look, shown: &mut Option<(Instant, Board)>) {
        let now = Instant::now();
        let nothing = Board::default();
        self.rows = match shown {
            Some((then, board)) => look.board.rows(board, now - *then),
            // The first look has nothing to compare with, so that everything would seem to happen now.
            None => look.board.rows(&nothing, Duration::MAX),
        };
        self.round_trip = look.round_trip;
        self.trouble = None;
        *shown = Some((now, look.board));
    }
}

/// What happens on the terminal. Read by a thread of its own, because that blocks.
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

fn quits(event: &Event) -> bool {
    let Event::Key(key) = event else {
        return false;
    };
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => true,
        KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}
