//! Line charts as SVG.

use maud::{Markup, html};

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 300.0;
/// Margin for the labels of the y axis, in SVG units like all constants here.
const LEFT: f64 = 78.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;

/// Mapping of values to positions along an axis.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scale {
    Linear,
    Logarithmic,
}

pub(super) struct Axis {
    pub(super) title: &'static str,
    pub(super) scale: Scale,
    pub(super) from: f64,
    pub(super) to: f64,
    /// Marked values and their labels.
    pub(super) ticks: Vec<(f64, String)>,
}

pub(super) struct Line {
    /// CSS class that selects the line's colour and dash pattern.
    pub(super) class: &'static str,
    pub(super) points: Vec<(f64, f64)>,
}

/// Draws lines over two axes. Points outside the axes are drawn at the nearest end.
pub(super) fn chart(description: &str, x: &Axis, y: &Axis, lines: &[Line]) -> Markup {
    let across = |value| LEFT + x.position(value) * (WIDTH - LEFT - RIGHT);
    let up = |value| HEIGHT - BOTTOM - y.position(value) * (HEIGHT - TOP - BOTTOM);
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let y_title_position = format!("rotate(-90) translate({} 14)", -HEIGHT / 2.0 + 15.0);
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(description) {
            @for (value, label) in &y.ticks {
                line.grid x1=(LEFT) x2=(right) y1=(up(*value)) y2=(up(*value)) {}
                text.tick text-anchor="end" x=(LEFT - 8.0) y=(up(*value) + 4.0) { (label) }
            }
            @for (value, label) in &x.ticks {
                line.grid x1=(across(*value)) x2=(across(*value)) y1=(TOP) y2=(bottom) {}
                text.tick text-anchor="middle" x=(across(*value)) y=(bottom + 18.0) { (label) }
            }
            text.axis text-anchor="middle" x=((LEFT + right) / 2.0) y=(HEIGHT - 6.0) { (x.title) }
            text.axis text-anchor="middle" transform=(y_title_position) { (y.title) }
            @for line in lines {
                polyline class=(line.class) points=(svg_points(&line.points, across, up)) {}
            }
        }
    }
}

/// Returns about five marks at round numbers for a linear axis from 0.
pub(super) fn round_ticks(most: f64, label: impl Fn(f64) -> String) -> Vec<(f64, String)> {
    let step = round_step(most / 5.0);
    let count = (most / step).floor() as u32;
    (0..=count)
        .map(|number| f64::from(number) * step)
        .map(|value| (value, label(value)))
        .collect()
}

/// Returns marks for a logarithmic axis: powers of ten, and their double and fivefold if the axis
/// spans at most three powers.
pub(super) fn power_ticks(from: f64, to: f64, label: impl Fn(f64) -> String) -> Vec<(f64, String)> {
    let powers = from.log10().floor() as i32..=to.log10().ceil() as i32;
    let multiples: &[f64] = if to / from > 1e3 {
        &[1.0]
    } else {
        &[1.0, 2.0, 5.0]
    };
    powers
        .flat_map(|power| {
            multiples
                .iter()
                .map(move |multiple| multiple * 10_f64.powi(power))
        })
        .filter(|value| (from..=to).contains(value))
        .map(|value| (value, label(value)))
        .collect()
}

fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(f64::MIN_POSITIVE).log10().floor());
    let multiples = [1.0, 2.0, 5.0, 10.0].map(|multiple| multiple * power);
    multiples
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(10.0 * power)
}

impl Axis {
    /// Returns the position of a value along the axis, from 0 to 1.
    fn position(&self, value: f64) -> f64 {
        let (from, to, value) = match self.scale {
            Scale::Linear => (self.from, self.to, value),
            Scale::Logarithmic => (self.from.ln(), self.to.ln(), value.ln()),
        };
        let position = (value - from) / (to - from);
        if position.is_finite() {
            position.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }
}

fn svg_points(
    points: &[(f64, f64)],
    across: impl Fn(f64) -> f64,
    up: impl Fn(f64) -> f64,
) -> String {
    let pairs = points
        .iter()
        .map(|(x, y)| format!("{:.1},{:.1}", across(*x), up(*y)));
    pairs.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(ticks: &[(f64, String)]) -> Vec<&str> {
        ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        let plain = |value: f64| value.to_string();
        assert_eq!(
            labels(&round_ticks(230.0, plain)),
            ["0", "50", "100", "150", "200"]
        );
        assert_eq!(
            labels(&power_ticks(30.0, 700.0, plain)),
            ["50", "100", "200", "500"]
        );
        assert_eq!(
            labels(&power_ticks(1.0, 2e4, plain)),
            ["1", "10", "100", "1000", "10000"]
        );
    }

    #[test]
    fn scale_maps_values_to_positions() {
        let axis = |scale, from, to| Axis {
            title: "",
            scale,
            from,
            to,
            ticks: Vec::new(),
        };
        let linear = axis(Scale::Linear, 0.0, 10.0);
        assert_eq!(
            [0.0, 5.0, 20.0].map(|value| linear.position(value)),
            [0.0, 0.5, 1.0]
        );
        let logarithmic = axis(Scale::Logarithmic, 1.0, 100.0);
        assert!((logarithmic.position(10.0) - 0.5).abs() < 1e-9);
        let empty = axis(Scale::Linear, 0.0, 0.0);
        assert_eq!(empty.position(0.0), 0.0);
    }
}
