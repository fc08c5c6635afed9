//! Metrics of a pool's calls and connections.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Declares the counters and gauges with their help texts.
macro_rules! protocol_metrics {
    ($($name:ident: $kind:literal $help:literal,)*) => {
        /// Metrics of a pool's calls and connections.
        ///
        /// Those of a pool are what tollgate counts: they are read from there whenever a snapshot
        /// is taken or the pool is asked for them, and what is written to them is lost then.
        /// Metrics that are created here count what is written to them.
        #[derive(Debug, Default)]
        pub struct ProtocolMetrics {
            $(#[doc = $help] pub $name: AtomicU64,)*
            /// Time for encoding events.
            pub serialization_time: HistogramMetric,
            /// Time from a call to its answer.
            pub request_duration: HistogramMetric,
            source: Option<Source>,
        }

        /// Values of [`ProtocolMetrics`] at one time.
        #[derive(Debug, Clone)]
        pub struct ProtocolMetricsSnapshot {
            $(#[doc = $help] pub $name: u64,)*
            /// Time for encoding events.
            pub serialization_time: HistogramSnapshot,
            /// Time from a call to its answer.
            pub request_duration: HistogramSnapshot,
        }

        impl ProtocolMetrics {
            /// Reads the values from the pool, if these are the metrics of one.
            pub(super) fn refresh(&self) {
                let Some(Source(source)) = &self.source else {
                    return;
                };
                let read = source.snapshot();
                $(self.$name.store(read.$name, Ordering::Relaxed);)*
                self.serialization_time.store(&read.serialization_time);
                self.request_duration.store(&read.request_duration);
            }

            /// Returns all values.
            pub fn snapshot(&self) -> ProtocolMetricsSnapshot {
                self.refresh();
                ProtocolMetricsSnapshot {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    serialization_time: self.serialization_time.snapshot(),
                    request_duration: self.request_duration.snapshot(),
                }
            }
        }

        impl ProtocolMetricsSnapshot {
            fn write(&self, prefix: &str, out: &mut String) {
                $(
                    // Writing to a `String` never fails.
                    let _ = writeln!(
                        out,
                        "# HELP {prefix}_{name} {help}\n# TYPE {prefix}_{name} {kind}\n\
                         {prefix}_{name} {value}",
                        name = stringify!($name), help = $help, kind = $kind, value = self.$name,
                    );
                )*
            }
        }
    };
}

protocol_metrics! {
    requests_total: "counter" "Calls.",
    responses_total: "counter" "Calls that the agent answered.",
    timeouts_total: "counter" "Calls ended by their deadline.",
    connection_errors_total: "counter" "Calls that lost their connection or found none.",
    serialization_errors_total: "counter" "Messages that cannot be encoded or decoded.",
    flow_control_pauses_total: "counter" "Pauses that agents asked for.",
    flow_control_resumes_total: "counter" "Ends of such pauses.",
    flow_control_rejections_total: "counter" "Calls rejected during a pause.",
    affinity_evictions_total: "counter" "Pinned correlation ids that expired.",
    affinity_rejections_total: "counter" "Correlation ids not pinned for lack of room.",
    in_flight_requests: "gauge" "Calls that wait for their answer.",
    correlation_affinities: "gauge" "Pinned correlation ids.",
    buffer_utilization_percent: "gauge" "Fill level of the fullest send queue.",
    healthy_connections: "gauge" "Connections that take requests.",
    paused_connections: "gauge" "Connections whose agent asked for a pause.",
}

/// The metrics of a pool of tollgate.
struct Source(tollgate::stats::ProtocolMetrics);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("pool")
    }
}

