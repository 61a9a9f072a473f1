//! Exact Shapley values of the K-nearest-neighbour game for points that share distances.
//!
//! A query ranks N training points by distance, nearest first; some of them *match* it (carry its
//! label). The utility of a coalition is the share of matches among its K nearest, divided by K
//! even where the coalition is smaller. Theorem 1 of Jia et al. (arXiv:1908.08619), with
//! min(K, N) / N for the farthest point, gives the value s of the point at rank i from that at rank i + 1:
//!
//! s(i) = s(i+1) + (m(i) − m(i+1)) / K · min(K, i) / i,   m(N+1) = s(N+1) = 0,
//!
//! where m(i) is 1 for a match and 0 otherwise. So s changes only beside matches: with matches at
//! ranks P(1) < ... < P(M), every other point between P(t) and P(t+1) has the value
//!
//! v(t) = − Σ over u > t with P(u) > K of 1 / (P(u) (P(u) − 1)),
//!
//! the match at P(t) has s = v(t) + 1 / max(K, P(t)), and v(M) = 0. (Going down over a match adds
//! min(K, P) / (K P) and then takes min(K, P−1) / (K (P−1)) away: nothing for P ≤ K, 1 / (P (P−1)) above.)
//!
//! What has to be found is therefore only how many points lie between matches, not a whole ranking:
//! [`Grouping`] holds points that share a distance together, and a query costs
//! O(groups · log matches + points at exactly a match's distance · log matches).
//!
//! Ties are in a stable order: points of equal distance are ranked by their number.

/// Which points share a distance to every query.
#[derive(Clone, Debug)]
pub struct Grouping {
    /// Group of each point: `[points]`.
    of_point: Vec<u32>,
    /// Start of each group in `members`, and the end of the last: `[groups + 1]`.
    starts: Vec<usize>,
    /// Points by group, ascending within a group: `[points]`.
    members: Vec<u32>,
}

impl Grouping {
    /// Groups points by the group number of each.
    ///
    /// # Panics
    /// If a group number is not below `n_groups`, or there are 2^32 points or more.
    pub fn new(of_point: Vec<u32>, n_groups: usize) -> Self {
        let n_points = u32::try_from(of_point.len()).expect("fewer than 2^32 points");
        let mut starts = vec![0_usize; n_groups + 1];
        for &group in &of_point {
            starts[group as usize + 1] += 1;
        }
        for group in 0..n_groups {
            starts[group + 1] += starts[group];
        }
        let mut next = starts.clone();
        let mut members = vec![0_u32; of_point.len()];
        for point in 0..n_points {
            let at = &mut next[of_point[point as usize] as usize];
            members[*at] = point;
            *at += 1;
        }
        Self {
            of_point,
            starts,
            members,
        }
    }

    /// Every point a group of its own.
    ///
    /// # Panics
    /// If there are 2^32 points or more.
    pub fn singletons(n_points: usize) -> Self {
        let end = u32::try_from(n_points).expect("fewer than 2^32 points");
        Self::new((0..end).collect(), n_points)
    }

    /// Number of points.
    pub fn n_points(&self) -> usize {
        self.of_point.len()
    }

    /// Number of groups.
    pub fn n_groups(&self) -> usize {
        self.starts.len() - 1
    }

    /// Group of a point.
    ///
    /// # Panics
    /// If there is no such point.
    pub fn of(&self, point: u32) -> u32 {
        self.of_point[point as usize]
    }

    /// Points of a group, ascending.
    ///
    /// # Panics
    /// If there is no such group.
    pub fn members(&self, group: usize) -> &[u32] {
        &self.members[self.starts[group]..self.starts[group + 1]]
    }
}

/// Sums of values over queries: what a whole group got, and what single points got beside it.
#[derive(Clone, Debug)]
pub struct Values {
    per_group: Vec<f64>,
    per_point: Vec<f64>,
}

impl Values {
    /// Zeros.
    pub fn new(grouping: &Grouping) -> Self {
        Self {
            per_group: vec![0.0; grouping.n_groups()],
            per_point: vec![0.0; grouping.n_points()],
        }
    }

    /// Back to zeros.
    pub fn clear(&mut self) {
        self.per_group.fill(0.0);
        self.per_point.fill(0.0);
    }

    /// Adds other sums.
    pub fn add(&mut self, other: &Self) {
        for (sum, value) in self.per_group.iter_mut().zip(&other.per_group) {
            *sum += value;
        }
        for (sum, value) in self.per_point.iter_mut().zip(&other.per_point) {
            *sum += value;
        }
    }

    /// Sum of one point.
    ///
    /// # Panics
    /// If there is no such point.
    pub fn of(&self, grouping: &Grouping, point: u32) -> f64 {
        self.per_group[grouping.of(point) as usize] + self.per_point[point as usize]
    }
}

/// Marks a group at exactly the distance of a match: its points are told apart by number.
const TIED: u32 = u32::MAX;

