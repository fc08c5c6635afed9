//! The part of a page of metrics that `tollgate top` shows, picked out of a page of any size.

/// Size limit of a line; longer ones are skipped. Tollgate's own have a few hundred bytes.
const MAX_LINE: usize = 4 << 10;

/// Size limit of the lines that are kept: those of over a thousand agents.
const MAX_KEPT: usize = 4 << 20;

/// Metrics of agents that are shown, without what comes before their names.
const SHOWN: [&str; 12] = [
    "request_duration_seconds",
    "decisions_total",
    "failures_total",
    "in_flight_requests",
    "active_connections",
    "healthy_connections",
    "paused_connections",
    "open_circuit_breakers",
    "shared_memory_doorbells_total",
    "shared_memory_sleeps_total",
    "shared_memory_vain_spins_total",
    "shared_memory_failures_total",
];

/// Takes a page piece by piece and keeps the lines that are shown.
#[derive(Debug, Default)]
pub(super) struct ShownLines {
    /// The last line, as far as it has arrived.
    line: Vec<u8>,
    kept: String,
    is_cut: bool,
}

impl ShownLines {
    /// Picks the lines out of a whole page.
    pub(super) fn of(page: &str) -> Self {
        let mut lines = Self::default();
        lines.take(page.as_bytes());
        lines
    }

    pub(super) fn take(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            // One byte more than allowed shows that the line is too long.
            let room = (MAX_LINE + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    /// Returns the lines, and whether there were more than are kept.
    pub(super) fn finish(mut self) -> (String, bool) {
        self.end_line();
        (self.kept, self.is_cut)
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let Ok(line) = std::str::from_utf8(&line) else {
            return;
        };
        if line.len() > MAX_LINE || !is_shown(line) {
            return;
        }
        if self.kept.len() + line.len() >= MAX_KEPT {
            self.is_cut = true;
            return;
        }
        self.kept.push_str(line.trim_end());
        self.kept.push('\n');
    }
}

fn is_shown(line: &str) -> bool {
    let line = line.strip_prefix("# TYPE ").unwrap_or(line);
    let name = line.split(['{', ' ']).next().unwrap_or(line);
    let Some((_, family)) = name.rsplit_once("agent_") else {
        return false;
    };
    let parts = ["_bucket", "_sum", "_count"];
    let whole = parts.iter().find_map(|part| family.strip_suffix(part));
    SHOWN.contains(&whole.unwrap_or(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(pieces: &[&str]) -> (String, bool) {
        let mut lines = ShownLines::default();
        for piece in pieces {
            lines.take(piece.as_bytes());
        }
        lines.finish()
    }

    #[test]
    fn only_what_is_shown_is_kept() {
        let page = "# HELP x_agent_failures_total Failures.\n\
                    # TYPE x_agent_failures_total counter\n\
                    x_agent_failures_total{agent_id=\"waf\"} 1\n\
                    x_agent_other_total{agent_id=\"waf\"} 1\n\
                    x_agent_request_duration_seconds_bucket{agent_id=\"waf\",le=\"1\"} 1\n\
                    up 1";
        let shown = "# TYPE x_agent_failures_total counter\n\
                     x_agent_failures_total{agent_id=\"waf\"} 1\n\
                     x_agent_request_duration_seconds_bucket{agent_id=\"waf\",le=\"1\"} 1\n";
        assert_eq!(lines_of(&[page]), (shown.to_owned(), false));
        let (begin, end) = page.split_at(90);
        assert_eq!(lines_of(&[begin, end]), (shown.to_owned(), false));
    }

    #[test]
    fn hostile_pages_are_cut() {
        let mut lines = ShownLines::default();
        for _ in 0..32 {
            lines.take(&vec![b'x'; 1 << 20]);
        }
        assert!(lines.line.capacity() < 4 * MAX_LINE);
        lines.take(b"\n");
        let line = format!("agent_failures_total{{x=\"{}\"}} 1\n", "x".repeat(1000));
        // Ten times as much as is kept.
        for _ in 0..42_000 {
            lines.take(line.as_bytes());
        }
        assert!(42_000 * line.len() > 10 * MAX_KEPT);
        assert!(lines.kept.capacity() <= 2 * MAX_KEPT);
        let (kept, is_cut) = lines.finish();
        assert!(is_cut && kept.len() <= MAX_KEPT && kept.len() > MAX_KEPT / 2);
    }
}
