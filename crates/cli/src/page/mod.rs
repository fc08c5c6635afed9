//! The HTML report of a run: figures, latencies and throughput over time, optionally compared with
//! an earlier run. The page is self-contained.

mod chart;
mod file;
mod style;

pub(crate) use file::{PageFile, PageOptions};

use crate::latency::format_micros;
use crate::numerals::grouped;
use crate::recording::{Recording, Stage};
use crate::timeline::Point;
use chart::{Axis, Line, Scale, chart, power_ticks, round_ticks};
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Renders the page of a run, with an earlier run for comparison if there is one.
fn page(run: &Recording, earlier: Option<&Recording>) -> String {
    let title = format!("tollgate: {}", run.details.endpoint);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(style::SHEET)) }
            }
            body {
                h1 { (title) }
                p { (run.details.began_at) }
                @if let Some(earlier) = earlier { (legend(earlier)) }
                h2 { "Latency by percentile" }
                (latencies(run, earlier))
                h2 { "Per second: " span.swatch.current {} "requests " span.swatch.errors {} "errors" }
                (rates(run, earlier))
                @if !run.details.stages.is_empty() {
                    h2 { "Average time per event, by stage" }
                    (stages(run, earlier))
                }
                h2 { "Figures" }
                (figures(run, earlier))
            }
        }
    };
    page.into_string()
}

fn legend(earlier: &Recording) -> Markup {
    let when = match earlier.details.began_at.as_str() {
        "" => "earlier run",
        when => when,
    };
    html! {
        p { span.swatch.current {} "this run " span.swatch.earlier {} (when) }
    }
}

/// Draws latency by percentile. Both axes are logarithmic: each major mark of the x axis leaves a
/// tenth of the requests that the mark before it leaves (90 %, 99 %, 99.9 %, …).
fn latencies(run: &Recording, earlier: Option<&Recording>) -> Markup {
    let curve = |recording: &Recording| -> Vec<(f64, f64)> {
        let quantiles = recording.details.quantiles.iter();
        // The last quantile covers all requests, which has no finite position on the axis.
        let finite = quantiles.filter(|quantile| quantile.share < 1.0);
        finite
            .map(|quantile| (1.0 / (1.0 - quantile.share), quantile.micros as f64))
            .collect()
    };
    let lines = lines_of_runs(run, earlier, "current", "earlier", curve);
    let ends = |of: fn(&(f64, f64)) -> f64| extent(&lines, of);
    let ((_, rarest), (least, most)) = (ends(|point| point.0), ends(|point| point.1));
    let (least, most) = (least.max(1.0) / 1.2, most.max(2.0) * 1.2);
    let rarest = rarest.max(100.0);
    let x = Axis {
        title: "percentile",
        scale: Scale::Logarithmic,
        from: 1.0,
        to: rarest,
        ticks: percentile_ticks(rarest),
    };
    let y = Axis {
        title: "latency",
        scale: Scale::Logarithmic,
        from: least,
        to: most,
        ticks: power_ticks(least, most, |value| format_micros(value as u64)),
    };
    chart("latency by percentile", &x, &y, &lines)
}

fn percentile_ticks(rarest: f64) -> Vec<(f64, String)> {
    let digits = rarest.log10().floor() as usize;
    let nines = (1..=digits).map(|digits| {
        let share = 100.0 * (1.0 - 10_f64.powi(-(digits as i32)));
        (
            10_f64.powi(digits as i32),
            format!("{share:.*}", digits.saturating_sub(2)),
        )
    });
    [(1.0, "0".to_owned()), (2.0, "50".to_owned())]
        .into_iter()
        .chain(nines)
        .collect()
}

fn rates(run: &Recording, earlier: Option<&Recording>) -> Markup {
    let mut lines = lines_of_runs(run, earlier, "current", "earlier", |recording| {
        rate(recording, |point| point.requests)
    });
    lines.extend(lines_of_runs(
        run,
        earlier,
        "errors",
        "errors earlier",
        |recording| rate(recording, |point| point.errors),
    ));
    let (_, longest) = extent(&lines, |point| point.0);
    let (_, most) = extent(&lines, |point| point.1);
    let (longest, most) = (longest.max(0.1), most.max(1.0) * 1.1);
    let x = Axis {
        title: "seconds",
        scale: Scale::Linear,
        from: 0.0,
        to: longest,
        ticks: round_ticks(longest, |value| format!("{value:.1}")),
    };
    let y = Axis {
        title: "per second",
        scale: Scale::Linear,
        from: 0.0,
        to: most,
        ticks: round_ticks(most, |value| grouped(value as u64)),
    };
    chart("requests and errors per second over time", &x, &y, &lines)
}

/// Returns a count's growth per second between consecutive points.
fn rate(recording: &Recording, count: impl Fn(&Point) -> u64) -> Vec<(f64, f64)> {
    let pairs = recording.details.timeline.windows(2);
    pairs
        .filter_map(|pair| {
            let seconds = pair[1].seconds - pair[0].seconds;
            let grown = count(&pair[1]).saturating_sub(count(&pair[0]));
            (seconds > 0.0).then(|| (pair[1].seconds, grown as f64 / seconds))
        })
        .collect()
}