/// Memory that one query after another uses again.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Matches, nearest first.
    ranked: Vec<(f64, u32)>,
    /// Distinct closeness of matches, falling, with the number of matches before each.
    levels: Vec<(f64, usize)>,
    /// Matches before each group, or [`TIED`].
    before: Vec<u32>,
    /// Points of tied groups that are no matches, with the matches before each.
    tied: Vec<(u32, u32)>,
    /// Points that are no matches, by the number of matches before them: `[matches + 1]`.
    between: Vec<usize>,
    /// Value of those points: `[matches + 1]`.
    value: Vec<f64>,
}

/// Adds `weight` times the Shapley values of one query's game to `values`.
///
/// `closeness` is larger for nearer groups (minus a distance, or a similarity) and has no NaN;
/// `matches` are the distinct points that carry the query's label, in any order; `neighbours` is K.
///
/// # Shapes
/// - `closeness`: `[groups]`
///
/// # Panics
/// If `neighbours` is 0, `closeness` is shorter than the number of groups, or a match is no point.
pub fn add_shapley(
    grouping: &Grouping,
    closeness: &[f64],
    matches: impl IntoIterator<Item = u32>,
    neighbours: usize,
    weight: f64,
    scratch: &mut Scratch,
    values: &mut Values,
) {
    assert!(neighbours > 0, "at least one neighbour");
    rank_matches(grouping, closeness, matches, scratch);
    if scratch.ranked.is_empty() {
        // Nobody can change a utility that is always zero.
        return;
    }
    place_points(grouping, closeness, scratch);

    // From the farthest match to the nearest: `rank` is that of match t, counted from 1.
    let n_matches = scratch.ranked.len();
    scratch.value.clear();
    scratch.value.resize(n_matches + 1, 0.0);
    let mut rank = grouping.n_points();
    for t in (1..=n_matches).rev() {
        rank -= scratch.between[t];
        let value = scratch.value[t];
        let (_, point) = scratch.ranked[t - 1];
        values.per_point[point as usize] += weight * (value + 1.0 / rank.max(neighbours) as f64);
        scratch.value[t - 1] = if rank > neighbours {
            value - 1.0 / (rank as f64 * (rank - 1) as f64)
        } else {
            value
        };
        rank -= 1;
    }
    for (sum, &before) in values.per_group.iter_mut().zip(&scratch.before) {
        if before != TIED {
            *sum += weight * scratch.value[before as usize];
        }
    }
    for &(point, before) in &scratch.tied {
        values.per_point[point as usize] += weight * scratch.value[before as usize];
    }
}

/// Sorts matches by (closeness falling, number) and notes the distinct levels of closeness.
fn rank_matches(
    grouping: &Grouping,
    closeness: &[f64],
    matches: impl IntoIterator<Item = u32>,
    scratch: &mut Scratch,
) {
    scratch.ranked.clear();
    scratch.ranked.extend(matches.into_iter().map(|point| {
        // Adding zero makes minus zero plus zero: the order below tells them apart.
        (closeness[grouping.of(point) as usize] + 0.0, point)
    }));
    scratch
        .ranked
        .sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scratch.levels.clear();
    for (index, &(level, _)) in scratch.ranked.iter().enumerate() {
        if scratch.levels.last().is_none_or(|&(last, _)| last > level) {
            scratch.levels.push((level, index));
        }
    }
}

