//! Owns the drawing of a table: tokens a second and the time to the first token against the rate, as SVG.

use super::StrategyOutcomes;
use super::cluster::{Outcome, Workload};
use std::fmt::Write;

const COLOURS: [&str; 7] = ["#8c8c8c", "#c9a227", "#7fb2d9", "#2a6fb0", "#5aa469", "#b0413e", "#111111"];

/// The size of one panel, in pixels.
const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 240.0;

/// One panel: what is drawn, and where.
struct Panel<'a> {
    title: &'a str,
    left: f64,
    of: fn(&Outcome) -> f64,
    /// Whether the vertical axis is logarithmic.
    is_log: bool,
}

/// Draws the outcomes of all ways of choosing.
pub(super) fn svg(workload: &Workload, outcomes: &[StrategyOutcomes]) -> String {
    let mut out = String::from(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="920" height="330" font-family="sans-serif" font-size="12"><rect width="920" height="330" fill="#fff"/>"##,
    );
    let tokens = Panel { title: "answer tokens a second", left: 60.0, of: |one| one.tokens, is_log: false };
    let ttft = Panel {
        title: "p90 of the time to the first token, s",
        left: 480.0,
        of: |one| one.percentile(0.9),
        is_log: true,
    };
    for panel in [tokens, ttft] {
        panel.draw(&mut out, workload.rates, outcomes);
    }
    for (at, ((name, _), colour)) in outcomes.iter().zip(COLOURS).enumerate() {
        let x = 60.0 + 122.0 * at as f64;
        let _ = write!(
            out,
            r#"<line x1="{x}" x2="{}" y1="316" y2="316" stroke="{colour}" stroke-width="3"/><text x="{}" y="320">{name}</text>"#,
            x + 18.0,
            x + 23.0,
        );
    }
    out + "</svg>\n"
}

impl Panel<'_> {
    fn draw(&self, out: &mut String, rates: &[f64], outcomes: &[StrategyOutcomes]) {
        let values = || outcomes.iter().flat_map(|(_, all)| all).map(self.of);
        let most = values().fold(0.0, f64::max) * 1.05;
        let least = if self.is_log { values().fold(f64::INFINITY, f64::min) / 1.2 } else { 0.0 };
        let fastest = rates.iter().copied().fold(0.0, f64::max);
        let scale = |value: f64| if self.is_log { value.ln() } else { value };
        let x = |rate: f64| self.left + WIDTH * rate / fastest;
        let y = |value: f64| 280.0 - HEIGHT * (scale(value) - scale(least)) / (scale(most) - scale(least));
        let _ = write!(out, r#"<text x="{}" y="24" font-weight="bold">{}</text>"#, self.left, self.title);
        for rate in rates {
            let _ = write!(out, r#"<text x="{:.0}" y="296" text-anchor="middle">{rate}</text>"#, x(*rate));
        }
        for part in 0..=4 {
            let at = scale(least) + (scale(most) - scale(least)) * f64::from(part) / 4.0;
            let value = if self.is_log { at.exp() } else { at };
            let label = if self.is_log { format!("{value:.1}") } else { format!("{value:.0}") };
            let _ = write!(
                out,
                r##"<line x1="{0}" x2="{1}" y1="{2:.1}" y2="{2:.1}" stroke="#e5e5e5"/><text x="{3}" y="{4:.1}" text-anchor="end">{label}</text>"##,
                self.left,
                self.left + WIDTH,
                y(value),
                self.left - 5.0,
                y(value) + 4.0,
            );
        }
        for ((_, all), colour) in outcomes.iter().zip(COLOURS) {
            let points =
                rates.iter().zip(all).map(|(rate, one)| format!("{:.1},{:.1}", x(*rate), y((self.of)(one))));
            let points: Vec<String> = points.collect();
            let _ = write!(
                out,
                r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"/>"#,
                points.join(" ")
            );
        }
    }
}
