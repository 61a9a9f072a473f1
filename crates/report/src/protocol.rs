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

/// Protocols that share something, with what they share: written as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Family {
    /// Which protocols, ascending.
    pub(crate) members: Vec<usize>,
    /// What they share, and what each says beyond it.
    pub(crate) clauses: Clauses,
}

/// Groups protocols by the clause that most of them share, then the rest by theirs, and so on; in
/// order of their first members.
pub(crate) fn families<S: AsRef<str>>(protocols: &[S]) -> Vec<Family> {
    let mut left: Vec<usize> = (0..protocols.len()).collect();
    let mut families = Vec::new();
    while let Some(first) = left.first().copied() {
        let holders = |clause: &str| -> Vec<usize> {
            let holds = |index: &usize| {
                protocols[*index]
                    .as_ref()
                    .split("; ")
                    .any(|it| it == clause)
            };
            left.iter().copied().filter(holds).collect()
        };
        let members = left
            .iter()
            .flat_map(|index| protocols[*index].as_ref().split("; "))
            .map(holders)
            // The first of equals: later ones must be larger.
            .reduce(|most, next| if next.len() > most.len() { next } else { most })
            .filter(|members| members.len() > 1)
            .unwrap_or_else(|| vec![first]);
        left.retain(|index| !members.contains(index));
        let texts: Vec<&str> = members
            .iter()
            .map(|index| protocols[*index].as_ref())
            .collect();
        families.push(Family {
            clauses: Clauses::of(&texts),
            members,
        });
    }
    families.sort_by_key(|family| family.members[0]);
    families
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
    fn protocols_that_share_a_clause_are_a_family() {
        let found = families(&["hits; full; tested", "share of requests", "rank; full"]);
        let members: Vec<_> = found.iter().map(|family| family.members.clone()).collect();
        assert_eq!(members, [vec![0, 2], vec![1]]);
        assert_eq!(found[0].clauses.shared, "full");
        assert_eq!(found[1].clauses.shared, "share of requests");
    }
}
