//! Draws the agents in the terminal.

use super::counts::{RINGS, Row, State};
use crate::latency::format_micros;
use crate::numerals::grouped;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row as TableRow, Table};
use std::time::Duration;

/// Content of the screen.
#[derive(Default)]
pub(super) struct Screen {
    pub(super) source: String,
    pub(super) rows: Vec<Row>,
    pub(super) round_trip: Option<Duration>,
    /// Reason why the last refresh failed.
    pub(super) error_message: Option<String>,
}

const HEADINGS: [&str; 10] = [
    "agent",
    "state",
    "connections",
    "in flight",
    "allow/s",
    "block/s",
    "other/s",
    "failed/s",
    "p50",
    "p99",
];

const WIDTHS: [Constraint; 10] = [
    Constraint::Min(10),
    Constraint::Length(12),
    Constraint::Length(11),
    Constraint::Length(9),
    Constraint::Length(10),
    Constraint::Length(9),
    Constraint::Length(9),
    Constraint::Length(9),
    Constraint::Length(9),
    Constraint::Length(9),
];

/// Headings of the columns about shared memory, which are shown if an agent uses it.
const RING_HEADINGS: [&str; RINGS.len()] = ["bells/s", "sleeps/s", "vain/s", "refused"];

const RING_WIDTH: Constraint = Constraint::Length(9);

impl Screen {
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let areas = Layout::vertical([
            Constraint::Length(1),
            Constraint::Fill(1),
            Constraint::Length(1),
        ]);
        let [top, middle, bottom] = areas.areas(frame.area());
        frame.render_widget(self.title(), top);
        frame.render_widget(self.table(), middle);
        frame.render_widget(self.footer(), bottom);
    }

    fn title(&self) -> Line<'_> {
        let mut title = vec!["tollgate top  ".bold(), Span::raw(&self.source)];
        if let Some(round_trip) = self.round_trip {
            title.push(Span::raw(format!(
                "  ping {}",
                time(round_trip.as_secs_f64())
            )));
        }
        Line::from(title)
    }

    fn table(&self) -> Table<'_> {
        let has_rings = self.rows.iter().any(Row::uses_shared_memory);
        let rings = &RING_HEADINGS[..if has_rings { RINGS.len() } else { 0 }];
        let headings = HEADINGS.iter().chain(rings).copied();
        let widths = WIDTHS
            .iter()
            .copied()
            .chain(rings.iter().map(|_| RING_WIDTH));
        let header = TableRow::new(headings).style(Style::new().reversed());
        Table::new(self.rows.iter().map(line), widths).header(header)
    }

    fn footer(&self) -> Paragraph<'_> {
        match &self.error_message {
            Some(error_message) => Paragraph::new(error_message.as_str()).red(),
            None => Paragraph::new("q quits").dim(),
        }
    }
}

fn line(row: &Row) -> TableRow<'_> {
    let connections = row.connections.map_or_else(
        || "–".to_owned(),
        |connections| format!("{}/{}", connections.healthy, connections.active),
    );
    let rate_of = |decision: &str| row.decisions.get(decision).copied().unwrap_or(0.0);
    let others = row.decisions.iter();
    let others = others.filter(|(decision, _)| !matches!(decision.as_str(), "allow" | "block"));
    let others = others.map(|(_, rate)| rate).sum();
    let cells = [
        Cell::from(row.agent.as_str()),
        Cell::from(row.state.name()).fg(colour(row.state)),
        Cell::from(connections),
        Cell::from(grouped(row.in_flight as u64)),
        Cell::from(rate(rate_of("allow"))),
        Cell::from(rate(rate_of("block"))),
        Cell::from(rate(others)),
        Cell::from(rate(row.failures)),
        Cell::from(row.median.map_or_else(|| "–".to_owned(), time)),
        Cell::from(row.p99.map_or_else(|| "–".to_owned(), time)),
    ];
    let rings = row.rings.iter().map(|value| Cell::from(rate(*value)));
    TableRow::new(cells.into_iter().chain(rings))
}

const fn colour(state: State) -> Color {
    match state {
        State::Up => Color::Green,
        State::Degraded | State::Paused => Color::Yellow,
        State::CircuitOpen | State::Down => Color::Red,
        State::Unknown => Color::Reset,
    }
}

fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 10.0 {
        return format!("{per_second:.1}");
    }
    grouped(per_second as u64)
}

fn time(seconds: f64) -> String {
    format_micros((seconds * 1e6).ceil() as u64)
}
