//! What the names of metrics mean to a reader: title, number of decimals, better end.

use crate::format::Shown;
use crate::table::Best;

/// How one metric is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Measure {
    /// Title of its column.
    pub(crate) title: String,
    /// How its values are written.
    pub(crate) shown: Shown,
    /// Which end is better.
    pub(crate) best: Best,
}

/// Titles of metrics, before their cut-off.
const TITLES: &[(&str, &str)] = &[
    ("accuracy", "Accuracy"),
    ("auroc", "AUROC"),
    ("average_precision", "AP"),
    ("cold_frac", "Cold"),
    ("coverage", "Coverage"),
    ("f1", "F1"),
    ("f1_2means", "F1 (2-means)"),
    ("hit_rate", "HR"),
    ("hr", "HR"),
    ("kendall", "Kendall"),
    ("map", "MAP"),
    ("mrr", "MRR"),
    ("jaccard_top", "Overlap"),
    ("n_removed", "Samples removed"),
    ("ndcg", "NDCG"),
    ("planted_frac", "Planted"),
    ("precision", "Precision"),
    ("recall", "Recall"),
    ("repeat_frac", "Repeats"),
    ("spearman", "Spearman"),
    ("truth_frac", "Simulator's own noise"),
    ("unscored_frac", "Unscored"),
];

/// How a metric of a family is shown. A name that is not known is shown as it is, without a
/// better end.
pub(crate) fn measure(family: &str, name: &str) -> Measure {
    if let Some((of, versus)) = name.split_once("_vs_") {
        let of = measure(family, of);
        return Measure {
            title: format!("{} against {}", of.title, versus.replace('_', " ")),
            shown: match of.shown {
                Shown::Decimals(n) => Shown::Signed(n),
                other => other,
            },
            best: of.best,
        };
    }
    let (stem, cut_off) = match name.split_once('@') {
        Some((stem, cut_off)) => (stem, Some(cut_off)),
        None => (name, None),
    };
    let known = TITLES.iter().find(|(known, _)| *known == stem);
    let title = match (known, cut_off) {
        (Some((_, title)), None) => (*title).to_owned(),
        (Some((_, title)), Some(cut_off)) => format!("{title}@{}", cut_off.replace('x', "×")),
        (None, _) => name.replace('_', " "),
    };
    // Shares and counts describe the data, and no end of them is better.
    let is_share = stem.ends_with("_frac") || stem == "coverage";
    let is_count = stem.starts_with("n_");
    let shown = if is_share {
        Shown::Percent
    } else if is_count {
        Shown::Count
    } else {
        match family {
            "ranking" | "action" => Shown::Decimals(4),
            "agreement" => Shown::Decimals(2),
            _ => Shown::Decimals(3),
        }
    };
    Measure {
        title,
        shown,
        best: if known.is_some() && !is_share && !is_count {
            Best::Highest
        } else {
            Best::Neither
        },
    }
}

/// The cut-off of a ranking metric, such as 10 of `ndcg@10`.
pub(crate) fn cut_off(name: &str) -> Option<u32> {
    name.split_once('@')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_get_the_terms_of_the_field() {
        let ndcg = measure("ranking", "ndcg@10");
        assert_eq!(
            (ndcg.title.as_str(), ndcg.shown),
            ("NDCG@10", Shown::Decimals(4))
        );
        assert_eq!(measure("detection", "recall@2x").title, "Recall@2×");
        assert_eq!(measure("detection", "unscored_frac").shown, Shown::Percent);
        let change = measure("action", "ndcg@10_vs_base");
        assert_eq!(
            (change.title.as_str(), change.shown),
            ("NDCG@10 against base", Shown::Signed(4))
        );
        let unknown = measure("detection", "brand_new");
        assert_eq!(
            (unknown.title.as_str(), unknown.best),
            ("brand new", Best::Neither)
        );
        assert_eq!(
            (cut_off("mrr@20"), cut_off("auroc"), cut_off("recall@2x")),
            (Some(20), None, None)
        );
    }
}
