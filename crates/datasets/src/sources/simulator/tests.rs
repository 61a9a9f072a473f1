//! Tests of the simulated shop: the same bytes for the same seed, a funnel, and signal.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use seed::Seed;
use serde_json::{Value, json};
use tables::{Event, shortlex};

use super::catalogue::{Catalogue, Language};
use super::draws::Draws;
use super::people::{DAY, N_TASTES, People};
use super::shop::Shop;
use super::{START, Simulator};
use crate::collector::Collector;
use crate::dataset::{Raw, Source, find};

fn simulate(parameters: Value, seed: u64) -> Collector {
    let dataset = match find(Simulator::NAME).unwrap().build(parameters) {
        Ok(dataset) => dataset,
        Err(error) => panic!("{error}"),
    };
    let mut rows = Collector::default();
    let root = Seed::root(seed);
    let summary = dataset.read(&Raw::default(), root, &mut rows).unwrap();
    assert_eq!(summary.n_records(), rows.interactions.len() as u64);
    rows
}

fn n_of(rows: &Collector, event: Event) -> f64 {
    let n = rows
        .interactions
        .iter()
        .filter(|row| row.event == event)
        .count();
    n as f64
}

#[test]
fn the_seed_alone_decides_every_row() {
    let parameters = json!({ "n_events": 10_000 });
    let first = simulate(parameters.clone(), 1);
    assert!(first == simulate(parameters.clone(), 1));
    assert!(first.interactions != simulate(parameters, 2).interactions);
}

#[test]
fn tables_keep_their_order_and_refer_to_what_exists() {
    let rows = simulate(json!({ "n_events": 20_000 }), 3);
    assert_eq!(rows.interactions.len(), 20_000);
    assert_eq!(rows.progress, (20_000, 20_000));
    let items: BTreeSet<&str> = rows.items.iter().map(|row| row.item_id.as_str()).collect();
    let users: BTreeSet<&str> = rows.users.iter().map(|row| row.user_id.as_str()).collect();
    let queries: BTreeSet<&str> = rows
        .queries
        .iter()
        .map(|row| row.query_id.as_str())
        .collect();
    assert!(
        rows.items
            .is_sorted_by(|a, b| shortlex(&a.item_id, &b.item_id).is_lt())
    );
    assert!(
        rows.users
            .is_sorted_by(|a, b| shortlex(&a.user_id, &b.user_id).is_lt())
    );
    assert!(
        rows.queries
            .is_sorted_by(|a, b| shortlex(&a.query_id, &b.query_id).is_lt())
    );
    assert!(rows.judgments.is_sorted_by(|a, b| {
        shortlex(&a.query_id, &b.query_id)
            .then_with(|| shortlex(&a.item_id, &b.item_id))
            .is_lt()
    }));
    for row in &rows.judgments {
        assert!(items.contains(row.item_id.as_str()) && queries.contains(row.query_id.as_str()));
    }
    assert!(rows.interactions.is_sorted_by_key(|row| row.occurred_at));
    for (row, truth) in rows.interactions.iter().zip(&rows.truth) {
        assert_eq!(row.sample_id, truth.sample_id);
        assert!(items.contains(row.item_id.as_str()));
        assert!(users.contains(row.user_id.as_deref().unwrap()));
        assert!(
            row.query_id
                .as_deref()
                .is_none_or(|query| queries.contains(query))
        );
        assert!(row.price_e4.unwrap() > 0);
    }
    assert_eq!(rows.truth.len(), rows.interactions.len());
}

#[test]
fn each_step_of_the_funnel_is_rarer_than_the_one_before() {
    let rows = simulate(json!({ "n_events": 50_000 }), 4);
    let [views, clicks, carts, purchases] =
        [Event::View, Event::Click, Event::Cart, Event::Purchase].map(|event| n_of(&rows, event));
    assert!(
        clicks < 0.6 * views && carts < 0.5 * clicks,
        "{views} {clicks} {carts}"
    );
    assert!(
        purchases < carts && purchases > 0.2 * carts,
        "{carts} {purchases}"
    );
    assert!(n_of(&rows, Event::Favorite) > 0.0);
    // Nobody buys what was not put into the cart before.
    let mut carts = BTreeSet::new();
    for row in &rows.interactions {
        let pair = (row.session_id.clone(), row.item_id.clone());
        match row.event {
            Event::Cart => drop(carts.insert(pair)),
            Event::Purchase => assert!(carts.contains(&pair), "{row:?}"),
            _ => {}
        }
    }
    // Affinity rises along the funnel.
    let mean = |event| {
        let affinities: Vec<f64> = rows
            .interactions
            .iter()
            .zip(&rows.truth)
            .filter(|(row, truth)| row.event == event && truth.kind == "genuine")
            .filter_map(|(_, truth)| truth.affinity)
            .collect();
        affinities.iter().sum::<f64>() / affinities.len() as f64
    };
    assert!(mean(Event::View) + 0.05 < mean(Event::Click));
    assert!(mean(Event::Click) + 0.05 < mean(Event::Purchase));
}

