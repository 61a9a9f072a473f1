//! The registry of models: a new one is its file, its `mod` line and its entry.

mod association_rules;
mod bert4rec;
mod bpr;
mod case_study;
mod content;
mod ease;
mod gru4rec;
mod ials;
mod item_knn;
mod logistic_regression;
mod markov;
mod popularity;
mod sasrec;

use crate::recommender::Entry;

/// All models, simplest first.
pub static REGISTRY: &[Entry] = &[
    Entry::of::<popularity::Popularity>(),
    Entry::of::<content::Content>(),
    Entry::of::<association_rules::AssociationRules>(),
    Entry::of::<markov::Markov>(),
    Entry::of::<item_knn::ItemKnn>(),
    Entry::of::<ease::Ease>(),
    Entry::of::<logistic_regression::LogisticRegression>(),
    Entry::of::<bpr::Bpr>(),
    Entry::of::<ials::Ials>(),
    Entry::of::<case_study::CaseStudy>(),
    Entry::of::<gru4rec::Gru4Rec>(),
    Entry::of::<sasrec::Sasrec>(),
    Entry::of::<bert4rec::Bert4Rec>(),
];
