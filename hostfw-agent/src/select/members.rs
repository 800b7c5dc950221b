//! The addresses of many objects together, worked out from what they were
//! before where little has changed.

use std::{collections::HashMap, sync::Arc};

use ipnet::IpNet;

use super::{
    labels::{Labels, Profiles},
    matches::{LabelSets, Matched},
    workloads::Groups,
};
use crate::model::{HostEndpoint, NetworkSet, Profile, WorkloadEndpoint};

/// What selectors stood for, for [`select_with`](super::select_with).
///
/// Whatever is in it, the selections that are made with it are the same.
#[derive(Debug, Default)]
pub struct Cache {
    /// By the texts of selector and not-selector.
    pub(super) asked: HashMap<Texts, Asked>,
    round: u64,
    pub(super) groups: Groups,
    pub(super) sets: LabelSets,
    /// The profiles that give labels to what is known.
    profiles: Vec<Arc<Profile>>,
    endpoints: HashMap<usize, Known<HostEndpoint>>,
    networks: HashMap<usize, Known<NetworkSet>>,
}

/// The texts of a selector and of one that excepts.
pub(super) type Texts = (String, Option<String>);

/// What is known of a pair of selectors.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) matched: Matched,
    pub(super) union: Union,
    /// When it was last asked about.
    pub(super) round: u64,
}

/// What is known of an object for as long as it is the same: it is held, so its
/// place in memory is not given to another.
#[derive(Debug)]
struct Known<T> {
    _held: Arc<T>,
    labels: usize,
    nets: Arc<[IpNet]>,
}

impl Cache {
    /// Begins a selection, and gives its number.
    pub(super) fn begin(
        &mut self,
        workloads: &[Arc<WorkloadEndpoint>],
        profiles: &Profiles<'_>,
        objects: usize,
    ) -> u64 {
        // What is not there any more, most of it.
        let known = self.endpoints.len() + self.networks.len();
        if known > 2 * objects + 1000 || self.sets.len() > 2 * (objects + self.groups.len()) + 1000
        {
            *self = Self {
                round: self.round,
                ..Self::default()
            };
        }
        let all = profiles.all();
        let same = self.profiles.len() == all.len()
            && (self.profiles.iter().zip(all)).all(|(one, other)| Arc::ptr_eq(one, other));
        if !same {
            self.endpoints.clear();
            self.networks.clear();
            self.groups.forget_labels();
            self.profiles = all.to_vec();
        }
        self.groups.update(workloads);
        self.groups
            .label(|workload| self.sets.number(&profiles.labels_of_workload(workload)));
        self.round += 1;
        self.round
    }

    /// The number of an endpoint's labels, and its `expectedIPs`.
    pub(super) fn endpoint(
        &mut self,
        endpoint: &Arc<HostEndpoint>,
        profiles: &Profiles<'_>,
    ) -> (usize, Arc<[IpNet]>) {
        let sets = &mut self.sets;
        let known = self.endpoints.entry(Arc::as_ptr(endpoint).addr());
        let known = known.or_insert_with(|| Known {
            _held: Arc::clone(endpoint),
            labels: sets.number(&profiles.labels_of_endpoint(endpoint)),
            nets: endpoint
                .expected_ips
                .iter()
                .copied()
                .map(IpNet::from)
                .collect(),
        });
        (known.labels, Arc::clone(&known.nets))
    }

    /// The number of a set's labels, and its networks.
    pub(super) fn network(
        &mut self,
        set: &Arc<NetworkSet>,
        profiles: &Profiles<'_>,
    ) -> (usize, Arc<[IpNet]>) {
        let sets = &mut self.sets;
        let known = self.networks.entry(Arc::as_ptr(set).addr());
        let known = known.or_insert_with(|| Known {
            _held: Arc::clone(set),
            labels: sets.number(&profiles.labels_of_set(set)),
            nets: Arc::clone(&set.nets),
        });
        (known.labels, Arc::clone(&known.nets))
    }