#[test]
fn higher_ranks_are_looked_at_more_often() {
    let rows = simulate(json!({ "n_events": 50_000 }), 5);
    let mut views: BTreeMap<u32, u32> = BTreeMap::new();
    for row in &rows.interactions {
        if let (Event::View, Some(rank)) = (row.event, row.shown_rank) {
            *views.entry(rank).or_default() += 1;
        }
    }
    let counts: Vec<u32> = views.into_values().collect();
    assert_eq!(counts.len(), 8);
    assert!(counts.is_sorted_by(|a, b| a > b), "{counts:?}");
}

#[test]
fn the_log_spans_its_days_and_new_items_keep_arriving() {
    let rows = simulate(json!({ "n_events": 50_000, "days": 60 }), 6);
    let day = |row: &tables::Interaction| (row.occurred_at.unwrap().0 - START) / DAY;
    let last = day(rows.interactions.last().unwrap());
    assert!((54..=66).contains(&last), "{last}");
    let mut first_seen: BTreeMap<&str, i64> = BTreeMap::new();
    for row in &rows.interactions {
        first_seen
            .entry(row.item_id.as_str())
            .or_insert_with(|| day(row));
    }
    let late = first_seen.values().filter(|&&day| day >= 30).count();
    let share = late as f64 / first_seen.len() as f64;
    // 30 % arrive later, half of them in the second half.
    assert!((0.08..0.25).contains(&share), "{share}");
}

#[test]
fn bots_scan_at_a_steady_pace_and_buy_nothing() {
    let rows = simulate(
        json!({ "n_events": 50_000, "bot_frac": 0.1, "accident_frac": 0.05 }),
        7,
    );
    let share = |kind| {
        let n = rows.truth.iter().filter(|row| row.kind == kind).count();
        n as f64 / rows.truth.len() as f64
    };
    assert!((share("bot") - 0.1).abs() < 0.01, "{}", share("bot"));
    assert!(
        (share("accident") - 0.05).abs() < 0.01,
        "{}",
        share("accident")
    );
    let mut scans: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    let mut bots = BTreeSet::new();
    for (row, truth) in rows.interactions.iter().zip(&rows.truth) {
        if truth.kind == "bot" {
            assert!(matches!(row.event, Event::View | Event::Click));
            assert_eq!(truth.affinity, None);
            bots.insert(row.user_id.as_deref().unwrap());
            let instants = scans.entry(row.session_id.as_deref().unwrap()).or_default();
            instants.push(row.occurred_at.unwrap().0);
        } else {
            let affinity = truth.affinity.unwrap();
            assert!((0.0..=1.0).contains(&affinity));
        }
    }
    assert!(scans.len() > 10);
    for instants in scans.values() {
        assert!(instants.windows(2).all(|pair| pair[1] - pair[0] == 1000));
    }
    // A bot is a bot all the time.
    for (row, truth) in rows.interactions.iter().zip(&rows.truth) {
        assert_eq!(
            truth.kind == "bot",
            bots.contains(row.user_id.as_deref().unwrap())
        );
    }
}

#[test]
fn without_bots_and_accidents_all_is_genuine() {
    let rows = simulate(
        json!({ "n_events": 10_000, "bot_frac": 0, "accident_frac": 0 }),
        8,
    );
    assert!(rows.truth.iter().all(|row| row.kind == "genuine"));
}

/// Histories without views, in order, by user.
fn histories(rows: &Collector) -> BTreeMap<&str, Vec<&str>> {
    let mut histories: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in rows
        .interactions
        .iter()
        .filter(|row| row.event != Event::View)
    {
        let items = histories
            .entry(row.user_id.as_deref().unwrap())
            .or_default();
        items.push(row.item_id.as_str());
    }
    histories
}

