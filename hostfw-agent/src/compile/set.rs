//! Sets of prefixes that rules ask for.

use std::{cmp::Ordering, collections::HashMap, ops::Deref, sync::Arc};

use hostfw_common::endpoint::Family;
use ipnet::IpNet;

use super::{
    digest::{Digest, Digester},
    prefix::Prefix,
};

/// Prefixes, sorted, none within another. A copy is the same allocation.
#[derive(Clone)]
pub(super) struct Set {
    inner: Arc<Inner>,
}

struct Inner {
    prefixes: Vec<Prefix>,
    digest: Digest,
}

impl Set {
    /// A value that lies in any of the prefixes lies in the set.
    pub(super) fn new(mut prefixes: Vec<Prefix>) -> Self {
        if !prefixes.is_sorted() {
            prefixes.sort_unstable();
        }
        // Sorted, what another one contains comes behind it and before all
        // that it does not contain.
        let mut last: Option<Prefix> = None;
        prefixes.retain(|&prefix| {
            let keep = last.is_none_or(|last| !last.contains(prefix));
            if keep {
                last = Some(prefix);
            }
            keep
        });
        let mut digester = Digester::new(1);
        for prefix in &prefixes {
            prefix.digest(&mut digester);
        }
        let digest = digester.finish();
        Self {
            inner: Arc::new(Inner { prefixes, digest }),
        }
    }

    /// Those of the networks that are of the family.
    pub(super) fn of_family(nets: &[IpNet], family: Family) -> Self {
        nets.iter()
            .filter_map(|net| Prefix::net(net, family))
            .collect()
    }

    /// Of equal sets the same.
    pub(super) fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// Prefixes that only one of the two has.
    pub(super) fn differing<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Prefix> + 'a {
        let mut a = self.iter().copied().peekable();
        let mut b = other.iter().copied().peekable();
        std::iter::from_fn(move || {
            loop {
                let (first, second) = match (a.peek(), b.peek()) {
                    (Some(first), Some(second)) => (*first, *second),
                    _ => return a.next().or_else(|| b.next()),
                };
                match first.cmp(&second) {
                    Ordering::Less => return a.next(),
                    Ordering::Greater => return b.next(),
                    Ordering::Equal => {
                        a.next();
                        b.next();
                    }
                }
            }
        })
    }

    /// Prefixes that contain this one, or that it contains.
    pub(super) fn touching(&self, place: Prefix) -> impl Iterator<Item = Prefix> + '_ {
        let within = self.partition_point(|&prefix| prefix < place);
        let above = within.checked_sub(1).map(|last| self[last]);
        let above = above.filter(|prefix| prefix.contains(place));
        let within = self[within..].iter().copied();
        above
            .into_iter()
            .chain(within.take_while(move |&prefix| place.contains(prefix)))
    }

    /// Whether a value is in the set, which no prefix is longer than.
    pub(super) fn contains(&self, value: Prefix) -> bool {
        let behind = self.partition_point(|&prefix| prefix <= value);
        behind
            .checked_sub(1)
            .is_some_and(|last| self[last].contains(value))
    }
}

impl Deref for Set {
    type Target = [Prefix];

    fn deref(&self) -> &[Prefix] {
        &self.inner.prefixes
    }
}

impl PartialEq for Set {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest()
    }
}

impl Eq for Set {}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl FromIterator<Prefix> for Set {
    fn from_iter<I: IntoIterator<Item = Prefix>>(prefixes: I) -> Self {
        Self::new(prefixes.into_iter().collect())
    }
}

/// The sets of networks that many rules share, from one compilation to the
/// next.
#[derive(Default)]
pub(super) struct Sets {
    /// By where the networks are, which nothing else can be while they are
    /// kept here.
    known: HashMap<(usize, Family), Known>,
    round: u64,
}

struct Known {
    nets: Arc<[IpNet]>,
    set: Set,
    /// When it was last asked for.
    round: u64,
}

impl Sets {
    /// Those of the networks that are of the family.
    pub(super) fn of(&mut self, nets: &Arc<[IpNet]>, family: Family) -> Set {
        let known = self
            .known
            .entry((nets.as_ptr().addr(), family))
            .or_insert_with(|| Known {
                nets: Arc::clone(nets),
                set: Set::of_family(nets, family),
                round: 0,
            });
        if known.nets.len() != nets.len() {
            // Allocations without elements may be at one place.
            return Set::of_family(nets, family);
        }
        known.round = self.round;
        known.set.clone()
    }

