//! A drawing of curves over two logarithmic axes, as SVG.
//!
//! In: charts with named lines. Out: the text of one file, with a background of its own so that it can be read on a
//! light page and a dark one; where the viewer tells that it is dark, the colours follow.
//! Read next: `report`.

use std::fmt::Write;

/// How a line is drawn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Style {
    Solid,
    Faint,
    Dashed,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    name: String,
    points: Vec<(f64, f64)>,
    style: Style,
}

impl Line {
    /// A measured one.
    pub fn solid(name: &str, points: Vec<(f64, f64)>) -> Line {
        Line { name: name.into(), points, style: Style::Solid }
    }

    /// One that goes with the solid line of the same name.
    pub fn faint(name: &str, points: Vec<(f64, f64)>) -> Line {
        Line { name: name.into(), points, style: Style::Faint }
    }

    /// A computed one.
    pub fn dashed(name: &str, points: Vec<(f64, f64)>) -> Line {
        Line { name: name.into(), points, style: Style::Dashed }
    }
}

/// One chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// Under it, with the unit.
    pub x: String,
    /// Beside it: the unit.
    pub y: String,
    /// What is drawn.
    pub lines: Vec<Line>,
}

const WIDTH: f64 = 470.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 52.0;
const LEGEND_LINE: f64 = 19.0;

const STYLE: &str = "\
text{font-family:system-ui,sans-serif;font-size:12px;fill:#222}.title{font-size:14px;font-weight:600}\
.page{fill:#fff}.grid{stroke:#d7d7d7;stroke-width:1}.frame{stroke:#888;fill:none}\
.line{fill:none;stroke-width:2.5}.faint{stroke-width:1.2}.dashed{stroke-width:1.6;stroke-dasharray:6 4}\
.c0{stroke:#0b6bcb;fill:#0b6bcb}.c1{stroke:#c2410c;fill:#c2410c}.c2{stroke:#6b7280;fill:#6b7280}\
.c3{stroke:#15803d;fill:#15803d}.c4{stroke:#7e22ce;fill:#7e22ce}.line.c0,.line.c1,.line.c2,.line.c3,.line.c4{fill:none}\
@media(prefers-color-scheme:dark){text{fill:#e6e6e6}.page{fill:#15181c}.grid{stroke:#333a42}\
.c0{stroke:#60a5fa;fill:#60a5fa}.c1{stroke:#fb923c;fill:#fb923c}.c2{stroke:#a3aab5;fill:#a3aab5}\
.c3{stroke:#4ade80;fill:#4ade80}.c4{stroke:#c084fc;fill:#c084fc}}";

/// A logarithmic axis between two places of the drawing.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        let share = (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln());
        self.from + (self.to - self.from) * share
    }
}

/// The nearest of 1, 2 and 5 times a power of ten at or below (`up` false) or above.
fn round(value: f64, up: bool) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|s| s * power);
    let close = |s: &&f64| if up { **s >= value * 0.999 } else { **s <= value * 1.001 };
    if up { steps.iter().find(close) } else { steps.iter().rev().find(close) }.copied().unwrap_or(value)
}

/// 1, 2 and 5 times powers of ten within an axis.
fn ticks(axis: &Axis) -> Vec<f64> {
    let mut found = Vec::new();
    let mut power = 10f64.powf(axis.low.log10().floor());
    while power <= axis.high * 1.001 {
        let within = |t: &f64| *t >= axis.low * 0.999 && *t <= axis.high * 1.001;
        found.extend([1.0, 2.0, 5.0].map(|s| s * power).into_iter().filter(within));
        power *= 10.0;
    }
    found
}

/// All charts side by side, with one legend.
pub fn svg(charts: &[Chart]) -> String {
    let mut names: Vec<(&str, Style)> = Vec::new();
    for line in charts.iter().flat_map(|c| &c.lines).filter(|l| l.style != Style::Faint) {
        if !names.iter().any(|(name, _)| *name == line.name) {
            names.push((&line.name, line.style));
        }
    }
    let legend = LEGEND_LINE * names.len().div_ceil(charts.len().max(1)) as f64 + 14.0;
    let (width, height) = (WIDTH * charts.len() as f64, HEIGHT + legend);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\">\n<style>{STYLE}</style>\n<rect class=\"page\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>\n"
    );
    for (index, chart) in charts.iter().enumerate() {
        draw(&mut out, chart, WIDTH * index as f64, &names);
    }
    let rows = names.len().div_ceil(charts.len().max(1));
    for (index, (name, style)) in names.iter().enumerate() {
        let x = LEFT + WIDTH * (index / rows) as f64;
        let y = HEIGHT + 4.0 + LEGEND_LINE * (index % rows) as f64;
        let class = class(*style);
        let _ = writeln!(
            out,
            "<path class=\"line {class} c{index}\" d=\"M{x} {y}h34\"/><text x=\"{}\" y=\"{}\">{}</text>",
            x + 42.0,
            y + 4.0,
            escaped(name),
        );
    }
    out.push_str("</svg>\n");
    out
}