#[test]
fn the_last_item_tells_the_next_one_better_than_popularity() {
    let rows = simulate(json!({ "n_events": 50_000 }), 9);
    let histories = histories(&rows);
    let mut popularity: BTreeMap<&str, u32> = BTreeMap::new();
    let mut transitions: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    // Fitted on all but the last event of each user, asked for that one; repeats do not count.
    for items in histories.values() {
        for pair in items[..items.len() - 1].windows(2) {
            *popularity.entry(pair[1]).or_default() += 1;
            *transitions
                .entry(pair[0])
                .or_default()
                .entry(pair[1])
                .or_default() += 1;
        }
    }
    let best = |counts: &BTreeMap<&str, u32>, last: &str| -> BTreeSet<String> {
        let mut ranked: Vec<(u32, &str)> = counts
            .iter()
            .filter(|(item, _)| **item != last)
            .map(|(item, count)| (*count, *item))
            .collect();
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        ranked
            .iter()
            .take(10)
            .map(|(_, item)| (*item).to_owned())
            .collect()
    };
    let (mut n, mut hits_markov, mut hits_popularity) = (0, 0, 0);
    for items in histories.values() {
        if let [.., last, next] = items.as_slice()
            && last != next
        {
            n += 1;
            let top = transitions.get(last).map(|counts| best(counts, last));
            hits_markov += u32::from(top.is_some_and(|top| top.contains(*next)));
            hits_popularity += u32::from(best(&popularity, last).contains(*next));
        }
    }
    assert!(n > 300, "{n}");
    assert!(
        hits_markov > 3 * hits_popularity,
        "{hits_markov} {hits_popularity} of {n}"
    );
}

#[test]
fn staples_are_bought_again() {
    let rows = simulate(json!({ "n_events": 50_000 }), 10);
    let mut bought = BTreeMap::new();
    for row in rows
        .interactions
        .iter()
        .filter(|row| row.event == Event::Purchase)
    {
        *bought.entry((&row.user_id, &row.item_id)).or_insert(0) += 1;
    }
    let again = bought.values().filter(|&&n| n > 1).count();
    assert!(
        again as f64 > 0.05 * bought.len() as f64,
        "{again} of {}",
        bought.len()
    );
}

#[test]
fn grades_follow_what_was_asked_for() {
    let rows = simulate(json!({ "n_events": 10_000 }), 11);
    let texts: BTreeMap<&str, &str> = rows
        .queries
        .iter()
        .map(|row| (row.query_id.as_str(), row.text.as_str()))
        .collect();
    let items: BTreeMap<&str, &tables::Item> = rows
        .items
        .iter()
        .map(|row| (row.item_id.as_str(), row))
        .collect();
    let (mut full, mut named) = (0, 0);
    let mut grades = BTreeSet::new();
    for row in &rows.judgments {
        grades.insert(row.grade.to_string());
        if row.grade > 2.5 {
            let text = texts[row.query_id.as_str()];
            let title = items[row.item_id.as_str()]
                .title
                .as_ref()
                .unwrap()
                .to_lowercase();
            let word = text.split(' ').next().unwrap();
            full += 1;
            named += u32::from(title.contains(word));
        }
    }
    assert_eq!(grades.len(), 4, "{grades:?}");
    assert_eq!(
        named, full,
        "a full answer holds the first word of its query"
    );
    assert!(rows.interactions.iter().any(|row| row.query_id.is_some()));
}

#[test]
fn chinese_shops_speak_chinese() {
    let rows = simulate(json!({ "n_events": 10_000, "language": "zh" }), 12);
    let is_chinese = |text: &str| text.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
    assert!(
        rows.items
            .iter()
            .all(|row| is_chinese(row.title.as_ref().unwrap()))
    );
    assert!(
        rows.queries
            .iter()
            .filter(|row| is_chinese(&row.text))
            .count()
            + 2
            > rows.queries.len()
    );
    let english = simulate(json!({ "n_events": 10_000 }), 12);
    assert!(
        english
            .items
            .iter()
            .all(|row| row.title.as_ref().unwrap().is_ascii())
    );
    // Language changes words, never events.
    assert!(rows.interactions == english.interactions);
}

#[test]
fn tastes_drift_the_further_the_longer() {
    let catalogue = Catalogue::new(400, 365 * DAY, Language::En, Seed::root(13));
    let mut people = People::new(4_000, 0, 365 * DAY, &catalogue, Seed::root(13));
    let mut draws = Draws::new(Seed::root(13));
    // Those who are there from the start.
    let users: Vec<u32> = (0..4_000)
        .filter(|&user| people.persons[user as usize].joins == 0)
        .collect();
    let tastes = |people: &People| -> Vec<[u8; N_TASTES]> {
        let tastes = |user: &u32| people.persons[*user as usize].tastes;
        users.iter().map(tastes).collect()
    };
    let at_first = tastes(&people);
    // Share of the first tastes that are still held, by days gone.
    let mut kept_after = |days: i64| {
        for &user in &users {
            people.drift(user, days * DAY, &mut draws);
        }
        let (mut n, mut kept) = (0, 0);
        for (before, now) in at_first.iter().zip(tastes(&people)) {
            n += before.len();
            kept += before.iter().filter(|leaf| now.contains(leaf)).count();
        }
        f64::from(u32::try_from(kept).unwrap()) / f64::from(u32::try_from(n).unwrap())
    };
    let kept = [0, 10, 40, 120, 360].map(&mut kept_after);
    assert!((kept[0] - 1.0).abs() < 1e-12);
    assert!(kept.windows(2).all(|pair| pair[1] < pair[0]), "{kept:?}");
    // One taste in four gives way every 40 days or so: within ten days a twentieth.
    assert!((0.90..0.97).contains(&kept[1]), "{kept:?}");
    // After a year what is held is held by chance.
    assert!(kept[4] < 0.3, "{kept:?}");
}

