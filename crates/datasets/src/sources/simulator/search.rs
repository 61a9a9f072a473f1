//! Queries that people type, and how well items answer them.

use seed::Seed;
use tables::{Judgment, Query};

use super::catalogue::{BRANDS_PER_DEPARTMENT, Catalogue, Language, brand};
use super::draws::Draws;
use super::people::People;
use super::words::{STYLES, leaf_words};

/// Items of the category that are judged for a query.
const N_JUDGED: usize = 20;

/// Judged items of neighbouring categories, and of anywhere.
const N_OTHERS: usize = 5;

/// What a query asks for beside the category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Facet {
    Noun(u8),
    Style(u8),
    Brand(u8),
}

/// One query with its judged items.
pub(super) struct Ask {
    facet: Facet,
    text: String,
    /// Item and grade, sorted by item.
    pub(super) judged: Vec<(u32, u8)>,
}

/// All queries; those of a category lie side by side.
pub(super) struct Search {
    pub(super) asks: Vec<Ask>,
    /// For each category, its first query and the first of the next.
    starts: Vec<u32>,
}

impl Search {
    pub(super) fn new(catalogue: &Catalogue, seed: Seed) -> Self {
        let mut draws = Draws::new(seed.child("queries"));
        let mut asks: Vec<Ask> = Vec::new();
        let mut starts = vec![0];
        for (leaf, items) in catalogue.leaves.iter().enumerate() {
            let department = leaf / 5 * BRANDS_PER_DEPARTMENT;
            let small = |number: usize| u8::try_from(number).unwrap_or(0);
            let facets = (0..3)
                .map(|noun| Facet::Noun(small(noun)))
                .chain((0..STYLES.len()).map(|style| Facet::Style(small(style))))
                .chain(
                    (0..BRANDS_PER_DEPARTMENT).map(|place| Facet::Brand(small(department + place))),
                );
            for facet in facets {
                // Nobody asks for what the shop will never have.
                let answers = |item: &&u32| answers(catalogue, **item, facet);
                if items.iter().any(|item| answers(&item)) {
                    asks.push(Ask {
                        facet,
                        text: text(leaf, facet, catalogue.language(), &mut draws),
                        judged: judge(catalogue, leaf, facet, &mut draws),
                    });
                }
            }
            starts.push(number(asks.len()));
        }
        Self { asks, starts }
    }

    /// A query that a user types who looks for a category.
    pub(super) fn ask(&self, user: u32, leaf: usize, people: &People, draws: &mut Draws) -> u32 {
        let (start, end) = (self.starts[leaf], self.starts[leaf + 1]);
        let style = people.style(user);
        let mut query = start;
        // People ask for what they like: a few draws, the first that suits.
        for _ in 0..6 {
            query = start + draws.number(end - start);
            let suits = match self.asks[query as usize].facet {
                Facet::Noun(_) => true,
                Facet::Style(wanted) => wanted == style,
                Facet::Brand(brand) => people.likes(user, brand),
            };
            if suits {
                break;
            }
        }
        query
    }

    /// Name of a query in the tables.
    pub(super) fn id(query: u32) -> String {
        format!("q{}", query + 1)
    }

    /// The row of a query.
    pub(super) fn row(&self, query: u32) -> Query {
        Query {
            query_id: Self::id(query),
            text: self.asks[query as usize].text.clone(),
        }
    }

    /// All judgments, in the order of their table.
    pub(super) fn judgments(&self) -> impl Iterator<Item = Judgment> {
        let pairs = self.asks.iter().enumerate().flat_map(|(query, ask)| {
            ask.judged
                .iter()
                .map(move |&(item, grade)| (number(query), item, grade))
        });
        pairs.zip(1..).map(|((query, item, grade), line)| Judgment {
            query_id: Self::id(query),
            item_id: format!("i{}", item + 1),
            grade: f64::from(grade),
            variance: None,
            line,
        })
    }
}

/// Queries are far fewer than 2^32.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn answers(catalogue: &Catalogue, item: u32, facet: Facet) -> bool {
    let product = catalogue.product(item);
    match facet {
        Facet::Noun(noun) => product.noun == noun,
        Facet::Style(style) => product.style == style,
        Facet::Brand(brand) => product.brand == brand,
    }
}

/// 3: all that was asked for; 2: the category alone; 1: the department alone; 0: nothing.
fn grade(catalogue: &Catalogue, leaf: usize, facet: Facet, item: u32) -> u8 {
    let found = usize::from(catalogue.product(item).leaf);
    if found == leaf {
        2 + u8::from(answers(catalogue, item, facet))
    } else {
        u8::from(found / 5 == leaf / 5)
    }
}

/// Judges a pool: full answers first, then the rest of the category, its neighbours, anything.
fn judge(catalogue: &Catalogue, leaf: usize, facet: Facet, draws: &mut Draws) -> Vec<(u32, u8)> {
    let mut pool: Vec<u32> = Vec::new();
    for wanted in [true, false] {
        let limit = if wanted { N_JUDGED * 3 / 5 } else { N_JUDGED };
        pool.extend(
            catalogue.leaves[leaf]
                .iter()
                .filter(|&&item| answers(catalogue, item, facet) == wanted)
                .take(limit.saturating_sub(pool.len())),
        );
    }
    let first = leaf / 5 * 5;
    let n_leaves = (catalogue.leaves.len() - first).min(5);
    for _ in 0..N_OTHERS {
        let near = first + draws.below(n_leaves);
        pool.push(*draws.pick(&catalogue.leaves[near]));
        pool.push(number(draws.below(catalogue.products.len())));
    }
    pool.sort_unstable();
    pool.dedup();
    pool.into_iter()
        .map(|item| (item, grade(catalogue, leaf, facet, item)))
        .collect()
}

fn text(leaf: usize, facet: Facet, language: Language, draws: &mut Draws) -> String {
    let words = leaf_words(leaf);
    let noun = match facet {
        Facet::Noun(noun) => words.nouns[usize::from(noun)],
        Facet::Style(_) | Facet::Brand(_) => *draws.pick(&[words.name, words.nouns[0]]),
    };
    let noun = language.of(noun);
    let before = match facet {
        Facet::Noun(_) => String::new(),
        Facet::Style(style) => language.of(STYLES[usize::from(style)].0).to_owned(),
        Facet::Brand(number) => brand(usize::from(number), language),
    };
    let text = match (language, before.is_empty()) {
        (_, true) => noun.to_owned(),
        (Language::En, false) => format!("{before} {noun}"),
        (Language::Zh, false) => format!("{before}{noun}"),
    };
    // People type in small letters.
    text.to_lowercase()
}
