//! Plots with both axes logarithmic, as SVG.

use std::fmt::Write as _;

/// A line through points.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// What is to be drawn.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plot {
    pub(crate) title: String,
    /// What the axes are.
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) series: Vec<Series>,
}

const WIDTH: f64 = 900.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 560.0;
const TOP: f64 = 50.0;
const LINE: f64 = 20.0;
/// Of the lines' area.
const HEIGHT: f64 = 380.0;

/// Colours that are told apart by those who see fewer, too (Okabe and Ito).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];
/// When colours are used up, lines are broken.
const DASHES: [&str; 3] = ["", "6 4", "2 3"];

/// A logarithmic axis between two powers of ten.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis {
    low: f64,
    high: f64,
    /// Where these are on the page.
    from: f64,
    to: f64,
}

impl Axis {
    /// Holds all values above 0; others have no logarithm.
    fn of(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| *value > 0.0) {
            low = low.min(value.log10().floor());
            high = high.max(value.log10().ceil());
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if low == high {
            high += 1.0;
        }
        Self {
            low,
            high,
            from,
            to,
        }
    }

    fn at(self, value: f64) -> f64 {
        let share = (value.log10() - self.low) / (self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    fn powers(self) -> impl Iterator<Item = f64> {
        (self.low as i32..=self.high as i32).map(|power| 10f64.powi(power))
    }
}

impl Plot {
    /// The drawing. Where there are no rules, for one, the point is left out.
    pub(crate) fn svg(&self) -> String {
        let bottom = TOP + HEIGHT;
        let points = || self.series.iter().flat_map(|series| &series.points);
        let x = Axis::of(points().map(|point| point.0), LEFT, RIGHT);
        let y = Axis::of(points().map(|point| point.1), bottom, TOP);
        let height = (bottom + 60.0).max(TOP + LINE * (self.series.len() as f64 + 1.0));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        let mut text = |x: f64, y: f64, anchor: &str, more: &str, text: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{more}>{}</text>",
                escape(text)
            );
        };
        text(LEFT, 28.0, "start", " font-size=\"16\"", &self.title);
        text((LEFT + RIGHT) / 2.0, bottom + 42.0, "middle", "", &self.x);
        text(LEFT, TOP - 8.0, "end", "", &self.y);
        for power in x.powers() {
            text(x.at(power), bottom + 20.0, "middle", "", &short(power));
        }
        for power in y.powers() {
            text(LEFT - 8.0, y.at(power) + 4.0, "end", "", &short(power));
        }
        for (number, series) in self.series.iter().enumerate() {
            let at = TOP + LINE * number as f64 + 4.0;
            text(RIGHT + 60.0, at, "start", "", &series.name);
        }
        let mut line = |x1: f64, y1: f64, x2: f64, y2: f64, stroke: &str| {
            let _ = writeln!(
                svg,
                "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {stroke}/>"
            );
        };
        for power in x.powers() {
            line(x.at(power), TOP, x.at(power), bottom, "stroke=\"#ddd\"");
        }
        for power in y.powers() {
            line(LEFT, y.at(power), RIGHT, y.at(power), "stroke=\"#ddd\"");
        }
        for (number, series) in self.series.iter().enumerate() {
            let stroke = format!(
                "stroke=\"{}\" stroke-width=\"2\" stroke-dasharray=\"{}\"",
                COLOURS[number % COLOURS.len()],
                DASHES[number / COLOURS.len() % DASHES.len()]
            );
            let at = TOP + LINE * number as f64;
            let _ = writeln!(
                svg,
                "<line x1=\"{:.1}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" {stroke}/>",
                RIGHT + 20.0,
                RIGHT + 52.0
            );
            let points: Vec<(f64, f64)> = series
                .points
                .iter()
                .filter(|point| point.0 > 0.0 && point.1 > 0.0)
                .map(|point| (x.at(point.0), y.at(point.1)))
                .collect();
            let path: Vec<String> = points
                .iter()
                .map(|(x, y)| format!("{x:.1},{y:.1}"))
                .collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" {stroke}/>",
                path.join(" ")
            );
            for (x, y) in points {
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{}\"/>",
                    COLOURS[number % COLOURS.len()]
                );
            }
        }
        svg + "</svg>\n"
    }
}

fn short(power: f64) -> String {
    match power {
        1e6.. => format!("{} M", power / 1e6),
        1e3.. => format!("{} k", power / 1e3),
        _ => format!("{power}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: &[(f64, f64)]) -> Plot {
        Plot {
            title: "a < b".to_owned(),
            x: "rules".to_owned(),
            y: "ns".to_owned(),
            series: vec![Series {
                name: "one & two".to_owned(),
                points: points.to_vec(),
            }],
        }
    }

    #[test]
    fn equal_factors_are_equal_distances() {
        let axis = Axis::of([10.0, 9_000.0].into_iter(), 0.0, 300.0);
        assert_eq!((axis.low, axis.high), (1.0, 4.0));
        assert!((axis.at(100.0) - 100.0).abs() < 1e-9);
        assert!((axis.at(1_000.0) - 200.0).abs() < 1e-9);
        assert_eq!(axis.powers().collect::<Vec<_>>(), [10.0, 100.0, 1e3, 1e4]);
    }

    #[test]
    fn an_axis_has_a_length_whatever_there_is() {
        for values in [vec![], vec![0.0], vec![10.0], vec![10.0, 10.0]] {
            let axis = Axis::of(values.clone().into_iter(), 0.0, 1.0);
            assert!(axis.high > axis.low, "{values:?}");
        }
    }

    #[test]
    fn every_point_is_drawn_but_those_without_logarithm() {
        let svg = plot(&[(0.0, 5.0), (10.0, 20.0), (100.0, 30.0)]).svg();
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(plot(&[]).svg().ends_with("</svg>\n"));
    }

    #[test]
    fn text_cannot_be_taken_for_markup() {
        let svg = plot(&[(1.0, 1.0)]).svg();
        assert!(
            svg.contains("a &lt; b") && svg.contains("one &amp; two"),
            "{svg}"
        );
    }
}
