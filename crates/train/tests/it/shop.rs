//! A small shop as `split` would write it, a folder that holds it, and runs of the stage in there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use stage::{Failure, Io, Label, Seed, Stage};
use tables::{
    CatalogueEntry, Event, Instant, ItemFeatures, Origin, Part, Request, Sample, Score,
    SequenceEvent, Suspect,
};
use train::Train;

pub(crate) const N_USERS: u32 = 60;
pub(crate) const N_VOCABULARY: u32 = 40;
/// The last two are first seen after the cut.
pub(crate) const N_ITEMS: u32 = 42;
pub(crate) const CUT: i64 = 1000;

/// The tables that `split` would write.
pub(crate) struct Shop {
    pub(crate) samples: Vec<Sample>,
    pub(crate) sequences: Vec<SequenceEvent>,
    pub(crate) requests: Vec<Request>,
    pub(crate) catalogue: Vec<CatalogueEntry>,
    pub(crate) item_features: Vec<ItemFeatures>,
}

pub(crate) fn number(n: u64) -> u32 {
    u32::try_from(n).unwrap()
}

/// Users with baskets of items at equal instants before the cut, and purchases after it.
pub(crate) fn shop() -> Shop {
    let mut draws = Seed::root(7).child("shop").sequence();
    let mut shop = Shop {
        samples: Vec::new(),
        sequences: Vec::new(),
        requests: Vec::new(),
        catalogue: Vec::new(),
        item_features: Vec::new(),
    };
    for sequence in 0..N_USERS {
        let mut at = i64::from(sequence);
        let (mut position, mut history_end) = (0, 0);
        // The last user has no history.
        let n_baskets = if sequence + 1 == N_USERS {
            0
        } else {
            1 + draws.below(6)
        };
        for _ in 0..n_baskets {
            at += 1 + i64::try_from(draws.below(100)).unwrap();
            for _ in 0..=draws.below(3) {
                let low = draws
                    .below(u64::from(N_VOCABULARY))
                    .min(draws.below(u64::from(N_VOCABULARY)));
                let item = number(low);
                let sample_id = u64::from(sequence) * 100 + u64::from(position);
                shop.sequences
                    .push(event(sequence, position, item, at, Part::Training));
                shop.samples.push(Sample {
                    sample_id,
                    sequence,
                    position,
                    history_end,
                    item,
                    event: Event::Purchase,
                    occurred_at: Some(Instant(at)),
                    label: 1.0,
                    weight: 1.0,
                    origin: Origin::Observed,
                });
                position += 1;
            }
            history_end = position;
        }
        let n_before = position;
        let mut relevant: Vec<u32> = (0..=draws.below(4))
            .map(|_| number(draws.below(u64::from(N_ITEMS))))
            .collect();
        relevant.sort_unstable();
        relevant.dedup();
        for item in &relevant {
            shop.sequences
                .push(event(sequence, position, *item, CUT + 5, Part::Test));
            position += 1;
        }
        shop.requests.push(Request {
            request: 0,
            part: [Part::ValuationFit, Part::ValuationTune, Part::Test][sequence as usize % 3],
            sequence,
            history_end: n_before,
            requested_at: Some(Instant(CUT)),
            relevant,
        });
    }
    shop.requests
        .sort_by_key(|request| (request.part, request.sequence));
    for (number, request) in (0..).zip(&mut shop.requests) {
        request.request = number;
    }
    for item in 0..N_ITEMS {
        let in_vocabulary = item < N_VOCABULARY;
        shop.catalogue.push(CatalogueEntry {
            item,
            item_id: format!("i{item}"),
            known_at: Some(Instant(if in_vocabulary { 0 } else { CUT + 5 })),
            in_vocabulary,
        });
        shop.item_features.push(ItemFeatures {
            item,
            title: Some(format!(
                "{} 杯子 mug {item}",
                ["red", "blue"][item as usize % 2]
            )),
            category: Some("kitchen > mugs".to_owned()),
            brand: None,
            attributes: Vec::new(),
            price_e4: None,
            price_z: 0.0,
            popularity_z: 0.0,
        });
    }
    shop
}

pub(crate) fn event(sequence: u32, position: u32, item: u32, at: i64, part: Part) -> SequenceEvent {
    SequenceEvent {
        sequence,
        position,
        item,
        event: Event::Purchase,
        occurred_at: Some(Instant(at)),
        sample_id: u64::from(sequence) * 100 + u64::from(position),
        part,
    }
}

/// A folder with the tables of a shop and a place for outputs.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new(shop: Shop) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder };
        tables::write_all(&place.make("samples"), shop.samples).unwrap();
        tables::write_all(&place.make("sequences"), shop.sequences).unwrap();
        tables::write_all(&place.make("requests"), shop.requests).unwrap();
        tables::write_all(&place.make("catalogue"), shop.catalogue).unwrap();
        tables::write_all(&place.make("item_features"), shop.item_features).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn make(&self, name: &str) -> PathBuf {
        std::fs::create_dir_all(self.path(name)).unwrap();
        self.path(name)
    }

    /// Inputs and outputs of a run with further inputs.
    pub(crate) fn io(&self, out: &str, further: &[(&str, PathBuf)]) -> Io {
        let mut io = Io::new(self.path(out), "data");
        for role in [
            "samples",
            "sequences",
            "requests",
            "catalogue",
            "item_features",
        ] {
            io = io.with_input(role, Label::default(), self.path(role));
        }
        for (role, path) in further {
            io = io.with_input(role, Label::default(), path);
        }
        io
    }

    /// Runs the stage with further inputs and returns the directory of its outputs.
    pub(crate) fn run(
        &self,
        out: &str,
        config: &str,
        further: &[(&str, PathBuf)],
    ) -> Result<PathBuf, Failure> {
        let config = stage::yaml::parse(config, "test.yaml")?;
        Train::run(&config, &self.io(out, further))?;
        Ok(self.path(out))
    }
}

/// Bytes of all files below a directory, by name.
pub(crate) fn bytes(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(bytes(&path));
        } else {
            let name = path
                .strip_prefix(directory.parent().unwrap())
                .unwrap()
                .to_owned();
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
    files
}

pub(crate) fn scores(
    shop: &Shop,
    place: &Place,
    name: &str,
    score: impl Fn(&Sample) -> Option<f64>,
) -> PathBuf {
    let directory = place.make(name);
    let mut rows: Vec<Score> = shop
        .samples
        .iter()
        .map(|sample| Score {
            method: "oracle".to_owned(),
            sample_id: sample.sample_id,
            score: score(sample),
            std_error: None,
            n_updates: 1,
            suspect: Suspect::Low,
        })
        .collect();
    rows.sort_by_key(|row| row.sample_id);
    tables::write_all(&directory, rows).unwrap();
    directory
}
