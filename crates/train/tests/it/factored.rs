//! What the stage gives of matrix factorisations and of trainings that are taken back.

use stage::{Offers, Stage};
use tables::{Part, ProbeBlockInfluence, ProbeGradient, ProbeUnrolled};
use train::Train;

use crate::shop::{Place, bytes, shop};

const MODELS: [&str; 3] = [
    "{ name: bpr, dimensions: 4, epochs: 6 }",
    "{ name: ials, dimensions: 4, epochs: 3 }",
    "{ name: logistic_regression, regularisation: 0.01 }",
];

const ALL: &str = "mode: probe\nseed: 5\ngradients: { unrolled: true }\n";

fn checked(config: &str, offers: &Offers) -> Result<Offers, stage::Failure> {
    Train::check(&stage::yaml::parse(config, "t").unwrap(), offers)
}

#[test]
fn a_probe_tells_of_gradients_blocks_and_the_training_what_it_offers() {
    let of_threads = [1, 2].map(|threads| {
        let place = Place::new(shop());
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| {
            for (at, model) in MODELS.iter().enumerate() {
                let fit = format!("model: {model}\nseed: 5\n");
                let out = place.run(&format!("fit-{at}"), &fit, &[]).unwrap();
                let fitted = [("model", out.join("model"))];
                place.run(&format!("probe-{at}"), ALL, &fitted).unwrap();
            }
        });
        let files: Vec<_> = (0..MODELS.len())
            .map(|at| bytes(&place.path(&format!("probe-{at}"))))
            .collect();
        (place, files)
    });
    assert_eq!(of_threads[0].1, of_threads[1].1);
    let place = &of_threads[0].0;
    for (at, model) in MODELS.iter().enumerate() {
        let probe = place.path(&format!("probe-{at}")).join("probe");
        let rows: Vec<ProbeUnrolled> = tables::read_all(&probe).unwrap();
        assert_eq!(rows.len(), shop().samples.len());
        assert!(rows.is_sorted_by(|a, b| a.sample_id < b.sample_id));
        assert!(rows.iter().all(|row| row.part == Part::ValuationFit));
        let falls = || rows.iter().filter_map(|row| row.fall);
        assert!(
            falls().any(|fall| fall > 0.0) && falls().any(|fall| fall < 0.0),
            "{model}"
        );
        let is_factored = at < 2;
        let has = |name: &str| probe.join(format!("{name}.parquet")).exists();
        assert_eq!(has("probe_block_influence"), is_factored);
        assert_eq!(has("probe_gradients"), is_factored);
        if is_factored {
            let blocks: Vec<ProbeBlockInfluence> = tables::read_all(&probe).unwrap();
            let gradients: Vec<ProbeGradient> = tables::read_all(&probe).unwrap();
            for (block, gradient) in blocks.iter().zip(&gradients) {
                assert_eq!(block.sample_id, gradient.sample_id);
                assert_eq!(block.of_user.is_some(), gradient.norm.is_some());
            }
            assert!(blocks.iter().any(|block| block.of_item > Some(0.0)));
        }

        let offers = checked(&format!("model: {model}\n"), &Offers::new()).unwrap();
        let wired = Offers::from([("model".to_owned(), offers["model"].clone())]);
        let offered = |config: &str| {
            let probe = &checked(config, &wired).unwrap()["probe"][0];
            [
                "gradients",
                "block_influence",
                "unrolled",
                "trajectory",
                "projected_gradients",
            ]
            .map(|word| probe.capabilities.contains(word))
        };
        assert_eq!(offered("mode: probe\n"), [false; 5]);
        let both = is_factored;
        assert_eq!(offered(ALL), [both, both, true, false, false]);
        let some = "mode: probe\ngradients: { projection: {} }\n";
        assert_eq!(offered(some), [both, both, false, false, !is_factored]);
        let ndcg = checked("mode: probe\ngradients: { measure: ndcg }\n", &wired);
        assert!(ndcg.unwrap_err().to_string().contains("by its loss alone"));
    }
}

#[test]
fn a_training_of_another_seed_is_not_taken_back() {
    let place = Place::new(shop());
    for (at, model) in MODELS[..2].iter().enumerate() {
        let fit = format!("model: {model}\nseed: 4\n");
        let out = place.run(&format!("fit-{at}"), &fit, &[]).unwrap();
        let error = place
            .run(&format!("probe-{at}"), ALL, &[("model", out.join("model"))])
            .unwrap_err();
        assert_eq!(error.exit, stage::Exit::Configuration);
        assert!(error.to_string().contains("do not lead to this model"));
    }
}