#[test]
fn people_click_on_other_categories_after_months() {
    let rows = simulate(
        json!({ "n_events": 60_000, "n_users": 300, "days": 240, "bot_frac": 0, "accident_frac": 0 }),
        14,
    );
    let category: BTreeMap<&str, &str> = rows
        .items
        .iter()
        .map(|row| (row.item_id.as_str(), row.category.as_deref().unwrap()))
        .collect();
    // Clicks by user, 40 days, and category.
    let mut counts: BTreeMap<(&str, i64), BTreeMap<&str, f64>> = BTreeMap::new();
    for row in rows
        .interactions
        .iter()
        .filter(|row| row.event == Event::Click)
    {
        let window = (row.occurred_at.unwrap().0 - START) / (40 * DAY);
        let user = row.user_id.as_deref().unwrap();
        let of_user = counts.entry((user, window)).or_default();
        *of_user.entry(category[row.item_id.as_str()]).or_default() += 1.0;
    }
    let cosine = |a: &BTreeMap<&str, f64>, b: &BTreeMap<&str, f64>| {
        let norm = |x: &BTreeMap<&str, f64>| x.values().map(|n| n * n).sum::<f64>().sqrt();
        let product: f64 = a
            .iter()
            .map(|(leaf, n)| n * b.get(leaf).unwrap_or(&0.0))
            .sum();
        product / (norm(a) * norm(b))
    };
    let mean = |gap: i64| {
        let pairs = counts.iter().filter_map(|((user, window), of_user)| {
            let other = counts.get(&(user, window + gap))?;
            Some(cosine(of_user, other))
        });
        let cosines: Vec<f64> = pairs.collect();
        assert!(cosines.len() > 100);
        cosines.iter().sum::<f64>() / cosines.len() as f64
    };
    let (near, far) = (mean(1), mean(4));
    assert!(near > 1.25 * far, "{near} {far}");
}

#[test]
fn what_is_clicked_on_is_shown_more_from_the_next_day_on() {
    let catalogue = Catalogue::new(400, 100 * DAY, Language::En, Seed::root(15));
    let mut shop = Shop::new(&catalogue);
    // The least popular of those that are there from the start: its weight has no novelty.
    let leaf = 0;
    let item = *catalogue.leaves[leaf]
        .iter()
        .filter(|item| catalogue.product(**item).arrives == 0)
        .min_by(|a, b| {
            shop.weight(&catalogue, **a)
                .total_cmp(&shop.weight(&catalogue, **b))
        })
        .unwrap();
    let share = |shop: &Shop| {
        let mut draws = Draws::new(Seed::root(16));
        let shown = (0..20_000).filter(|_| shop.draw(&catalogue, leaf, &mut draws) == item);
        shown.count() as f64 / 20_000.0
    };
    let before = share(&shop);
    for _ in 0..999 {
        shop.click(item);
    }
    // Popularity is brought up to date once a day.
    shop.pass_time(&catalogue, DAY - 1);
    assert!((share(&shop) - before).abs() < 1e-12);
    let weight = |shop: &Shop| shop.weight(&catalogue, item);
    let unclicked = weight(&Shop::new(&catalogue));
    shop.pass_time(&catalogue, DAY);
    let after = share(&shop);
    // A thousand clicks and the one that everybody has: 1000^0.3 = 7.94 times the weight. The rich
    // get richer, but not without bound.
    assert!((weight(&shop) / unclicked - libm::pow(1000.0, 0.3)).abs() < 1e-9);
    assert!(
        after > 2.0 * before && after < 7.95 * before,
        "{before} {after}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Shops of any shape are simulated to the end.
    #[test]
    fn any_shop_gives_exactly_its_events(
        n_users in 10_u32..3000,
        n_items in 30_u32..3000,
        days in 1_u32..400,
        bot_frac in 0.0..0.5,
        accident_frac in 0.0..0.3,
        seed in any::<u64>(),
    ) {
        let rows = simulate(json!({
            "n_events": 10_000, "n_users": n_users, "n_items": n_items, "days": days,
            "bot_frac": bot_frac, "accident_frac": accident_frac,
        }), seed);
        prop_assert_eq!(rows.interactions.len(), 10_000);
        prop_assert_eq!(rows.items.len(), n_items as usize);
        prop_assert!(rows.interactions.is_sorted_by_key(|row| row.occurred_at));
    }
}
