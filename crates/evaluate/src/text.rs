//! How figures are written in sentences and as evidence.

use tables::Metric;

/// A value with its interval, such as `0.0439 [0.0412, 0.0466]`.
pub(crate) fn figure(row: &Metric, decimals: usize) -> String {
    let value = format!("{:.decimals$}", row.value);
    match (row.low, row.high) {
        (Some(low), Some(high)) => format!("{value} [{low:.decimals$}, {high:.decimals$}]"),
        _ => value,
    }
}

/// A difference with its sign and interval, such as `+0.0021 [-0.0003, +0.0046]`.
pub(crate) fn difference(row: &Metric, decimals: usize) -> String {
    let value = format!("{:+.decimals$}", row.value);
    match (row.low, row.high) {
        (Some(low), Some(high)) => format!("{value} [{low:+.decimals$}, {high:+.decimals$}]"),
        _ => value,
    }
}

/// A p-value, such as `p = 0.012` or `p < 0.001`.
pub(crate) fn p_value(value: f64) -> String {
    if value < 0.001 {
        "p < 0.001".to_owned()
    } else {
        format!("p = {value:.3}")
    }
}

/// A share, such as `71 %` or `0.4 %`.
pub(crate) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if (0.05..9.95).contains(&percent) {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

/// A whole number with thousands set apart, such as `39,702`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A list of names in backticks: `a`, `a and b`, `a, b and c`.
pub(crate) fn list(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}

/// Where a figure stands in `metrics`: `metric@node[label]=value`.
pub(crate) fn evidence(rows: &[&Metric]) -> String {
    rows.iter()
        .map(|row| {
            let mut label = Vec::new();
            if let Some(method) = &row.method {
                label.push(format!("method={method}"));
            }
            if let Some(model) = &row.model {
                label.push(format!("model={model}"));
            }
            if !row.label.is_empty() {
                label.push(row.label.clone());
            }
            label.push(format!("part={}", row.part));
            if row.segment != "all" {
                label.push(format!("segment={}", row.segment));
            }
            format!(
                "{}@{}[{}]={:.6}",
                row.metric,
                row.node,
                label.join(","),
                row.value
            )
        })
        .collect::<Vec<_>>()
        .join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(7), "7");
        assert_eq!(count(39_702), "39,702");
        assert_eq!(count(1_000_000), "1,000,000");
        assert_eq!(percent(0.713), "71 %");
        assert_eq!(percent(0.004), "0.4 %");
        assert_eq!(percent(0.0), "0 %");
        assert_eq!(p_value(0.0004), "p < 0.001");
        assert_eq!(p_value(0.0412), "p = 0.041");
        let names = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(list(&names), "a, b and c");
        assert_eq!(list(&names[..1]), "a");
    }
}
