//! Workloads that rules cannot tell apart, put together: of very many pods, most
//! differ in nothing but their addresses.

use std::{
    collections::{HashMap, HashSet},
    hash::{Hash, Hasher},
    sync::Arc,
};

use ipnet::IpNet;

use crate::model::WorkloadEndpoint;

/// Workloads, by what rules can ask of them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// As they were given last. What holds them keeps their places in memory
    /// from being given to others.
    workloads: Vec<Arc<WorkloadEndpoint>>,
    /// By place in memory: the number of its group.
    known: HashMap<usize, usize>,
    numbers: HashMap<Alike, usize>,
    groups: Vec<Group>,
}

/// Workloads with the same labels, profiles and ports.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// One of them.
    pub(super) one: Arc<WorkloadEndpoint>,
    /// The addresses of all. The same allocation as long as they are the same.
    pub(super) nets: Arc<[IpNet]>,
}

/// A workload, compared by what rules can ask of it.
#[derive(Debug)]
struct Alike(Arc<WorkloadEndpoint>);

impl PartialEq for Alike {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (&*self.0, &*other.0);
        one.labels == other.labels && one.profiles == other.profiles && one.ports == other.ports
    }
}

impl Eq for Alike {}

impl Hash for Alike {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.labels.hash(state);
        self.0.profiles.hash(state);
    }
}

impl Groups {
    /// The groups of these workloads, worked out from what differs from before.
    pub(super) fn of(&mut self, workloads: &[Arc<WorkloadEndpoint>]) -> &[Group] {
        let same = self.workloads.len() == workloads.len()
            && self
                .workloads
                .iter()
                .zip(workloads)
                .all(|(a, b)| Arc::ptr_eq(a, b));
        if !same {
            self.update(workloads);
            let empty = self.groups.iter().filter(|group| group.nets.is_empty());
            // Groups that nobody is in any more.
            if empty.count() * 2 > self.groups.len() {
                *self = Self::default();
                self.update(workloads);
            }
        }
        &self.groups
    }

    fn update(&mut self, workloads: &[Arc<WorkloadEndpoint>]) {
        let mut known = HashMap::with_capacity(workloads.len());
        let mut changed = HashSet::new();
        for workload in workloads {
            let number = match self.known.get(&place(workload)) {
                Some(number) => *number,
                None => {
                    let next = self.groups.len();
                    let alike = Alike(Arc::clone(workload));
                    let number = *self.numbers.entry(alike).or_insert(next);
                    if number == next {
                        self.groups.push(Group {
                            one: Arc::clone(workload),
                            nets: Arc::default(),
                        });
                    }
                    changed.insert(number);
                    number
                }
            };
            known.insert(place(workload), number);
        }
        for (place, number) in &self.known {
            if !known.contains_key(place) {
                changed.insert(*number);
            }
        }
        let mut nets: HashMap<usize, Vec<IpNet>> = changed
            .into_iter()
            .map(|number| (number, Vec::new()))
            .collect();
        for workload in workloads {
            if let Some(nets) = nets.get_mut(&known[&place(workload)]) {
                nets.extend_from_slice(&workload.nets);
            }
        }
        for (number, nets) in nets {
            let group = &mut self.groups[number];
            if *group.nets != *nets {
                group.nets = nets.into();
            }
        }
        self.workloads = workloads.to_vec();
        self.known = known;
    }
}

fn place(workload: &Arc<WorkloadEndpoint>) -> usize {
    Arc::as_ptr(workload).addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(name: &str, label: &str, address: &str) -> Arc<WorkloadEndpoint> {
        Arc::new(WorkloadEndpoint {
            namespace: "web".to_owned(),
            name: name.to_owned(),
            labels: [("app".to_owned(), label.to_owned())].into(),
            profiles: Vec::new(),
            nets: [format!("{address}/32").parse().unwrap()].into(),
            ports: Vec::new(),
        })
    }

    /// What the groups hold, by label.
    fn held(groups: &[Group]) -> Vec<(String, Vec<String>)> {
        let mut held: Vec<_> = groups
            .iter()
            .filter(|group| !group.nets.is_empty())
            .map(|group| {
                let mut nets: Vec<_> = group.nets.iter().map(ToString::to_string).collect();
                nets.sort();
                (group.one.labels["app"].clone(), nets)
            })
            .collect();
        held.sort();
        held
    }

    #[test]
    fn groups_follow_their_members_and_others_stay() {
        let mut groups = Groups::default();
        let mut all = vec![
            workload("a", "x", "10.0.0.1"),
            workload("b", "x", "10.0.0.2"),
            workload("c", "y", "10.0.0.3"),
        ];
        let first = groups.of(&all).to_vec();
        assert_eq!(first.len(), 2);
        // One moves, in address and then in label.
        all[1] = workload("b", "x", "10.0.0.9");
        let second = groups.of(&all).to_vec();
        assert!(Arc::ptr_eq(&first[1].nets, &second[1].nets));
        assert!(!Arc::ptr_eq(&first[0].nets, &second[0].nets));
        all[1] = workload("b", "y", "10.0.0.9");
        let told = |label: &str, nets: &[&str]| {
            let nets = nets.iter().map(|net| format!("{net}/32")).collect();
            (label.to_owned(), nets)
        };
        assert_eq!(
            held(groups.of(&all)),
            [
                told("x", &["10.0.0.1"]),
                told("y", &["10.0.0.3", "10.0.0.9"])
            ]
        );
        // A copy that says the same changes nothing.
        let before = groups.of(&all).to_vec();
        all[0] = workload("a", "x", "10.0.0.1");
        let after = groups.of(&all).to_vec();
        assert!(
            before
                .iter()
                .zip(&after)
                .all(|(a, b)| Arc::ptr_eq(&a.nets, &b.nets))
        );
        // Most go.
        all.drain(..2);
        assert_eq!(held(groups.of(&all)), [told("y", &["10.0.0.3"])]);
        all.clear();
        assert_eq!(held(groups.of(&all)), []);
    }

    #[test]
    fn random_changes_give_what_beginning_anew_gives() {
        let mut groups = Groups::default();
        let mut state = 7_u64;
        let mut random = move |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let mut all: Vec<Arc<WorkloadEndpoint>> = Vec::new();
        for round in 0..400 {
            for _ in 0..=random(3) {
                if random(5) < 3 || all.is_empty() {
                    let (label, address) = (random(6), random(200));
                    let (label, address) = (format!("l{label}"), format!("10.0.0.{address}"));
                    all.push(workload(&round.to_string(), &label, &address));
                } else {
                    let at = random(all.len() as u64) as usize;
                    all.remove(at);
                }
            }
            let anew = held(Groups::default().of(&all));
            assert_eq!(held(groups.of(&all)), anew);
        }
    }
}
