//! k-core of a bipartite log, over dense numbers.
//!
//! *Single pass* counts users and items once and keeps the events of those that reach their
//! threshold. *Iterative* repeats until nothing changes: what remains is the largest set of events
//! in which every user and item reaches its threshold, which does not depend on the order of work.

use crate::config::{KCore, KCoreKind};

/// Marks the events that stay. `users` and `items` are dense numbers, one per event.
pub(crate) fn k_core(users: &[u32], items: &[u32], k: KCore) -> Vec<bool> {
    let mut keep = vec![true; users.len()];
    if k.kind == KCoreKind::None {
        return keep;
    }
    let size = |numbers: &[u32]| numbers.iter().max().map_or(0, |max| *max as usize + 1);
    let (n_users, n_items) = (size(users), size(items));
    loop {
        let mut of_user = vec![0_u32; n_users];
        let mut of_item = vec![0_u32; n_items];
        for event in (0..users.len()).filter(|&event| keep[event]) {
            of_user[users[event] as usize] += 1;
            of_item[items[event] as usize] += 1;
        }
        let mut n_dropped = 0_u64;
        for event in 0..users.len() {
            if keep[event]
                && (of_user[users[event] as usize] < k.users
                    || of_item[items[event] as usize] < k.items)
            {
                keep[event] = false;
                n_dropped += 1;
            }
        }
        if n_dropped == 0 || k.kind == KCoreKind::SinglePass {
            return keep;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn core(kind: KCoreKind, users: u32, items: u32) -> KCore {
        KCore { kind, users, items }
    }

    #[test]
    fn one_pass_can_leave_rare_users_behind() {
        // Item 9 occurs once; without it user 1 has one event left.
        let users = [0, 0, 1, 1];
        let items = [5, 6, 5, 9];
        let k = core(KCoreKind::SinglePass, 2, 2);
        assert_eq!(k_core(&users, &items, k), [true, false, true, false]);
        let k = core(KCoreKind::Iterative, 2, 2);
        assert_eq!(k_core(&users, &items, k), [false; 4]);
    }

    #[test]
    fn none_keeps_everything() {
        assert_eq!(
            k_core(&[0, 1], &[0, 0], core(KCoreKind::None, 9, 9)),
            [true; 2]
        );
    }

    /// Drops one offending event's user or item at a time, in another order than the code.
    fn by_hand(pairs: &[(u32, u32)], k: KCore) -> Vec<bool> {
        let mut keep = vec![true; pairs.len()];
        loop {
            let count = |of: &dyn Fn(&(u32, u32)) -> bool, keep: &[bool]| {
                pairs
                    .iter()
                    .zip(keep)
                    .filter(|(pair, keep)| **keep && of(pair))
                    .count()
            };
            let offending = (0..pairs.len()).rev().find(|&event| {
                let (user, item) = pairs[event];
                keep[event]
                    && (count(&|pair| pair.0 == user, &keep) < k.users as usize
                        || count(&|pair| pair.1 == item, &keep) < k.items as usize)
            });
            match offending {
                Some(event) => keep[event] = false,
                None => return keep,
            }
        }
    }

    proptest! {
        #[test]
        fn the_iterative_core_is_the_largest(
            pairs in proptest::collection::vec((0_u32..6, 0_u32..6), 0..40),
            users in 1_u32..4,
            items in 1_u32..4,
        ) {
            let k = core(KCoreKind::Iterative, users, items);
            let (u, i): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
            prop_assert_eq!(k_core(&u, &i, k), by_hand(&pairs, k));
        }
    }
}
