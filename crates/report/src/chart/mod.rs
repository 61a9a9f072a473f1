//! Small charts, drawn as SVG by hand.
//!
//! Horizontal places are percentages of the width, vertical ones pixels or percentages: a chart
//! fills whatever width a page gives it, and its text and dots keep their size on a phone.
//! Colours come from the classes of the style sheet, so that a chart follows light and dark.

mod bars;
mod dots;
mod heat;
mod histogram;
mod scale;
mod scatter;

pub(crate) use bars::{Step, share_bar, steps};
pub(crate) use dots::{Band, DotRow, Dots, Mark, Reference};
pub(crate) use heat::Heat;
pub(crate) use histogram::{Histogram, histogram};
pub(crate) use scatter::{Point, Scatter};

use std::fmt;

use crate::html::Html;

/// A share of one as a percentage for an attribute, with two decimals.
#[derive(Clone, Copy, Debug)]
struct Share(f64);

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}%", 100.0 * self.0)
    }
}

/// The drawing of one chart: an image with a name and a description for those who cannot see it.
/// The name also shows when a pointer rests on it.
fn drawing(
    html: &mut Html,
    class: &str,
    title: &str,
    description: &str,
    inside: impl FnOnce(&mut Html),
) {
    html.element("svg", &[("class", &class), ("role", &"img")], |svg| {
        svg.leaf("title", &[], title);
        if !description.is_empty() {
            svg.leaf("desc", &[], description);
        }
        inside(svg);
    });
}

/// A vertical line over the whole height.
fn vertical(svg: &mut Html, class: &str, x: f64) {
    svg.element(
        "line",
        &[
            ("class", &class),
            ("x1", &Share(x)),
            ("x2", &Share(x)),
            ("y1", &"0"),
            ("y2", &"100%"),
        ],
        |_| {},
    );
}

/// Puts something drawn round the origin at a place.
fn at(svg: &mut Html, x: f64, y: f64, inside: impl FnOnce(&mut Html)) {
    svg.element(
        "svg",
        &[
            ("x", &Share(x)),
            ("y", &Share(y)),
            ("overflow", &"visible"),
            ("class", &"at"),
        ],
        inside,
    );
}

/// Where a text stands relative to its place so that it stays inside the drawing.
fn anchor(x: f64) -> &'static str {
    if x < 0.04 {
        "start"
    } else if x > 0.96 {
        "end"
    } else {
        "middle"
    }
}