    /// The number of these labels.
    pub(super) fn labels(&mut self, labels: &Labels) -> usize {
        self.sets.number(labels)
    }
}

/// The union of some lists.
#[derive(Debug, Default)]
pub(super) struct Union {
    parts: Vec<Arc<[IpNet]>>,
    all: Arc<[IpNet]>,
}

impl Union {
    /// The addresses of all parts, sorted, each once.
    pub(super) fn become_of(&mut self, parts: Vec<Arc<[IpNet]>>) -> Arc<[IpNet]> {
        let same = self.parts.len() == parts.len()
            && (self.parts.iter().zip(&parts)).all(|(one, other)| Arc::ptr_eq(one, other));
        if same {
            return Arc::clone(&self.all);
        }
        let (removed, added) = exchanged(&self.parts, &parts);
        // About where sorting everything is less work.
        if (removed.len() + added.len()) * 8 > self.all.len() {
            let mut all = parts.concat();
            all.sort_unstable();
            all.dedup();
            if *all != *self.all {
                self.all = all.into();
            }
        } else {
            self.exchange(&removed, &added, &parts);
        }
        self.parts = parts;
        Arc::clone(&self.all)
    }

    /// Takes away what was in the parts that are gone and is in none of those
    /// that are there, and adds what is new. Both are sorted.
    fn exchange(&mut self, removed: &[IpNet], added: &[IpNet], parts: &[Arc<[IpNet]>]) {
        let mut gone = removed.to_vec();
        gone.retain(|net| added.binary_search(net).is_err());
        gone.dedup();
        if !gone.is_empty() {
            let mut held = vec![false; gone.len()];
            for net in parts.iter().flat_map(|part| part.iter()) {
                if let Ok(index) = gone.binary_search(net) {
                    held[index] = true;
                }
            }
            let mut held = held.iter();
            gone.retain(|_| held.next() == Some(&false));
        }
        let mut new = added.to_vec();
        new.retain(|net| self.all.binary_search(net).is_err());
        new.dedup();
        if gone.is_empty() && new.is_empty() {
            return;
        }
        // In stretches, between one change and the next.
        let mut all = Vec::with_capacity(self.all.len() + new.len() - gone.len());
        let mut rest = &self.all[..];
        let (mut gone, mut new) = (gone.iter().peekable(), new.iter().peekable());
        loop {
            let first_gone = match (gone.peek(), new.peek()) {
                (None, None) => break,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some(gone), Some(new)) => gone < new,
            };
            let Some(next) = (if first_gone { gone.next() } else { new.next() }) else {
                break;
            };
            let (before, behind) = rest.split_at(rest.partition_point(|net| net < next));
            all.extend_from_slice(before);
            if first_gone {
                rest = behind.get(1..).unwrap_or_default();
            } else {
                all.push(*next);
                rest = behind;
            }
        }
        all.extend_from_slice(rest);
        self.all = all.into();
    }
}

/// What the parts hold that are only among the old ones, and that are only among
/// the new ones, each sorted. A part is the same if it is the same allocation.
///
/// Where a part has taken the place of another, what both begin and end with alike
/// is left out: of a large part of which a little has changed, the rest is little.
fn exchanged(old: &[Arc<[IpNet]>], new: &[Arc<[IpNet]>]) -> (Vec<IpNet>, Vec<IpNet>) {
    let mut count: HashMap<*const IpNet, isize> = HashMap::new();
    for part in old {
        *count.entry(part.as_ptr()).or_default() += 1;
    }
    for part in new {
        *count.entry(part.as_ptr()).or_default() -= 1;
    }
    let mut only = |parts: &'_ [Arc<[IpNet]>], sign: isize| {
        let mut found = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            if let Some(count) = count.get_mut(&part.as_ptr())
                && *count * sign > 0
            {
                *count -= sign;
                found.push(at);
            }
        }
        found
    };
    let (gone, come) = (only(old, 1), only(new, -1));
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    for pair in 0..gone.len().max(come.len()) {
        let of = |parts: &'_ [usize]| parts.get(pair).copied();
        let one = of(&gone).map_or(&[][..], |at| &old[at]);
        let other = of(&come).map_or(&[][..], |at| &new[at]);
        let (one, other) = differing(one, other);
        removed.extend_from_slice(one);
        added.extend_from_slice(other);
    }
    removed.sort_unstable();
    added.sort_unstable();
    (removed, added)
}

