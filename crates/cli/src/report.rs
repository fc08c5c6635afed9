//! The figures of a run, as JSON and for people.

use crate::connect::LinkKind;
use crate::driver::Measurement;
use crate::exit::AgentFailure;
use crate::latency::{Percentiles, format_micros};
use crate::numerals::grouped;
use crate::output::{print_json, print_line};
use crate::tally::DecisionCounts;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display, Formatter};

/// The figures of a run.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    requests: u64,
    errors: u64,
    seconds: f64,
    requests_per_second: f64,
    latency_us: Percentiles,
    decisions: DecisionCounts,
    /// Encoding of events, or protocol.
    encoding: String,
    #[serde(default)]
    link: LinkKind,
    allocations_per_request: f64,
    /// Present only in the demo's JSON; the JSON form of `load` is fixed.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    setting: Option<Setting>,
    #[serde(skip)]
    bars: String,
    #[serde(skip)]
    first_error: Option<String>,
}

/// Settings of a run.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// Number of connections to the agent.
    pub(crate) connections: usize,
    /// Number of requests in flight at once.
    pub(crate) concurrency: usize,
}

impl Report {
    /// Creates a report of a measurement.
    pub(crate) fn new(measured: Measurement, encoding: impl Display, link: LinkKind) -> Self {
        let seconds = measured.elapsed.as_secs_f64();
        Self {
            requests: measured.requests,
            errors: measured.errors,
            seconds: rounded(seconds, 3),
            requests_per_second: rounded(measured.requests as f64 / seconds, 1),
            latency_us: measured.latencies.percentiles(),
            decisions: measured.decisions,
            encoding: encoding.to_string(),
            link,
            allocations_per_request: rounded(measured.allocations_per_request, 4),
            setting: None,
            bars: measured.latencies.bars(),
            first_error: measured.first_error,
        }
    }

    /// Returns the latencies of requests.
    pub(crate) const fn latency(&self) -> Percentiles {
        self.latency_us
    }

    /// Returns the figures by name, formatted for people.
    pub(crate) fn figures(&self) -> Vec<(&'static str, String)> {
        let mut figures = vec![
            (
                "requests per second",
                grouped(self.requests_per_second as u64),
            ),
            ("requests", grouped(self.requests)),
            ("errors", grouped(self.errors)),
            ("seconds", format!("{:.2}", self.seconds)),
        ];
        let latencies = self.latency_us.named();
        figures.extend(latencies.map(|(name, micros)| (name, format_micros(micros))));
        let decisions = self.decisions.seen();
        figures.extend(decisions.map(|(kind, count)| (kind, grouped(count))));
        figures.push(("encoding", self.encoding.clone()));
        figures.push(("link", self.link.as_str().to_owned()));
        let allocations = format!("{:.4}", self.allocations_per_request);
        figures.push(("allocations per request", allocations));
        figures
    }

    /// Adds the settings of the run.
    #[must_use]
    pub(crate) fn with_setting(mut self, setting: Setting) -> Self {
        self.setting = Some(setting);
        self
    }

    /// Prints the report to stdout. Returns an error of the agent at `endpoint` if requests failed.
    pub(crate) fn conclude(&self, endpoint: &str, json: bool) -> anyhow::Result<()> {
        if json {
            print_json(self)?;
        } else {
            print_line(self)?;
        }
        match &self.first_error {
            None => Ok(()),
            Some(cause) => {
                let (errors, requests) = (self.errors, self.requests);
                let message =
                    format!("{errors} of {requests} requests failed; the first failure: {cause}");
                Err(AgentFailure::new(endpoint, message).into())
            }
        }
    }
}

impl Display for Report {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let (requests, seconds) = (grouped(self.requests), self.seconds);
        let per_second = grouped(self.requests_per_second as u64);
        writeln!(
            formatter,
            "{per_second} requests per second ({requests} in {seconds:.2} s)"
        )?;
        writeln!(formatter)?;
        writeln!(formatter, "latency      {}", self.latency_us)?;
        for bar in self.bars.lines() {
            writeln!(formatter, "  {bar}")?;
        }
        writeln!(formatter)?;
        write!(formatter, "decisions   ")?;
        for (kind, count) in self.decisions.seen() {
            write!(formatter, " {kind} {}  ", grouped(count))?;
        }
        writeln!(formatter)?;
        writeln!(formatter, "errors       {}", grouped(self.errors))?;
        writeln!(formatter, "encoding     {}", self.encoding)?;
        writeln!(formatter, "link         {}", self.link.as_str())?;
        write!(
            formatter,
            "allocations  {:.4} on the heap per request, in this process",
            self.allocations_per_request
        )
    }
}

fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Tally;
    use crate::timeline::Timeline;
    use std::time::Duration;
    use tollgate::Decision;

    fn measured() -> Measurement {
        let mut tally = Tally::new();
        tally.record(&Decision::Allow, Duration::from_micros(50));
        tally.errors += 1;
        Measurement {
            requests: tally.requests(),
            errors: tally.errors,
            first_error: Some("timed out".to_owned()),
            elapsed: Duration::from_millis(500),
            latencies: tally.latencies,
            decisions: tally.decisions,
            timeline: Timeline::new(),
            allocations_per_request: 0.000_04,
        }
    }

    #[test]
    fn json_has_the_documented_form() {
        let report = Report::new(measured(), "msgpack", LinkKind::SharedMemory);
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"requests":2,"errors":1,"seconds":0.5,"requests_per_second":4.0,"latency_us":{"p50":50,"p90":50,"p99":50,"p999":50,"max":50},"decisions":{"allow":1},"encoding":"msgpack","link":"shared-memory","allocations_per_request":0.0}"#
        );
    }

    #[test]
    fn demo_adds_its_settings() {
        let setting = Setting {
            connections: 4,
            concurrency: 64,
        };
        let report = Report::new(measured(), "json", LinkKind::Socket).with_setting(setting);
        let text = serde_json::to_string(&report).unwrap();
        assert!(
            text.ends_with(r#""connections":4,"concurrency":64}"#),
            "{text}"
        );
    }

    #[test]
    fn text_has_every_figure() {
        let text = Report::new(measured(), "json", LinkKind::Socket).to_string();
        for figure in [
            "4 requests per second",
            "p99.9 50 µs",
            "█",
            "allow 1",
            "errors       1",
            "json",
        ] {
            assert!(text.contains(figure), "{figure} in:\n{text}");
        }
    }
}
