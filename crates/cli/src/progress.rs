//! The progress line of a run, redrawn in place.

use crate::numerals::grouped;
use std::io::{IsTerminal, Write};
use std::time::Duration;

const BAR_WIDTH: usize = 24;

/// Draws a progress line to stderr if that is a terminal; does nothing otherwise.
pub(crate) struct Progress {
    terminal: Option<std::io::Stderr>,
    shown: Option<(Duration, u64)>,
}

/// Progress of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Status {
    /// Time since the first request.
    pub(crate) elapsed: Duration,
    /// Number of requests so far.
    pub(crate) requests: u64,
    /// Completed share of the run, from 0 to 1.
    pub(crate) share: f64,
}

impl Progress {
    /// Creates the line of a run that starts now.
    pub(crate) fn new() -> Self {
        let stderr = std::io::stderr();
        Self {
            terminal: stderr.is_terminal().then_some(stderr),
            shown: None,
        }
    }

    /// Redraws the line.
    pub(crate) fn show(&mut self, status: Status) {
        let earlier = self.shown.replace((status.elapsed, status.requests));
        if let Some(terminal) = &mut self.terminal {
            // Ignored: a run does not fail because its progress cannot be shown.
            let _ = write!(terminal, "\r\x1b[K{}", line(status, earlier));
            let _ = terminal.flush();
        }
    }

    /// Erases the line.
    pub(crate) fn clear(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            let _ = write!(terminal, "\r\x1b[K");
            let _ = terminal.flush();
        }
    }
}

fn line(status: Status, earlier: Option<(Duration, u64)>) -> String {
    let (since, before) = earlier.unwrap_or_default();
    let seconds = status.elapsed.saturating_sub(since).as_secs_f64();
    let rate = if seconds > 0.0 {
        status.requests.saturating_sub(before) as f64 / seconds
    } else {
        0.0
    };
    format!(
        "{}  {:4.1} s  {:>11} requests  {:>9}/s",
        bar(status.share),
        status.elapsed.as_secs_f64(),
        grouped(status.requests),
        grouped(rate as u64),
    )
}

fn bar(share: f64) -> String {
    let full = (share.clamp(0.0, 1.0) * BAR_WIDTH as f64) as usize;
    "━".repeat(full) + &"·".repeat(BAR_WIDTH - full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_is_measured_since_the_previous_line() {
        let status = Status {
            elapsed: Duration::from_secs(3),
            requests: 5_000,
            share: 0.5,
        };
        let text = line(status, Some((Duration::from_secs(2), 3_000)));
        assert_eq!(
            text,
            "━━━━━━━━━━━━············   3.0 s        5,000 requests      2,000/s"
        );
    }
}