/// Counts, for every point that is no match, the matches before it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "there are no more matches than points, and `Grouping` numbers these in 32 bits"
)]
fn place_points(grouping: &Grouping, closeness: &[f64], scratch: &mut Scratch) {
    let Scratch {
        ranked,
        levels,
        before,
        tied,
        between,
        ..
    } = scratch;
    before.clear();
    tied.clear();
    between.clear();
    between.resize(ranked.len() + 1, 0);
    let start_of = |level: usize| levels.get(level).map_or(ranked.len(), |&(_, start)| start);
    for (group, own) in closeness[..grouping.n_groups()].iter().enumerate() {
        // As for matches: minus zero is zero.
        let own = own + 0.0;
        let nearer = levels.partition_point(|&(level, _)| level > own);
        let start = start_of(nearer);
        if levels.get(nearer).is_none_or(|&(level, _)| level < own) {
            before.push(start as u32);
            between[start] += grouping.members(group).len();
            continue;
        }
        before.push(TIED);
        let level = &ranked[start..start_of(nearer + 1)];
        for &point in grouping.members(group) {
            let smaller = level.partition_point(|&(_, other)| other < point);
            if level.get(smaller).is_some_and(|&(_, other)| other == point) {
                continue;
            }
            tied.push((point, (start + smaller) as u32));
            between[start + smaller] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Values by the recursion over a whole ranking.
    fn by_recursion(distance: &[f64], is_match: &[bool], k: usize) -> Vec<f64> {
        let n = distance.len();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| distance[a].total_cmp(&distance[b]));
        let y = |rank: usize| f64::from(u8::from(is_match[order[rank - 1]]));
        let mut values = vec![0.0; n];
        let mut s = y(n) * k.min(n) as f64 / (n * k) as f64;
        values[order[n - 1]] = s;
        for i in (1..n).rev() {
            s += (y(i) - y(i + 1)) / k as f64 * k.min(i) as f64 / i as f64;
            values[order[i - 1]] = s;
        }
        values
    }

    /// Values by their definition: all coalitions.
    fn by_coalitions(distance: &[f64], is_match: &[bool], k: usize) -> Vec<f64> {
        let n = distance.len();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| distance[a].total_cmp(&distance[b]));
        let utility = |coalition: u32| {
            let nearest = order.iter().filter(|&&i| coalition >> i & 1 == 1).take(k);
            nearest.filter(|&&i| is_match[i]).count() as f64 / k as f64
        };
        let binomial = |n: usize, r: usize| {
            (0..r).fold(1.0, |product, i| product * (n - i) as f64 / (i + 1) as f64)
        };
        (0..n)
            .map(|i| {
                (0..1_u32 << n)
                    .filter(|coalition| coalition >> i & 1 == 0)
                    .map(|coalition| {
                        let size = coalition.count_ones() as usize;
                        let gain = utility(coalition | 1 << i) - utility(coalition);
                        gain / (n as f64 * binomial(n - 1, size))
                    })
                    .sum()
            })
            .collect()
    }

    /// Values by this module, for distances that groups share.
    fn by_groups(group: &[u32], distance: &[f64], is_match: &[bool], k: usize) -> Vec<f64> {
        let grouping = Grouping::new(group.to_vec(), distance.len());
        let closeness: Vec<f64> = distance.iter().map(|distance| -distance).collect();
        let mut values = Values::new(&grouping);
        let matches = (0..).zip(is_match).filter(|(_, is_match)| **is_match);
        add_shapley(
            &grouping,
            &closeness,
            matches.map(|(point, _)| point),
            k,
            1.0,
            &mut Scratch::default(),
            &mut values,
        );
        (0..)
            .take(group.len())
            .map(|point| values.of(&grouping, point))
            .collect()
    }

    fn assert_close(found: &[f64], wanted: &[f64], tolerance: f64) {
        assert_eq!(found.len(), wanted.len());
        for (index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
            assert!(
                (found - wanted).abs() <= tolerance,
                "point {index}: {found} is not {wanted}"
            );
        }
    }

    /// Points in groups, a distance per group from a small grid so that groups tie, and matches.
    fn games(n: usize) -> impl Strategy<Value = (Vec<u32>, Vec<f64>, Vec<bool>, usize)> {
        (1..=n).prop_flat_map(move |n| {
            let groups = (n / 2).max(1);
            (
                prop::collection::vec(0..u32::try_from(groups).unwrap(), n),
                prop::collection::vec((0_u8..4).prop_map(f64::from), groups),
                prop::collection::vec(any::<bool>(), n),
                1..n + 4,
            )
        })
    }

    proptest! {
        #[test]
        fn values_are_those_of_all_coalitions((group, distance, is_match, k) in games(8)) {
            let of_point: Vec<f64> = group.iter().map(|&g| distance[g as usize]).collect();
            let wanted = by_coalitions(&of_point, &is_match, k);
            assert_close(&by_recursion(&of_point, &is_match, k), &wanted, 1e-14);
            assert_close(&by_groups(&group, &distance, &is_match, k), &wanted, 1e-14);
        }

        #[test]
        fn values_are_those_of_the_recursion((group, distance, is_match, k) in games(300)) {
            let of_point: Vec<f64> = group.iter().map(|&g| distance[g as usize]).collect();
            let wanted = by_recursion(&of_point, &is_match, k);
            assert_close(&by_groups(&group, &distance, &is_match, k), &wanted, 1e-13);
        }

        #[test]
        fn values_sum_to_the_utility_of_all((group, distance, is_match, k) in games(100)) {
            let mut order: Vec<usize> = (0..group.len()).collect();
            order.sort_by(|&a, &b| {
                distance[group[a] as usize].total_cmp(&distance[group[b] as usize])
            });
            let nearest = order.iter().take(k).filter(|&&i| is_match[i]).count();
            let sum: f64 = by_groups(&group, &distance, &is_match, k).iter().sum();
            prop_assert!((sum - nearest as f64 / k as f64).abs() < 1e-12);
        }
    }

    #[test]
    fn more_neighbours_than_points_divide_by_k() {
        // Every match adds 1/K to any coalition.
        let values = by_groups(&[0, 1, 2], &[0.1, 0.2, 0.3], &[true, false, true], 8);
        assert_close(&values, &[0.125, 0.0, 0.125], 1e-16);
    }

    #[test]
    fn zero_and_minus_zero_are_one_distance() {
        let one = by_groups(&[0, 1, 2], &[0.0, -0.0, 0.0], &[true, false, true], 1);
        let other = by_groups(&[0, 1, 2], &[0.0, 0.0, 0.0], &[true, false, true], 1);
        assert_eq!(one, other);
    }
}