/// Draws one bar per run: an event's stages, scaled to the longer of the two runs.
fn stages(run: &Recording, earlier: Option<&Recording>) -> Markup {
    let runs = [("this run", Some(run)), ("earlier", earlier)];
    let runs = runs
        .into_iter()
        .filter_map(|(name, run)| Some((name, &run?.details.stages)));
    let total = |stages: &[Stage]| stages.iter().map(|stage| stage.micros).sum::<f64>();
    let longest = runs
        .clone()
        .map(|(_, stages)| total(stages))
        .fold(0.0, f64::max);
    html! {
        @for (name, stages) in runs {
            p.run { (name) ": " (format!("{:.1} µs", total(stages))) }
            div.stages {
                @for (index, stage) in stages.iter().enumerate() {
                    div class=(format!("stage stage-{index}"))
                        style=(format!("width: {:.2}%", 100.0 * stage.micros / longest))
                        title=(stage.name) {}
                }
            }
            p.key {
                @for (index, stage) in stages.iter().enumerate() {
                    span class=(format!("swatch stage-{index}")) {} (stage.name) (format!(" {:.1} µs", stage.micros))
                }
            }
        }
    }
}

fn figures(run: &Recording, earlier: Option<&Recording>) -> Markup {
    let before = earlier
        .map(|earlier| earlier.report.figures())
        .unwrap_or_default();
    let before_of = |name| {
        let same = before.iter().find(|(other, _)| *other == name);
        same.map_or("", |(_, value)| value.as_str())
    };
    html! {
        table {
            @if earlier.is_some() {
                tr { th {} th { "this run" } th { "earlier" } }
            }
            @for (name, value) in run.report.figures() {
                tr {
                    td { (name) }
                    td { (value) }
                    @if earlier.is_some() { td { (before_of(name)) } }
                }
            }
        }
    }
}

/// Returns one line per run. The earlier run comes first, so that the current one is drawn over it.
fn lines_of_runs(
    run: &Recording,
    earlier: Option<&Recording>,
    class: &'static str,
    earlier_class: &'static str,
    points: impl Fn(&Recording) -> Vec<(f64, f64)>,
) -> Vec<Line> {
    let earlier = earlier.map(|earlier| (earlier_class, earlier));
    let runs = earlier.into_iter().chain([(class, run)]);
    runs.map(|(class, run)| Line {
        class,
        points: points(run),
    })
    .collect()
}

/// Returns the smallest and the largest coordinate of all points, (0, 0) if there are none.
fn extent(lines: &[Line], of: impl Fn(&(f64, f64)) -> f64) -> (f64, f64) {
    let points = lines.iter().flat_map(|line| &line.points);
    let values = points.map(of);
    let ends = |ends: Option<(f64, f64)>, value: f64| match ends {
        Some((least, most)) => Some((least.min(value), most.max(value))),
        None => Some((value, value)),
    };
    values.fold(None, ends).unwrap_or((0.0, 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{"requests":2,"errors":1,"seconds":0.5,"requests_per_second":4.0,
        "latency_us":{"p50":50,"p90":90,"p99":500,"p999":900,"max":1000},
        "decisions":{"allow":1,"block":3},"encoding":"msgpack","allocations_per_request":0.0}"#;

    fn run(details: &str) -> Recording {
        let mut run: serde_json::Value = serde_json::from_str(PLAIN).unwrap();
        let details: serde_json::Value = serde_json::from_str(details).unwrap();
        for (name, value) in details.as_object().unwrap() {
            run[name] = value.clone();
        }
        serde_json::from_value(run).unwrap()
    }

    #[test]
    fn endpoint_is_html_escaped() {
        let page = page(&run(r#"{"endpoint":"/run/<script>\"&.sock"}"#), None);
        assert!(page.contains("/run/&lt;script&gt;&quot;&amp;.sock"));
        assert!(!page.contains("<script"));
    }

    #[test]
    fn run_without_points_is_drawn() {
        let page = page(&run("{}"), Some(&run("{}")));
        assert!(
            page.contains("<td>p99.9</td><td>900 µs</td><td>900 µs</td>"),
            "{page}"
        );
        assert!(!page.contains("NaN") && !page.contains("inf"), "{page}");
    }

    #[test]
    fn rates_are_computed_between_points() {
        let points = r#"[{"seconds":1.0,"requests":10,"errors":0},{"seconds":1.0,"requests":10,"errors":0},
            {"seconds":3.0,"requests":50,"errors":4}]"#;
        let run = run(&format!(r#"{{"timeline":{points}}}"#));
        assert_eq!(rate(&run, |point| point.requests), [(3.0, 20.0)]);
        assert_eq!(rate(&run, |point| point.errors), [(3.0, 2.0)]);
    }

    #[test]
    fn percentile_labels_are_conventional() {
        let labels = percentile_ticks(2e4).into_iter().map(|(_, label)| label);
        let labels: Vec<_> = labels.collect();
        assert_eq!(labels, ["0", "50", "90", "99", "99.9", "99.99"]);
    }
}