fn class(style: Style) -> &'static str {
    match style {
        Style::Solid => "",
        Style::Faint => "faint",
        Style::Dashed => "dashed",
    }
}

fn draw(out: &mut String, chart: &Chart, shift: f64, names: &[(&str, Style)]) {
    let points = || chart.lines.iter().flat_map(|l| &l.points).filter(|(x, y)| *x > 0.0 && *y > 0.0);
    if points().next().is_none() {
        return;
    }
    let span = |of: fn(&(f64, f64)) -> f64| {
        let all = points().map(of);
        all.fold((f64::INFINITY, 0.0_f64), |(low, high), v| (low.min(v), high.max(v)))
    };
    let ((x_low, x_high), (y_low, y_high)) = (span(|p| p.0), span(|p| p.1));
    let (left, right) = (shift + LEFT, shift + WIDTH - RIGHT);
    // A little air beside the first and the last point.
    let x = Axis { low: x_low / 1.3, high: x_high * 1.3, from: left, to: right };
    let (y_low, y_high) = (round(y_low, false), round(y_high, true));
    let y = Axis { low: y_low, high: y_high.max(y_low * 2.0), from: HEIGHT - BOTTOM, to: TOP };

    let _ = writeln!(out, "<text class=\"title\" x=\"{left}\" y=\"22\">{}</text>", escaped(&chart.title));
    for tick in ticks(&y) {
        let at = y.place(tick);
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{left:.1} {at:.1}H{right:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            left - 6.0,
            at + 4.0,
            number(tick),
        );
    }
    let mut marks: Vec<f64> = points().map(|p| p.0).collect();
    marks.sort_by(f64::total_cmp);
    marks.dedup();
    for tick in marks {
        let at = x.place(tick);
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{at:.1} {TOP}V{:.1}\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 18.0,
            number(tick),
        );
    }
    let _ = writeln!(
        out,
        "<rect class=\"frame\" x=\"{left}\" y=\"{TOP}\" width=\"{}\" height=\"{}\"/>\
         <text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
         <text transform=\"translate({} {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        right - left,
        HEIGHT - BOTTOM - TOP,
        (left + right) / 2.0,
        HEIGHT - 14.0,
        escaped(&chart.x),
        shift + 14.0,
        (TOP + HEIGHT - BOTTOM) / 2.0,
        escaped(&chart.y),
    );
    for line in &chart.lines {
        let colour = names.iter().position(|(name, _)| *name == line.name).unwrap_or(0);
        let places: Vec<(f64, f64)> = line.points.iter().map(|p| (x.place(p.0), y.place(p.1))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        if path.is_empty() {
            continue;
        }
        let _ =
            writeln!(out, "<path class=\"line {} c{colour}\" d=\"M{}\"/>", class(line.style), path.join("L"));
        if line.style == Style::Solid {
            for (x, y) in places {
                let _ = writeln!(out, "<circle class=\"c{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>");
            }
        }
    }
}

/// With a comma between thousands.
fn number(value: f64) -> String {
    match value {
        v if v >= 1_000.0 => format!("{:.0},{:03.0}", (v / 1_000.0).floor(), v % 1_000.0),
        v if v >= 1.0 => format!("{v:.0}"),
        v => format!("{v}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{number, round, svg, ticks, Axis, Chart, Line};

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!((round(13.0, false), round(13.0, true)), (10.0, 20.0));
        assert_eq!((round(5.0, false), round(5.0, true)), (5.0, 5.0));
        assert_eq!(round(620.0, true), 1_000.0);
        assert_eq!([0.5, 20.0, 5_000.0].map(number), ["0.5", "20", "5,000"]);
        let axis = Axis { low: 10.0, high: 200.0, from: 0.0, to: 100.0 };
        assert_eq!(ticks(&axis), [10.0, 20.0, 50.0, 100.0, 200.0]);
        assert!((axis.place(10.0)).abs() < 1e-9 && (axis.place(200.0) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn every_line_is_drawn_and_named() {
        let lines = vec![
            Line::solid("a < b", vec![(1.0, 10.0), (100.0, 500.0)]),
            Line::faint("a < b", vec![(1.0, 20.0), (100.0, 900.0)]),
            Line::dashed("limit", vec![(1.0, 700.0), (100.0, 4_000.0)]),
        ];
        let chart = Chart { title: "t".into(), x: "x".into(), y: "y".into(), lines };
        let text = svg(&[chart]);
        assert_eq!(
            text.matches("<path class=\"line").count(),
            3 + 2,
            "three lines, two in the legend: {text}"
        );
        assert!(text.contains("a &lt; b") && !text.contains("NaN") && !text.contains("inf"), "{text}");
    }
}
