//! Requests and the predictions that answer them, checked against each other.

use std::collections::{BTreeMap, BTreeSet};

use metrics::{Place, Ranks};
use stage::{Exit, Failure, Io, Label, Labelled, suggest};
use tables::{NOT_RANKED, Part, Prediction, Request};

use crate::Config;
use crate::figures::Figures;
use crate::group::Group;

/// Length of the lists that coverage looks at.
pub(crate) const COVERED: usize = 10;

/// A metric of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    HitRate,
    Precision,
    Recall,
    F1,
    Ndcg,
    Mrr,
    Map,
}

/// A metric at a cut-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MetricAt(pub(crate) Kind, pub(crate) usize);

impl MetricAt {
    pub(crate) fn name(self) -> String {
        let name = match self.0 {
            Kind::HitRate if self.1 == 1 => return "accuracy".to_owned(),
            Kind::HitRate => "hit_rate",
            Kind::Precision => "precision",
            Kind::Recall => "recall",
            Kind::F1 => "f1",
            Kind::Ndcg => "ndcg",
            Kind::Mrr => "mrr",
            Kind::Map => "map",
        };
        format!("{name}@{}", self.1)
    }

    /// What it is, for the protocol.
    pub(crate) fn meaning(self) -> &'static str {
        match self.0 {
            Kind::HitRate if self.1 == 1 => "share of requests whose first item is relevant",
            Kind::HitRate => "share of requests with a relevant item in the list",
            Kind::Precision => "hits / k",
            Kind::Recall => "hits / relevant",
            Kind::F1 => "2 hits / (k + relevant), per request",
            Kind::Ndcg => "binary gains, ideal list of min(k, relevant)",
            Kind::Mrr => "1 / rank of the first hit, else 0",
            Kind::Map => "average precision over min(k, relevant)",
        }
    }

    pub(crate) fn value(self, ranks: &Ranks) -> f64 {
        match self.0 {
            Kind::HitRate => ranks.hit_rate(self.1),
            Kind::Precision => ranks.precision(self.1),
            Kind::Recall => ranks.recall(self.1),
            Kind::F1 => ranks.f1(self.1),
            Kind::Ndcg => ranks.ndcg(self.1),
            Kind::Mrr => ranks.reciprocal_rank(self.1),
            Kind::Map => ranks.average_precision(self.1),
        }
    }
}

/// Which relevant items of which requests are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// All of them.
    All,
    /// Items outside the history, ranked among candidates outside it.
    New,
    /// Items of the history, ranked among all candidates.
    Repeat,
    /// Requests without history.
    Cold,
}

impl Segment {
    pub(crate) const ALL: [Self; 4] = [Self::All, Self::New, Self::Repeat, Self::Cold];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::New => "new",
            Self::Repeat => "repeat",
            Self::Cold => "cold",
        }
    }

    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::All => "all relevant items among all candidates",
            Self::New => "relevant items outside the history among candidates outside it",
            Self::Repeat => "relevant items of the history among all candidates",
            Self::Cold => "requests without history",
        }
    }
}

/// One answered request: what is needed of a prediction.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) history_length: u32,
    pub(crate) relevant: Vec<u32>,
    pub(crate) is_repeat: Vec<bool>,
    places: Vec<Option<Place>>,
    places_new: Vec<Option<Place>>,
    /// The first [`COVERED`] items.
    pub(crate) top: Vec<u32>,
    pub(crate) n_candidates: u32,
    /// Whether nothing was predicted, so that every relevant item counts as a miss.
    pub(crate) is_missing: bool,
}

impl Answer {
    /// Ranks of the relevant items of a segment; `None` if the request is not of it.
    pub(crate) fn ranks(&self, segment: Segment) -> Option<Ranks> {
        let of = |wanted: bool, places: &[Option<Place>]| {
            let pairs = self.is_repeat.iter().zip(places);
            Ranks::middle(
                pairs
                    .filter(|(repeat, _)| **repeat == wanted)
                    .map(|(_, place)| *place),
            )
        };
        let ranks = match segment {
            Segment::Cold if self.history_length > 0 => return None,
            Segment::All | Segment::Cold => Ranks::middle(self.places.iter().copied()),
            Segment::New => of(false, &self.places_new),
            Segment::Repeat => of(true, &self.places),
        };
        (!ranks.is_empty()).then_some(ranks)
    }

    /// Relevant items that are no candidates.
    pub(crate) fn n_cold(&self) -> usize {
        self.places.iter().filter(|place| place.is_none()).count()
    }

    /// The same request, unanswered: every relevant item is a miss.
    fn missed(&self) -> Self {
        Self {
            places: vec![None; self.relevant.len()],
            places_new: vec![None; self.relevant.len()],
            top: Vec::new(),
            is_missing: true,
            ..self.clone()
        }
    }
}

