//! Published figures that the count models must reproduce to four decimals: Amazon Beauty as S3-Rec
//! published it, leave-one-out, full ranking over all items, seen items excluded, mid-rank ties.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its data fails"
)]

use std::collections::BTreeSet;
use std::path::Path;

use metrics::{Place, Ranks};
use stage::{Io, Label, Stage};
use tables::{
    CatalogueEntry, Event, NOT_RANKED, Origin, Part, Prediction, Request, Sample, SampleId,
    SequenceEvent,
};
use train::Train;

/// The raw log, if the folder of shared data lies beside the project.
fn log() -> Option<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let path = folder.join("data/amazon_beauty/Beauty.txt");
    std::fs::read_to_string(path).ok()
}

/// Users' items in order, as numbers of the raw log.
fn parse(log: &str) -> Vec<Vec<u32>> {
    log.lines()
        .map(|line| {
            let numbers = line.split(' ').skip(1);
            numbers.map(|number| number.parse().unwrap()).collect()
        })
        .collect()
}

/// Writes what `split` makes of the log by leave-one-out.
fn split(users: &[Vec<u32>], directory: &Path) {
    let training: BTreeSet<u32> = users
        .iter()
        .flat_map(|items| &items[..items.len() - 2])
        .copied()
        .collect();
    let all: BTreeSet<u32> = users.iter().flatten().copied().collect();
    let unseen = all.difference(&training);
    let order: Vec<u32> = training.iter().chain(unseen).copied().collect();
    let mut numbers = vec![0_u32; all.last().map_or(0, |last| *last as usize + 1)];
    for (number, item) in (0..).zip(&order) {
        numbers[*item as usize] = number;
    }
    let write = |table: &str| {
        let path = directory.join(table);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let catalogue = (0_u32..).zip(&order).map(|(item, id)| CatalogueEntry {
        item,
        item_id: id.to_string(),
        known_at: None,
        in_vocabulary: (item as usize) < training.len(),
    });
    tables::write_all(&write("catalogue"), catalogue).unwrap();

    let mut events = Vec::new();
    let mut samples = Vec::new();
    let mut requests = Vec::new();
    let mut ordinal = 0;
    for (sequence, items) in (0_u32..).zip(users) {
        let n = u32::try_from(items.len()).unwrap();
        for (position, item) in (0_u32..).zip(items) {
            let item = numbers[*item as usize];
            let sample_id = SampleId::new(0, ordinal, 0).unwrap().0;
            ordinal += 1;
            let part = match n - position {
                1 => Part::Test,
                2 => Part::ValuationFit,
                _ => Part::Training,
            };
            events.push(SequenceEvent {
                sequence,
                position,
                item,
                event: Event::Purchase,
                occurred_at: None,
                sample_id,
                part,
            });
            if part == Part::Training {
                samples.push(Sample {
                    sample_id,
                    sequence,
                    position,
                    history_end: position,
                    item,
                    event: Event::Purchase,
                    occurred_at: None,
                    label: 1.0,
                    weight: 1.0,
                    origin: Origin::Observed,
                });
            } else {
                requests.push(Request {
                    request: 0,
                    part,
                    sequence,
                    history_end: position,
                    requested_at: None,
                    relevant: vec![item],
                });
            }
        }
    }
    requests.sort_by_key(|request| (request.part, request.sequence));
    for (number, request) in (0..).zip(&mut requests) {
        request.request = number;
    }
    tables::write_all(&write("sequences"), events).unwrap();
    tables::write_all(&write("samples"), samples).unwrap();
    tables::write_all(&write("requests"), requests).unwrap();
}

/// HR@10, NDCG@10 and MRR@10 on test, to four decimals.
fn figures(model: &str, inputs: &Path, out: &Path) -> [String; 3] {
    let config = stage::yaml::parse(&format!("{{ model: {model}, seen: exclude }}"), "t").unwrap();
    let mut io = Io::new(out, "data");
    for role in ["samples", "sequences", "requests", "catalogue"] {
        io = io.with_input(role, Label::default(), inputs.join(role));
    }
    Train::run(&config, &io).unwrap();
    let rows: Vec<Prediction> = tables::read_all(&out.join("predictions")).unwrap();
    let mut sums = [0.0; 3];
    let mut n = 0;
    for row in rows.iter().filter(|row| row.part == Part::Test) {
        n += 1;
        let places = row.better.iter().zip(&row.tied);
        let ranks = Ranks::middle(places.map(|(&better, &tied)| {
            assert_ne!(better, NOT_RANKED, "every item of the file is a candidate");
            Some(Place::new(better, tied))
        }));
        sums[0] += ranks.hit_rate(10);
        sums[1] += ranks.ndcg(10);
        sums[2] += ranks.reciprocal_rank(10);
    }
    assert_eq!(n, 22_363);
    sums.map(|sum| format!("{:.4}", sum / f64::from(n)))
}

#[test]
fn amazon_beauty_gives_the_published_figures() {
    let Some(log) = log() else {
        #[expect(clippy::print_stderr, reason = "a skipped test says so")]
        {
            eprintln!("skipped: the folder `shared/data/amazon_beauty` is absent");
        }
        return;
    };
    let users = parse(&log);
    assert_eq!(users.len(), 22_363);
    assert_eq!(users.iter().map(Vec::len).sum::<usize>(), 198_502);
    let directory = tempfile::tempdir().unwrap();
    split(&users, directory.path());
    for (index, (model, expected)) in [
        ("popularity", ["0.0110", "0.0053", "0.0035"]),
        ("markov", ["0.0666", "0.0439", "0.0369"]),
        (
            "{ name: itemknn, neighbours: 20 }",
            ["0.0563", "0.0325", "0.0252"],
        ),
        (
            "{ name: itemknn, neighbours: 0 }",
            ["0.0568", "0.0325", "0.0251"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let out = directory.path().join(format!("out{index}"));
        assert_eq!(figures(model, directory.path(), &out), expected, "{model}");
    }
}