/// Both without what they begin and end with alike.
fn differing<'a>(one: &'a [IpNet], other: &'a [IpNet]) -> (&'a [IpNet], &'a [IpNet]) {
    fn same<'b>(pairs: impl Iterator<Item = (&'b IpNet, &'b IpNet)>) -> usize {
        pairs.take_while(|(one, other)| one == other).count()
    }
    let head = same(one.iter().zip(other));
    let (one, other) = (&one[head..], &other[head..]);
    let tail = same(one.iter().rev().zip(other.iter().rev()));
    (&one[..one.len() - tail], &other[..other.len() - tail])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of 10.0.x.y/32, from numbers.
    fn part(numbers: impl IntoIterator<Item = u16>) -> Arc<[IpNet]> {
        numbers
            .into_iter()
            .map(|number| {
                let [high, low] = number.to_be_bytes();
                IpNet::from(std::net::IpAddr::from([10, 0, high, low]))
            })
            .collect()
    }

    /// What the union is to be.
    fn plain(parts: &[Arc<[IpNet]>]) -> Vec<IpNet> {
        let all: std::collections::BTreeSet<IpNet> =
            parts.iter().flat_map(|part| part.iter().copied()).collect();
        all.into_iter().collect()
    }

    #[test]
    fn a_union_follows_its_parts() {
        let mut union = Union::default();
        let mut parts = vec![part(0..1000), part((500..1500).rev()), part([])];
        let mut step = |parts: &[Arc<[IpNet]>]| {
            let all = union.become_of(parts.to_vec());
            assert_eq!(all[..], plain(parts));
            all
        };
        let first = step(&parts);
        assert!(Arc::ptr_eq(&first, &step(&parts)));
        // Another copy of the same, and another order.
        parts[0] = part(0..1000);
        parts.swap(0, 2);
        assert!(Arc::ptr_eq(&first, &step(&parts)));
        // One goes that another part holds, too; one that no other does; and
        // some come, at both ends and in the middle.
        parts[2] = part((0..1000).filter(|number| *number != 700));
        assert!(Arc::ptr_eq(&first, &step(&parts)));
        parts[2] = part((1..1000).filter(|number| *number != 300));
        step(&parts);
        parts[0] = part([0, 1200, 1500, 40000]);
        step(&parts);
        // The same part twice, then once, then not at all.
        let twice = part([7, 2000]);
        for count in [2, 1, 0] {
            let mut parts = parts.clone();
            parts.resize(parts.len() + count, Arc::clone(&twice));
            step(&parts);
        }
        parts.clear();
        step(&parts);
    }

    #[test]
    fn random_exchanges_give_what_sorting_gives() {
        let mut union = Union::default();
        let mut state = 1_u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let mut parts: Vec<_> = (0..10).map(|n| part((n * 50)..(n * 50 + 100))).collect();
        for _ in 0..500 {
            let at = random(parts.len() as u64) as usize;
            let mut numbers: Vec<u16> = parts[at]
                .iter()
                .map(|net| match net.addr() {
                    std::net::IpAddr::V4(address) => {
                        u16::from_be_bytes([address.octets()[2], address.octets()[3]])
                    }
                    std::net::IpAddr::V6(_) => 0,
                })
                .collect();
            for _ in 0..random(4) {
                if random(2) == 0 && !numbers.is_empty() {
                    numbers.swap_remove(random(numbers.len() as u64) as usize);
                } else {
                    numbers.push(random(700) as u16);
                }
            }
            parts[at] = part(numbers);
            let all = union.become_of(parts.clone());
            assert_eq!(all[..], plain(&parts));
        }
    }
}
