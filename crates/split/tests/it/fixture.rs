//! Runs the stage on events and reads what it wrote.

use std::collections::BTreeMap;
use std::path::Path;

use split::{Config, Split};
use stage::{Io, Label, Stage};
use tables::{
    CatalogueEntry, CleanEvent, Event, Instant, Item, Part, ProfileEntry, Request, Row, Sample,
    SampleId, read_all, shortlex, write_all,
};

pub(crate) const DAY: i64 = 86_400_000;

pub(crate) fn event(ordinal: u64, user: &str, item: &str, day: Option<i64>) -> CleanEvent {
    CleanEvent {
        sample_id: SampleId::new(0, ordinal, 0).unwrap().0,
        user_id: user.to_owned(),
        item_id: item.to_owned(),
        event: Event::Purchase,
        occurred_at: day.map(|day| Instant(day * DAY)),
        session: 0,
        value: None,
        price_e4: None,
        query_id: None,
        shown_rank: None,
    }
}

pub(crate) struct Outcome(tempfile::TempDir);

impl Outcome {
    pub(crate) fn rows<R: Row>(&self, role: &str) -> Vec<R> {
        read_all(&self.0.path().join("out").join(role)).unwrap()
    }

    pub(crate) fn bytes(&self) -> BTreeMap<String, Vec<u8>> {
        let roles = Split::description().outputs;
        let file = |role: &str| if role == "oracle" { "scores" } else { role }.to_owned();
        let roles = roles.iter().map(|output| output.role);
        roles
            .map(|role| {
                let path = format!("out/{role}/{}.parquet", file(role));
                (
                    role.to_owned(),
                    std::fs::read(self.0.path().join(path)).unwrap(),
                )
            })
            .collect()
    }

    /// (item of the sample, length of its history) by ordinal.
    pub(crate) fn samples(&self) -> BTreeMap<u64, (String, u32)> {
        let names: Vec<String> = self
            .rows::<CatalogueEntry>("catalogue")
            .into_iter()
            .map(|entry| entry.item_id)
            .collect();
        self.rows::<Sample>("samples")
            .into_iter()
            .map(|row| {
                let ordinal = SampleId(row.sample_id).ordinal();
                (ordinal, (names[row.item as usize].clone(), row.history_end))
            })
            .collect()
    }

    /// (part, user number, length of history, relevant items) in order.
    pub(crate) fn requests(&self) -> Vec<(Part, u32, u32, Vec<String>)> {
        let catalogue = self.rows::<CatalogueEntry>("catalogue");
        self.rows::<Request>("requests")
            .into_iter()
            .map(|row| {
                let relevant = row.relevant.iter();
                let relevant = relevant.map(|item| catalogue[*item as usize].item_id.clone());
                (row.part, row.sequence, row.history_end, relevant.collect())
            })
            .collect()
    }

    pub(crate) fn figure(&self, name: &str, part: &str) -> f64 {
        let rows = self.rows::<ProfileEntry>("profile");
        let row = rows.iter().find(|row| row.name == name && row.part == part);
        row.unwrap().value
    }
}

pub(crate) fn try_run(
    mut events: Vec<CleanEvent>,
    config: &str,
) -> Result<Outcome, stage::Failure> {
    let folder = tempfile::tempdir().unwrap();
    let directory = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    events.sort_by(|a, b| {
        shortlex(&a.user_id, &b.user_id)
            .then(a.occurred_at.cmp(&b.occurred_at))
            .then(a.sample_id.cmp(&b.sample_id))
    });
    write_all(&directory("events"), events).unwrap();
    write_all::<Item>(&directory("items"), []).unwrap();
    let config: Config = stage::yaml::parse(config, "test")?;
    Split::check(&config, &stage::Offers::new())?;
    let at = |name: &str| folder.path().join(name);
    let io = Io::new(at("out"), Path::new("data"))
        .with_input("events", Label::default(), at("events"))
        .with_input("items", Label::default(), at("items"));
    Split::run(&config, &io)?;
    Ok(Outcome(folder))
}

pub(crate) fn run(events: Vec<CleanEvent>, config: &str) -> Outcome {
    try_run(events, config).unwrap_or_else(|failure| panic!("{failure}"))
}
