//! From values to places on an axis.

/// Wanted number of intervals between ticks.
const INTERVALS: f64 = 5.0;

/// An axis: maps values to `[0, 1]`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    is_log: bool,
    /// Places and texts of the ticks.
    ticks: Vec<(f64, String)>,
}

impl Scale {
    /// A linear axis over the values, its ends on round numbers. Values that are not finite are
    /// left out; without any the axis is `[0, 1]`.
    pub(crate) fn linear(values: impl IntoIterator<Item = f64>) -> Self {
        let (mut low, mut high) = extent(values).unwrap_or((0.0, 1.0));
        let tiny = 1e-9_f64.max(1e-6 * low.abs().max(high.abs()));
        if high - low < tiny {
            let pad = if low.abs() > tiny {
                0.1 * low.abs()
            } else {
                0.5
            };
            low -= pad;
            high += pad;
        }
        let step = round_step((high - low) / INTERVALS);
        // Ends move outwards to a multiple of the step; the slack keeps one that already is.
        let first = libm::floor(low / step + 1e-6);
        let last = libm::ceil(high / step - 1e-6).max(first + 1.0);
        let decimals = decimals_of(step);
        let mut ticks = Vec::new();
        let mut index = first;
        while index <= last {
            let value = index * step;
            ticks.push((
                (index - first) / (last - first),
                crate::format::decimals(value, decimals),
            ));
            index += 1.0;
        }
        Self {
            low: first * step,
            high: last * step,
            is_log: false,
            ticks,
        }
    }

    /// A logarithmic axis over positive values, its ends at 1, 2 or 5 times a power of ten.
    /// `text` names a tick.
    pub(crate) fn logarithmic(
        values: impl IntoIterator<Item = f64>,
        text: impl Fn(f64) -> String,
    ) -> Self {
        let (low, high) =
            extent(values.into_iter().filter(|value| *value > 0.0)).unwrap_or((1.0, 10.0));
        let first = libm::floor(libm::log10(low) + 1e-9);
        let last = libm::ceil(libm::log10(high) - 1e-9).max(first + 1.0);
        let mut marks = Vec::new();
        let mut decade = first;
        while decade <= last {
            for factor in [1.0, 2.0, 5.0] {
                marks.push(factor * libm::pow(10.0, decade));
            }
            decade += 1.0;
        }
        let low_end = marks
            .iter()
            .copied()
            .filter(|mark| *mark <= low * 1.000_001)
            .fold(marks[0], f64::max);
        let high_end = marks
            .iter()
            .copied()
            .filter(|mark| *mark >= high * 0.999_999 && *mark > low_end * 1.5)
            .fold(f64::INFINITY, f64::min);
        let high_end = if high_end.is_finite() {
            high_end
        } else {
            10.0 * low_end
        };
        let mut scale = Self {
            low: low_end,
            high: high_end,
            is_log: true,
            ticks: Vec::new(),
        };
        let is_short = high_end / low_end < 150.0;
        scale.ticks = marks
            .into_iter()
            .filter(|mark| *mark >= low_end * 0.999 && *mark <= high_end * 1.001)
            .filter(|mark| {
                is_short || {
                    let exponent = libm::log10(*mark);
                    (exponent - libm::round(exponent)).abs() < 1e-6
                }
            })
            .map(|mark| (scale.place(mark), text(mark)))
            .collect();
        scale
    }

    /// The place of a value, cut to `[0, 1]`.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let share = if self.is_log {
            if value <= 0.0 {
                return 0.0;
            }
            libm::log10(value / self.low) / libm::log10(self.high / self.low)
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.clamp(0.0, 1.0)
    }

    /// Places and texts of the ticks, from low to high.
    pub(crate) fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }
}

fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values
        .into_iter()
        .filter(|value| value.is_finite())
        .fold(None, |extent, value| match extent {
            None => Some((value, value)),
            Some((low, high)) => Some((value.min(low), value.max(high))),
        })
}

/// 1, 2 or 5 times a power of ten, the nearest at or above the wanted step.
fn round_step(wanted: f64) -> f64 {
    let power = libm::pow(10.0, libm::floor(libm::log10(wanted)));
    [1.0, 2.0, 5.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= wanted * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// Decimals that a multiple of the step needs.
fn decimals_of(step: f64) -> usize {
    (0..12)
        .find(|n| {
            let scaled = step * libm::pow(10.0, f64::from(*n));
            (scaled - libm::round(scaled)).abs() < 1e-6
        })
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(scale: &Scale) -> Vec<&str> {
        scale
            .ticks()
            .iter()
            .map(|(_, text)| text.as_str())
            .collect()
    }

    #[test]
    fn linear_ticks_stand_on_round_numbers() {
        let scale = Scale::linear([0.47, 0.5, 0.912]);
        assert_eq!(
            texts(&scale),
            ["0.4", "0.5", "0.6", "0.7", "0.8", "0.9", "1.0"]
        );
        assert!((scale.place(0.7) - 0.5).abs() < 1e-12);
        let scale = Scale::linear([-0.0004, 0.0011]);
        assert_eq!(texts(&scale).first(), Some(&"−0.0005"));
        assert!(texts(&scale).contains(&"0.0000"));
    }

    #[test]
    fn every_extent_gives_a_finite_axis() {
        for values in [
            vec![],
            vec![0.0],
            vec![3.0],
            vec![-1e-12, 1e-12],
            vec![f64::NAN, f64::INFINITY],
            vec![1e12, 1e-12],
            vec![-5.0, -5.0],
        ] {
            for scale in [
                Scale::linear(values.clone()),
                Scale::logarithmic(values.clone(), |value| value.to_string()),
            ] {
                assert!(scale.low < scale.high, "{values:?}");
                assert!(scale.ticks().len() >= 2, "{values:?} {scale:?}");
                assert!(scale.ticks().len() <= 40, "{values:?} {scale:?}");
                for value in &values {
                    let place = scale.place(*value);
                    assert!(value.is_nan() || (0.0..=1.0).contains(&place), "{values:?}");
                }
            }
        }
    }

    #[test]
    fn logarithmic_ends_enclose_the_values() {
        let scale = Scale::logarithmic([30.0, 410.0, 9_000.0], |ms| ms.to_string());
        assert_eq!((scale.low, scale.high), (20.0, 10_000.0));
        assert_eq!(texts(&scale), ["100", "1000", "10000"]);
        let scale = Scale::logarithmic([3.0], |ms| ms.to_string());
        assert_eq!(texts(&scale), ["2", "5"]);
    }
}