/// What one input answered.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) label: Label,
    /// By request, in the order of the requests. Where this input has nothing, the relevant items
    /// are misses; `None` for requests of parts that no input predicted.
    pub(crate) by_request: Vec<Option<Answer>>,
    /// Requests of predicted parts that this input left out.
    pub(crate) n_missing: u64,
}

/// The inputs of one role and their grouping.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) inputs: Vec<Answers>,
    pub(crate) groups: Vec<Group>,
}

impl Answered {
    /// Figures of a group, averaged over replicates.
    pub(crate) fn figures(
        &self,
        requests: &Requests,
        group: &Group,
        part: Part,
        segment: Segment,
        metrics: &[MetricAt],
    ) -> Result<(Figures, Vec<Figures>), Failure> {
        let replicates = group
            .members
            .iter()
            .map(|&input| requests.figures(&self.inputs[input], part, segment, metrics))
            .collect::<Result<Vec<_>, _>>()?;
        Ok((Figures::average(&replicates)?, replicates))
    }
}

/// All requests.
#[derive(Debug)]
pub(crate) struct Requests {
    pub(crate) rows: Vec<Request>,
    index: BTreeMap<u32, usize>,
    /// Items of the training part, where the catalogue is wired.
    pub(crate) n_vocabulary: Option<usize>,
}

impl Requests {
    /// Reads requests and catalogue.
    pub(crate) fn read(io: &Io) -> Result<Self, Failure> {
        let rows: Vec<Request> = tables::read_all(io.input("requests")?).map_err(Failure::data)?;
        let index: BTreeMap<u32, usize> = rows
            .iter()
            .enumerate()
            .map(|(index, row)| (row.request, index))
            .collect();
        if index.len() != rows.len() {
            return Err(Failure::new(Exit::Data, "`requests` holds a request twice")
                .hint("make the split again"));
        }
        let n_vocabulary = match io.optional("catalogue") {
            None => None,
            Some(directory) => {
                let mut n = 0;
                for entry in
                    tables::rows::<tables::CatalogueEntry>(directory).map_err(Failure::data)?
                {
                    n += usize::from(entry.map_err(Failure::data)?.in_vocabulary);
                }
                Some(n)
            }
        };
        Ok(Self {
            rows,
            index,
            n_vocabulary,
        })
    }

    /// Parts with answers, the judging one first.
    pub(crate) fn parts(&self, answered: &Answered) -> Vec<Part> {
        [Part::Test, Part::ValuationTune, Part::ValuationFit]
            .into_iter()
            .filter(|&part| {
                answered.inputs.iter().any(|input| {
                    let pairs = self.rows.iter().zip(&input.by_request);
                    pairs
                        .into_iter()
                        .any(|(row, answer)| row.part == part && answer.is_some())
                })
            })
            .collect()
    }

    /// Reads the base predictions.
    pub(crate) fn base(&self, io: &Io) -> Result<Answered, Failure> {
        let answered = self.answered(io, "predictions")?;
        if answered.inputs.is_empty() {
            return Err(Failure::new(
                Exit::Configuration,
                "input `predictions` is missing",
            ));
        }
        Ok(answered)
    }

    /// Reads predictions after acting, and checks what the configuration says of them.
    pub(crate) fn acted(&self, io: &Io, config: &Config) -> Result<Answered, Failure> {
        let answered = self.answered(io, "acted")?;
        let known: Vec<&str> = answered
            .groups
            .iter()
            .map(|group| group.node.as_str())
            .collect();
        for node in config.arms.keys().chain(&config.oracle) {
            if !known.contains(&node.as_str()) {
                let mut known = known.clone();
                known.dedup();
                return Err(Failure::new(
                    Exit::Configuration,
                    format!("no node `{node}` is wired to `acted`"),
                )
                .hint(suggest(node, known)));
            }
        }
        Ok(answered)
    }

    fn answered(&self, io: &Io, role: &str) -> Result<Answered, Failure> {
        let mut inputs = Vec::new();
        for input in io.many(role) {
            inputs.push(self.read_answers(role, input)?);
        }
        self.fill(&mut inputs);
        let groups = Group::of(inputs.iter().map(|input| &input.label), role);
        Ok(Answered { inputs, groups })
    }