/// Declares the methods that write to metrics.
macro_rules! writers {
    ($($(#[$doc:meta])* $method:ident($($value:ident: $type:ty)?) => $field:ident.$write:ident($amount:expr);)*) => {
        impl ProtocolMetrics {
            $(
                $(#[$doc])*
                pub fn $method(&self $(, $value: $type)?) {
                    self.$field.$write($amount, Ordering::Relaxed);
                }
            )*
        }
    };
}

writers! {
    /// Counts a call.
    inc_requests() => requests_total.fetch_add(1);
    /// Counts an answer.
    inc_responses() => responses_total.fetch_add(1);
    /// Counts a call that was ended by its deadline.
    inc_timeouts() => timeouts_total.fetch_add(1);
    /// Counts a call that lost its connection.
    inc_connection_errors() => connection_errors_total.fetch_add(1);
    /// Counts a message that cannot be encoded or decoded.
    inc_serialization_errors() => serialization_errors_total.fetch_add(1);
    /// Counts the end of a pause.
    record_flow_resume() => flow_control_resumes_total.fetch_add(1);
    /// Counts a call rejected during a pause.
    record_flow_rejection() => flow_control_rejections_total.fetch_add(1);
    /// Counts a pause.
    record_flow_pause() => flow_control_pauses_total.fetch_add(1);
    /// Counts pinned correlation ids that expired.
    inc_affinity_evictions(count: u64) => affinity_evictions_total.fetch_add(count);
    /// Counts a correlation id that was not pinned.
    inc_affinity_rejections() => affinity_rejections_total.fetch_add(1);
    /// Sets the number of pinned correlation ids.
    set_correlation_affinities(count: u64) => correlation_affinities.store(count);
    /// Sets the number of pending calls.
    set_in_flight(count: u64) => in_flight_requests.store(count);
    /// Counts a pending call.
    inc_in_flight() => in_flight_requests.fetch_add(1);
    /// Counts the end of a pending call.
    dec_in_flight() => in_flight_requests.fetch_sub(1);
    /// Sets the fill level of the fullest send queue.
    set_buffer_utilization(percent: u64) => buffer_utilization_percent.store(percent);
    /// Sets the number of connections that take requests.
    set_healthy_connections(count: u64) => healthy_connections.store(count);
    /// Sets the number of connections whose agent asked for a pause.
    set_paused_connections(count: u64) => paused_connections.store(count);
}

impl ProtocolMetrics {
    /// Creates metrics that are all 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates the metrics of a pool.
    pub(super) fn of(pool: tollgate::stats::ProtocolMetrics) -> Self {
        Self {
            source: Some(Source(pool)),
            ..Self::default()
        }
    }

    /// Records the time for encoding an event.
    pub fn record_serialization_time(&self, duration: Duration) {
        self.serialization_time.record(duration);
    }

    /// Records the time from a call to its answer.
    pub fn record_request_duration(&self, duration: Duration) {
        self.request_duration.record(duration);
    }

    /// Returns all metrics in the Prometheus text format. Those of a pool include what only
    /// tollgate counts: see [`tollgate::stats::ProtocolMetrics::to_prometheus`].
    pub fn to_prometheus(&self, prefix: &str) -> String {
        if let Some(Source(source)) = &self.source {
            return source.to_prometheus(prefix);
        }
        let (snapshot, mut out) = (self.snapshot(), String::new());
        snapshot.write(prefix, &mut out);
        let histograms = [
            (
                "serialization_seconds",
                "Time for encoding events.",
                &snapshot.serialization_time,
            ),
            (
                "request_duration_seconds",
                "Time to the answer.",
                &snapshot.request_duration,
            ),
        ];
        for (name, help, histogram) in histograms {
            out.push_str(&histogram.to_prometheus(&format!("{prefix}_{name}"), help));
        }
        out
    }
}

/// Histogram of durations.
#[derive(Debug)]
pub struct HistogramMetric {
    /// Upper bounds of the buckets in microseconds, in ascending order.
    buckets: Vec<u64>,
    /// One count for each bucket, and one for what is above.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
    count: AtomicU64,
}

impl Default for HistogramMetric {
    fn default() -> Self {
        Self::with_buckets(tollgate::metrics::HistogramSnapshot::default().buckets)
    }
}

impl HistogramMetric {
    /// Creates an empty histogram with these upper bounds, in microseconds.
    pub fn with_buckets(mut buckets: Vec<u64>) -> Self {
        buckets.sort_unstable();
        Self {
            counts: (0..=buckets.len()).map(|_| AtomicU64::new(0)).collect(),
            buckets,
            sum: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }

    /// Adds a duration.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = self.buckets.partition_point(|bound| *bound < micros);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(micros, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns all counts.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HistogramSnapshot {
            buckets: self.buckets.clone(),
            counts: self.counts.iter().map(load).collect(),
            sum: load(&self.sum),
            count: load(&self.count),
        }
    }

    fn store(&self, from: &tollgate::metrics::HistogramSnapshot) {
        for (count, new) in self.counts.iter().zip(&from.counts) {
            count.store(*new, Ordering::Relaxed);
        }
        self.sum.store(from.sum, Ordering::Relaxed);
        self.count.store(from.count, Ordering::Relaxed);
    }
}

/// Counts of a [`HistogramMetric`] at one time.
#[derive(Debug, Clone)]
pub struct HistogramSnapshot {
    /// Upper bounds of the buckets in microseconds.
    pub buckets: Vec<u64>,
    /// One count for each bucket, and one for what is above.
    pub counts: Vec<u64>,
    /// Sum of all durations in microseconds.
    pub sum: u64,
    /// Number of durations.
    pub count: u64,
}

impl HistogramSnapshot {
    /// Returns the histogram in the Prometheus text format, in seconds.
    pub fn to_prometheus(&self, name: &str, help: &str) -> String {
        let mut out = format!("# HELP {name} {help}\n# TYPE {name} histogram\n");
        let seconds = |micros: u64| Duration::from_micros(micros).as_secs_f64();
        let mut cumulative = 0;
        for (bound, count) in self.buckets.iter().zip(&self.counts) {
            cumulative += count;
            let le = seconds(*bound);
            // Writing to a `String` never fails.
            let _ = writeln!(out, "{name}_bucket{{le=\"{le}\"}} {cumulative}");
        }
        let (sum, count) = (seconds(self.sum), self.count);
        let _ = writeln!(
            out,
            "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}"
        );
        out
    }

    /// Returns the mean in microseconds; 0 if there are no durations.
    pub fn mean_micros(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.sum as f64 / self.count as f64
    }

    /// Returns the upper bound of the bucket that holds a percentile, in microseconds; 0 if there
    /// are no durations.
    pub fn percentile_micros(&self, p: f64) -> u64 {
        if self.count == 0 {
            return 0;
        }
        let rank = (self.count as f64 * p / 100.0).ceil().max(1.0) as u64;
        let mut cumulative = 0;
        let reached = self.buckets.iter().zip(&self.counts).find(|(_, count)| {
            cumulative += **count;
            cumulative >= rank
        });
        let largest = self.buckets.last().copied().unwrap_or_default();
        reached.map_or(largest, |(bound, _)| *bound)
    }
}

/// Records the time from its creation to its end in a histogram.
#[derive(Debug)]
pub struct DurationRecorder<'a> {
    histogram: &'a HistogramMetric,
    start: Instant,
}

impl<'a> DurationRecorder<'a> {
    /// Begins now.
    pub fn new(histogram: &'a HistogramMetric) -> Self {
        Self {
            histogram,
            start: Instant::now(),
        }
    }

    /// Ends now.
    pub fn record(self) {}
}

impl Drop for DurationRecorder<'_> {
    fn drop(&mut self) {
        self.histogram.record(self.start.elapsed());
    }
}
