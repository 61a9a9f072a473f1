//! Protocols in words: what several figures have in common is said once.

/// The clauses that all of some protocols share, and what each says beyond them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clauses {
    /// Shared clauses, joined; empty if there are none.
    pub(crate) shared: String,
    /// The rest of each protocol, in their order.
    pub(crate) own: Vec<String>,
}

impl Clauses {
    /// Factors protocols whose clauses are joined by `; `.
    pub(crate) fn of<S: AsRef<str>>(protocols: &[S]) -> Self {
        let split: Vec<Vec<&str>> = protocols
            .iter()
            .map(|protocol| {
                let clauses = protocol.as_ref().split("; ").map(str::trim);
                clauses.filter(|clause| !clause.is_empty()).collect()
            })
            .collect();
        let Some((first, others)) = split.split_first() else {
            return Self::default();
        };
        let shared: Vec<&str> = first
            .iter()
            .copied()
            .filter(|clause| others.iter().all(|other| other.contains(clause)))
            .collect();
        let own = split.iter().map(|clauses| {
            let rest = clauses
                .iter()
                .copied()
                .filter(|clause| !shared.contains(clause));
            rest.collect::<Vec<_>>().join("; ")
        });
        Self {
            own: own.collect(),
            shared: shared.join("; "),
        }
    }
}

/// Protocols that end alike, with what they share: written as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Family {
    /// Which protocols, ascending.
    pub(crate) members: Vec<usize>,
    /// What they share, and what each says beyond it.
    pub(crate) clauses: Clauses,
}

/// Groups protocols by their last clause, in order of first use.
pub(crate) fn families<S: AsRef<str>>(protocols: &[S]) -> Vec<Family> {
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    for (index, protocol) in protocols.iter().enumerate() {
        let last = protocol.as_ref().rsplit("; ").next().unwrap_or_default();
        match groups.iter_mut().find(|(known, _)| *known == last) {
            Some((_, members)) => members.push(index),
            None => groups.push((last, vec![index])),
        }
    }
    groups
        .into_iter()
        .map(|(_, members)| {
            let texts: Vec<&str> = members
                .iter()
                .map(|index| protocols[*index].as_ref())
                .collect();
            Family {
                clauses: Clauses::of(&texts),
                members,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_clauses_are_said_once() {
        let clauses = Clauses::of(&[
            "hits / k; full ranking; mid-ranks",
            "1 / rank; full ranking; mid-ranks",
        ]);
        assert_eq!(clauses.shared, "full ranking; mid-ranks");
        assert_eq!(clauses.own, ["hits / k", "1 / rank"]);
        let one = Clauses::of(&["a; b"]);
        assert_eq!((one.shared.as_str(), one.own[0].as_str()), ("a; b", ""));
        assert_eq!(Clauses::of::<&str>(&[]), Clauses::default());
    }

    #[test]
    fn protocols_that_end_alike_are_a_family() {
        let found = families(&["hits; full", "share of requests", "rank; full"]);
        let members: Vec<_> = found.iter().map(|family| family.members.clone()).collect();
        assert_eq!(members, [vec![0, 2], vec![1]]);
        assert_eq!(found[0].clauses.shared, "full");
        assert_eq!(found[1].clauses.shared, "share of requests");
    }
}
