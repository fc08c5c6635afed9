use crate::load::Measurement;
use crate::subject::LinkCounts;
use crate::usage::Usage;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The figures of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Encoding of the messages.
    pub encoding: String,
    /// Name of the heap allocator.
    pub allocator: String,
    /// Requests that were allowed, without those of the warm-up.
    pub requests: u64,
    /// Requests that failed, including those of the warm-up.
    pub errors: u64,
    /// Error of the first request that failed.
    pub first_error: Option<String>,
    /// Measured time.
    pub seconds: f64,
    /// Requests per second that were allowed.
    pub requests_per_second: f64,
    /// Time from the start of a request to its last answer.
    pub latency_us: Latencies,
    /// Microseconds of processor time, in user and system mode.
    pub cpu_us_per_request: PerRequest,
    /// Heap allocations.
    pub allocations_per_request: PerRequest,
    /// Events of links through shared memory on the proxy's side.
    pub link_per_request: Option<LinkCounts>,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are self-explanatory")]
pub struct Latencies {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// Cost of a request.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct PerRequest {
    /// Both sides together.
    pub total: f64,
    /// The proxy's side, if the sides have separate processes.
    pub proxy: Option<f64>,
    /// The agent's side, if the sides have separate processes.
    pub agent: Option<f64>,
}

impl Report {
    pub(crate) fn new(encoding: &str, measured: Measurement) -> Self {
        let requests = measured.tally.allowed.len();
        let seconds = measured.elapsed.as_secs_f64();
        let per_request = |of: fn(&Usage) -> f64| {
            PerRequest::new(of(&measured.own), measured.agent.as_ref().map(of), requests)
        };
        Self {
            encoding: encoding.to_owned(),
            allocator: tollgate_counting_alloc::allocator().to_owned(),
            requests,
            errors: measured.tally.errors,
            cpu_us_per_request: per_request(|usage| usage.cpu_nanoseconds as f64 / 1e3),
            allocations_per_request: per_request(|usage| usage.allocations as f64),
            link_per_request: measured
                .link
                .map(|link| link.map(|count| rounded(count / requests.max(1) as f64))),
            first_error: measured.first_error,
            seconds: rounded(seconds),
            requests_per_second: rounded(requests as f64 / seconds),
            latency_us: Latencies::of(&measured.tally.allowed),
        }
    }
}

impl Latencies {
    fn of(nanoseconds: &Histogram<u64>) -> Self {
        let at = |quantile| rounded(nanoseconds.value_at_quantile(quantile) as f64 / 1e3);
        Self {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
        }
    }
}

impl PerRequest {
    fn new(own: f64, agent: Option<f64>, requests: u64) -> Self {
        let each = |sum: f64| rounded(sum / requests.max(1) as f64);
        Self {
            total: each(own + agent.unwrap_or(0.0)),
            proxy: agent.map(|_| each(own)),
            agent: agent.map(each),
        }
    }
}

/// Rounds to a thousandth, which is more precise than the measurement.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_split_only_between_processes() {
        let together = PerRequest::new(30.0, None, 10);
        assert_eq!(together.total, 3.0);
        assert_eq!(together.proxy, None);
        let apart = PerRequest::new(30.0, Some(20.0), 10);
        assert_eq!(apart.total, 5.0);
        assert_eq!(apart.proxy, Some(3.0));
        assert_eq!(apart.agent, Some(2.0));
    }
}