    /// Makes requests that an input left out misses, from what other inputs say of them.
    fn fill(&self, inputs: &mut [Answers]) {
        let mut known: Vec<Option<Answer>> = vec![None; self.rows.len()];
        for input in &*inputs {
            for (slot, answer) in known.iter_mut().zip(&input.by_request) {
                if slot.is_none() {
                    *slot = answer.as_ref().map(Answer::missed);
                }
            }
        }
        let parts: BTreeSet<Part> = {
            let pairs = self.rows.iter().zip(&known);
            pairs
                .filter(|(_, known)| known.is_some())
                .map(|(row, _)| row.part)
                .collect()
        };
        for (row, slot) in self.rows.iter().zip(&mut known) {
            // Nobody answered this one, but its part was to be answered.
            if slot.is_none() && parts.contains(&row.part) {
                *slot = Some(Answer {
                    history_length: row.history_end,
                    relevant: row.relevant.clone(),
                    is_repeat: vec![false; row.relevant.len()],
                    places: vec![None; row.relevant.len()],
                    places_new: vec![None; row.relevant.len()],
                    top: Vec::new(),
                    n_candidates: 0,
                    is_missing: true,
                });
            }
        }
        for input in inputs {
            for (answer, known) in input.by_request.iter_mut().zip(&known) {
                if answer.is_none() && known.is_some() {
                    input.n_missing += 1;
                    answer.clone_from(known);
                }
            }
        }
    }

    fn read_answers(&self, role: &str, input: &Labelled) -> Result<Answers, Failure> {
        let mut by_request: Vec<Option<Answer>> = vec![None; self.rows.len()];
        for prediction in tables::rows::<Prediction>(&input.path).map_err(Failure::data)? {
            let prediction = prediction.map_err(Failure::data)?;
            let wrong = |what: String| {
                Failure::new(
                    Exit::Data,
                    format!(
                        "`{role}` [{}] does not fit `requests`: request {} {what}",
                        input.label, prediction.request
                    ),
                )
                .cause(format!(
                    "file `{}`",
                    input.path.join("predictions.parquet").display()
                ))
                .hint("wire `requests` and predictions of the same split")
            };
            let index = *self
                .index
                .get(&prediction.request)
                .ok_or_else(|| wrong("is unknown".to_owned()))?;
            let request = &self.rows[index];
            if request.part != prediction.part {
                return Err(wrong(format!(
                    "is of part `{}`, not `{}`",
                    request.part, prediction.part
                )));
            }
            if by_request[index].is_some() {
                return Err(wrong("is answered twice".to_owned()));
            }
            by_request[index] = Some(answer(prediction.clone(), request).map_err(wrong)?);
        }
        Ok(Answers {
            label: input.label.clone(),
            by_request,
            n_missing: 0,
        })
    }

    /// Metrics of the requests of a part and segment.
    pub(crate) fn figures(
        &self,
        answers: &Answers,
        part: Part,
        segment: Segment,
        metrics: &[MetricAt],
    ) -> Result<Figures, Failure> {
        let mut members = Vec::new();
        let mut columns = metrics::Columns::new(metrics.len());
        for (index, (row, answer)) in self.rows.iter().zip(&answers.by_request).enumerate() {
            let ranks = answer.as_ref().and_then(|answer| answer.ranks(segment));
            if let Some(ranks) = ranks.filter(|_| row.part == part) {
                let values: Vec<f64> = metrics.iter().map(|metric| metric.value(&ranks)).collect();
                columns.push(&values).map_err(Failure::bug)?;
                members.push(index);
            }
        }
        Ok(Figures { members, columns })
    }
}

/// Checks a prediction against its request.
fn answer(prediction: Prediction, request: &Request) -> Result<Answer, String> {
    let n = prediction.relevant.len();
    let lengths = [
        prediction.better.len(),
        prediction.tied.len(),
        prediction.is_repeat.len(),
        prediction.better_new.len(),
        prediction.tied_new.len(),
    ];
    if lengths.iter().any(|&length| length != n) {
        return Err("has lists of different lengths".to_owned());
    }
    if let Some(item) = prediction
        .relevant
        .iter()
        .find(|item| request.relevant.binary_search(item).is_err())
    {
        return Err(format!("lists item {item} as relevant, which it is not"));
    }
    if prediction
        .relevant
        .windows(2)
        .any(|pair| pair[0] >= pair[1])
    {
        return Err("lists relevant items out of order".to_owned());
    }
    let places = |better: &[u32], tied: &[u32]| {
        let pairs = better.iter().zip(tied);
        pairs
            .map(|(&better, &tied)| {
                if better == NOT_RANKED {
                    return Ok(None);
                }
                // The item itself is a candidate beside the better and the tied ones.
                if u64::from(better) + u64::from(tied) >= u64::from(prediction.n_candidates) {
                    return Err(format!(
                        "has {better} better and {tied} tied among {} candidates",
                        prediction.n_candidates
                    ));
                }
                Ok(Some(Place::new(better, tied)))
            })
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(Answer {
        places: places(&prediction.better, &prediction.tied)?,
        places_new: places(&prediction.better_new, &prediction.tied_new)?,
        history_length: prediction.history_length,
        n_candidates: prediction.n_candidates,
        is_missing: false,
        relevant: prediction.relevant,
        is_repeat: prediction.is_repeat,
        top: prediction.top_items.into_iter().take(COVERED).collect(),
    })
}
