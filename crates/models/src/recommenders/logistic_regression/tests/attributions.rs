//! What predictions rest on: gradients by features, features exchanged, left out and scaled.

use super::*;

#[test]
fn gradient_x_input_is_the_weight_times_the_feature_and_integrates_in_one_step() {
    let (samples, sequences) = built(&ring(30, 9, 12), |_| 1.0);
    let data = TrainingData::new(&samples, &sequences, 12).unwrap();
    let model = fit(&data);
    let history: [u32; 4] = [3, 4, 5, 5];
    let relevant: &[u32] = &[6, 2];
    let asked = [
        (History::of(&history), relevant),
        (History::of(&[]), relevant),
    ];
    let found = model.attribute(&asked, 1);
    assert_eq!(found[1], None);
    let found = found[0].clone().unwrap();
    let mut scores = vec![0.0; 12];
    model.score(None, History::of(&history), &mut scores);
    let by_hand = |feature: usize| -> f64 {
        let of = |item: u32| {
            let rows = model.rows().of_request(&history, item);
            let x = (f64::from(rows[0][feature]) - model.scaling.means[feature])
                * model.scaling.scales[feature];
            model.weights[feature] * x
        };
        f64::midpoint(of(6), of(2))
    };
    assert_eq!(found.features.len(), N - 1);
    for (at, feature) in found.features.iter().enumerate() {
        assert_eq!(feature.feature, NAMES[at + 1].name);
        // A few products of numbers up to about 10.
        assert!((feature.gradient_x_input - by_hand(at + 1)).abs() < 1e-12);
        assert!((feature.integrated - feature.gradient_x_input).abs() < 1e-12);
    }
    assert!((found.output - f64::midpoint(scores[6], scores[2])).abs() < 1e-12);
    // Twenty summands of up to about 10.
    assert!(found.gap() < 1e-12, "{}", found.gap());
}

/// Scores with one feature exchanged, from rows that are made one by one.
fn exchanged_by_hand(
    model: &LogisticRegression,
    [own, other]: [&[u32]; 2],
    order: &[u32],
    feature: usize,
) -> Vec<f64> {
    (0_u32..)
        .zip(order)
        .map(|(item, from)| {
            let mut row = model.rows().of_request(own, item)[0];
            row[feature] = model.rows().of_request(other, *from)[0][feature];
            model.scaling.margin(&model.weights, &row)
        })
        .collect()
}

#[test]
fn exchanging_a_feature_gives_the_scores_of_rows_with_it_replaced() {
    let (samples, sequences) = built(&ring(30, 9, 12), |_| 1.0);
    let data = TrainingData::new(&samples, &sequences, 12).unwrap();
    let model = fit(&data);
    let (own, other): ([u32; 3], [u32; 4]) = ([3, 4, 5], [7, 0, 9, 9]);
    let order: Vec<u32> = (0..12).map(|item| (item * 5 + 3) % 12).collect();
    let mut n = 0;
    let mut take = |feature: Option<usize>, scores: &[f64], loss: f64| {
        n += 1;
        let wanted = if let Some(feature) = feature {
            exchanged_by_hand(&model, [&own, &other], &order, feature + 1)
        } else {
            let mut scores = vec![0.0; 12];
            model.score(None, History::of(&own), &mut scores);
            assert_eq!(loss.to_bits(), model.loss(History::of(&own), 6).to_bits());
            scores
        };
        let bits = |scores: &[f64]| scores.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(scores), bits(&wanted), "{feature:?}");
    };
    model.exchanged(
        History::of(&own),
        History::of(&other),
        &order,
        &[6],
        &mut take,
    );
    assert_eq!(n, N);
}

#[test]
fn a_feature_left_out_weighs_nothing_and_factors_of_1_change_no_bit() {
    let (samples, sequences) = built(&ring(30, 9, 12), |_| 1.0);
    let data = TrainingData::new(&samples, &sequences, 12).unwrap();
    let whole = fit(&data);
    let with = |weights: &[(&str, f64)]| {
        let weights = weights.iter().map(|(name, w)| ((*name).to_owned(), *w));
        let weights = crate::features::FeatureWeights::new(weights);
        fit(&data.with_features(&weights))
    };
    let bits = |model: &LogisticRegression| model.weights.map(f64::to_bits);
    let ones: Vec<(&str, f64)> = NAMES.iter().map(|name| (name.name, 1.0)).collect();
    assert_eq!(bits(&with(&ones)), bits(&whole));

    let at = |name: &str| NAMES.iter().position(|x| x.name == name).unwrap();
    let left_out = at("log_transitions");
    let without = with(&[("log_transitions", 0.0)]);
    assert!(whole.weights[left_out].abs() > 1e-3);
    assert!(without.weights[left_out].abs() <= 0.0);
    let mut scores = [vec![0.0; 12], vec![0.0; 12]];
    without.score(None, History::of(&[3, 4]), &mut scores[0]);
    whole.score(None, History::of(&[3, 4]), &mut scores[1]);
    assert_ne!(scores[0], scores[1]);

    // Half of a feature with a quarter of the penalty on its weight would be the same; with the whole
    // penalty it does less.
    let half = with(&[("log_transitions", 0.5)]);
    let effect = |model: &LogisticRegression| {
        (model.weights[left_out] * model.scaling.scales[left_out]).abs()
    };
    assert!(effect(&half) < effect(&whole) && effect(&half) > 0.0);
}
