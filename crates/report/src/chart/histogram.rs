//! The distribution of many values at a glance.

use super::{Share, drawing, vertical};
use crate::format;
use crate::html::Html;

/// Counts in bins of equal width.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Histogram {
    /// Lower end of the first bin.
    pub(crate) low: f64,
    /// Upper end of the last bin.
    pub(crate) high: f64,
    /// Counts.
    pub(crate) bins: Vec<u64>,
    /// Values below the first bin and above the last one, which are drawn into the end bins.
    pub(crate) n_outside: u64,
}

impl Histogram {
    /// Bins the values between their 0.5 % and 99.5 % quantiles, so that a few extreme values do
    /// not squeeze the rest into one bin. `values` are sorted.
    pub(crate) fn of_sorted(values: &[f64], n_bins: usize) -> Option<Self> {
        let last = values.len().checked_sub(1)?;
        let low = values[last / 200];
        let high = values[last - last / 200];
        let mut bins = vec![0_u64; n_bins];
        let mut n_outside = 0;
        let width = (high - low) / n_bins as f64;
        for value in values {
            if *value < low || *value > high {
                n_outside += 1;
            }
            let index = if width > 0.0 && width.is_finite() {
                // Saturating: values below the range go to the first bin.
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a float becomes the index of its bin"
                )]
                let index = ((value - low) / width) as usize;
                index.min(n_bins - 1)
            } else {
                n_bins / 2
            };
            bins[index] += 1;
        }
        Some(Self {
            low,
            high,
            bins,
            n_outside,
        })
    }
}

/// Draws a histogram; nothing without counts.
pub(crate) fn histogram(name: &str, histogram: &Histogram) -> Html {
    let mut html = Html::new();
    let most = histogram.bins.iter().copied().max().unwrap_or(0);
    if most == 0 {
        return html;
    }
    let (low, high) = (text(histogram.low), text(histogram.high));
    let title = format!("Distribution of {name}");
    let description = format!("99 % of the scores lie between {low} and {high}");
    html.element("div", &[("class", &"histogram")], |html| {
        drawing(html, "bins", &title, &description, |svg| {
            let n = histogram.bins.len() as f64;
            for (index, count) in histogram.bins.iter().enumerate() {
                if *count == 0 {
                    continue;
                }
                let height = (*count as f64 / most as f64).max(0.015);
                svg.element(
                    "rect",
                    &[
                        ("class", &"kept"),
                        ("x", &Share(index as f64 / n)),
                        ("width", &Share(0.86 / n)),
                        ("y", &Share(1.0 - height)),
                        ("height", &Share(height)),
                    ],
                    |_| {},
                );
            }
            if histogram.low < 0.0 && histogram.high > 0.0 {
                let zero = -histogram.low / (histogram.high - histogram.low);
                vertical(svg, "reference", zero);
            }
        });
        html.element("div", &[("class", &"ends")], |html| {
            html.leaf("span", &[], &low);
            html.leaf("span", &[], &high);
        });
    });
    html
}

/// A score with about three significant digits.
fn text(value: f64) -> String {
    let size = value.abs();
    if size > 0.0 && !(1e-3..1e5).contains(&size) {
        return format!("{value:.1e}").replace('-', "−");
    }
    let decimals = if size >= 100.0 {
        0
    } else if size >= 1.0 {
        2
    } else if size > 0.0 {
        4
    } else {
        0
    };
    format::decimals(value, decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_a_bin() {
        let values: Vec<f64> = (0..1000).map(|index| f64::from(index) / 10.0).collect();
        let result = Histogram::of_sorted(&values, 20).unwrap();
        assert_eq!(result.bins.iter().sum::<u64>(), 1000);
        assert_eq!(result.n_outside, 8);
    }

    #[test]
    fn one_value_and_equal_values_are_drawn() {
        assert_eq!(Histogram::of_sorted(&[], 20), None);
        for values in [vec![2.5], vec![0.0; 9]] {
            let result = Histogram::of_sorted(&values, 20).unwrap();
            assert_eq!(result.bins.iter().sum::<u64>(), values.len() as u64);
            let html = histogram("x", &result).into_string();
            assert!(html.contains("<rect") && !html.contains("NaN"), "{html}");
        }
    }
}