    /// Forgets what nothing has asked for since the last time.
    pub(super) fn forget_unused(&mut self) {
        let round = self.round;
        self.known.retain(|_, known| known.round == round);
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Set {
        texts
            .iter()
            .map(|text| Prefix::net(&text.parse().unwrap(), Family::V4).unwrap())
            .collect()
    }

    #[test]
    fn what_another_prefix_contains_is_left_out_in_any_order() {
        let set = nets(&[
            "192.0.2.1/32",
            "10.1.0.0/16",
            "10.0.0.0/8",
            "192.0.2.1/32",
            "10.255.0.0/32",
            "11.0.0.0/32",
        ]);
        let same = nets(&["10.0.0.0/8", "11.0.0.0/32", "192.0.2.1/32"]);
        assert_eq!(*set, *same);
        assert_eq!(set, same);
        assert_eq!(set.len(), 3);
        assert_ne!(set, nets(&["10.0.0.0/8", "11.0.0.0/32"]));
        assert_ne!(nets(&["10.0.0.0/8"]), nets(&["10.0.0.0/9"]));
        assert_ne!(nets(&[]), nets(&["0.0.0.0/0"]));
    }

    #[test]
    fn differing_prefixes_are_those_of_one_set_only() {
        let a = nets(&["10.0.0.0/8", "172.16.0.0/12", "192.0.2.1/32"]);
        let b = nets(&["10.0.0.0/8", "172.16.0.0/16", "198.51.100.0/24"]);
        let differing: Set = a.differing(&b).collect();
        // The /16 lies in the /12.
        let expected = nets(&["172.16.0.0/12", "192.0.2.1/32", "198.51.100.0/24"]);
        assert_eq!(*differing, *expected);
        assert_eq!(a.differing(&b).count(), 4);
        assert_eq!(a.differing(&a).count(), 0);
        assert_eq!(a.differing(&nets(&[])).count(), 3);
    }

    #[test]
    fn touching_is_what_lies_above_and_below() {
        let set = nets(&[
            "9.0.0.0/8",
            "10.0.0.0/8",
            "11.0.0.0/16",
            "11.9.0.0/16",
            "12.0.0.0/8",
        ]);
        let touching = |text: &str| set.touching(nets(&[text])[0]).collect::<Set>();
        assert_eq!(*touching("10.1.0.0/16"), *nets(&["10.0.0.0/8"]));
        assert_eq!(*touching("10.0.0.0/8"), *nets(&["10.0.0.0/8"]));
        assert_eq!(
            *touching("11.0.0.0/8"),
            *nets(&["11.0.0.0/16", "11.9.0.0/16"])
        );
        assert_eq!(*touching("13.0.0.0/8"), *nets(&[]));
        assert_eq!(touching("0.0.0.0/0").len(), 5);
    }

    #[test]
    fn contains_what_lies_in_some_prefix() {
        let set = nets(&["10.0.0.0/8", "192.0.2.1/32"]);
        let contains = |text: &str| set.contains(nets(&[text])[0]);
        assert!(contains("10.0.0.0/32") && contains("10.255.255.255/32"));
        assert!(contains("192.0.2.1/32"));
        assert!(!contains("11.0.0.0/32") && !contains("9.255.255.255/32"));
        assert!(!contains("192.0.2.0/32") && !contains("192.0.2.2/32"));
        assert!(!nets(&[]).contains(Prefix::ALL));
        assert!(nets(&["0.0.0.0/0"]).contains(Prefix::ALL));
    }

    #[test]
    fn the_same_networks_are_one_set_for_as_long_as_they_are_asked_for() {
        let nets = |text: &str| -> Arc<[IpNet]> { [text.parse().unwrap()].into() };
        let (a, b) = (nets("10.0.0.0/8"), nets("10.0.0.0/8"));
        let mut sets = Sets::default();
        let same = |a: &Set, b: &Set| Arc::ptr_eq(&a.inner, &b.inner);
        let first = sets.of(&a, Family::V4);
        assert!(same(&first, &sets.of(&a, Family::V4)));
        assert!(!same(&first, &sets.of(&b, Family::V4)));
        assert!(sets.of(&a, Family::V6).is_empty());
        sets.forget_unused();
        assert!(same(&first, &sets.of(&a, Family::V4)));
        sets.forget_unused();
        assert_eq!(sets.known.len(), 1);
        sets.forget_unused();
        assert_eq!(sets.known.len(), 0);
        assert_eq!(first, sets.of(&a, Family::V4));
    }
}
