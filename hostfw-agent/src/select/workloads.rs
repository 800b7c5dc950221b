//! Workloads that rules cannot tell apart, put together: of very many pods, most
//! differ in nothing but their addresses.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

use ipnet::IpNet;

use crate::model::WorkloadEndpoint;

/// More workloads that come or go than this are not put in one by one.
const FEW: usize = 1000;

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
    /// How many of them nobody is in.
    empty: usize,
    /// From which on their labels are not known.
    labelled: usize,
}

/// Workloads with the same labels, profiles and ports.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// One of them.
    pub(super) one: Arc<WorkloadEndpoint>,
    /// The number of their labels.
    pub(super) labels: usize,
    /// The addresses of all. The same allocation as long as they are the same.
    pub(super) nets: Arc<[IpNet]>,
    members: usize,
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
    /// The groups. There may be some that nobody is in.
    pub(super) fn all(&self) -> &[Group] {
        &self.groups
    }

    pub(super) const fn len(&self) -> usize {
        self.groups.len()
    }

    /// Notes the number of the labels of groups that are new.
    pub(super) fn label(&mut self, mut number: impl FnMut(&WorkloadEndpoint) -> usize) {
        for group in &mut self.groups[self.labelled..] {
            group.labels = number(&group.one);
        }
        self.labelled = self.groups.len();
    }

    /// Profiles have changed, which give labels.
    pub(super) const fn forget_labels(&mut self) {
        self.labelled = 0;
    }

    /// Groups these workloads, by what differs from before.
    pub(super) fn update(&mut self, workloads: &[Arc<WorkloadEndpoint>]) {
        if self.workloads.len().abs_diff(workloads.len()) > FEW {
            *self = Self::default();
        }
        let mut all = std::mem::take(&mut self.workloads);
        let mut gone = Vec::new();
        let mut come = Vec::new();
        for (at, workload) in workloads.iter().enumerate() {
            let same = |other: &Arc<WorkloadEndpoint>| Arc::ptr_eq(other, workload);
            while all
                .get(at)
                .is_some_and(|it| !same(it) && name(it) < name(workload))
            {
                gone.push(all.remove(at));
            }
            match all.get_mut(at) {
                Some(known) if same(known) => continue,
                Some(known) if name(known) == name(workload) => {
                    gone.push(std::mem::replace(known, Arc::clone(workload)));
                }
                Some(_) | None => all.insert(at, Arc::clone(workload)),
            }
            come.push(workload);
        }
        gone.extend(all.drain(workloads.len()..));
        self.workloads = all;
        if gone.is_empty() && come.is_empty() {
            return;
        }
        self.exchange(&gone, &come);
        // Groups that nobody is in any more.
        if self.empty * 2 > self.groups.len() {
            *self = Self::default();
            self.update(workloads);
        }
    }

    fn exchange(&mut self, gone: &[Arc<WorkloadEndpoint>], come: &[&Arc<WorkloadEndpoint>]) {
        let mut changed: HashMap<usize, Vec<IpNet>> = HashMap::new();
        // First what goes, for it may come again.
        for workload in gone {
            let Some(number) = self.known.remove(&place(workload)) else {
                continue;
            };
            let group = &mut self.groups[number];
            group.members -= 1;
            self.empty += usize::from(group.members == 0);
            let nets = changed.entry(number).or_insert_with(|| group.nets.to_vec());
            for net in workload.nets.iter() {
                // Once, for another workload may have it, too.
                if let Some(at) = nets.iter().position(|held| held == net) {
                    nets.remove(at);
                }
            }
        }
        for workload in come {
            let next = self.groups.len();
            let alike = Alike(Arc::clone(workload));
            let number = *self.numbers.entry(alike).or_insert(next);
            if number == next {
                self.groups.push(Group {
                    one: Arc::clone(workload),
                    labels: 0,
                    nets: Arc::default(),
                    members: 0,
                });
                self.empty += 1;
            }
            let group = &mut self.groups[number];
            self.empty -= usize::from(group.members == 0);
            group.members += 1;
            self.known.insert(place(workload), number);
            let nets = changed.entry(number).or_insert_with(|| group.nets.to_vec());
            nets.extend_from_slice(&workload.nets);
        }
        for (number, nets) in changed {
            let group = &mut self.groups[number];
            if *group.nets != *nets {
                group.nets = nets.into();
            }
        }
    }
}

fn name(workload: &WorkloadEndpoint) -> (&str, &str) {
    (&workload.namespace, &workload.name)
}

fn place(workload: &Arc<WorkloadEndpoint>) -> usize {
    Arc::as_ptr(workload).addr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    fn workload(name: &str, label: &str, address: &str) -> Arc<WorkloadEndpoint> {
        Arc::new(WorkloadEndpoint {
            namespace: "web".to_owned(),
            name: name.to_owned(),
            labels: Labels::from([("app".to_owned(), label.to_owned())]).into(),
            profiles: Arc::default(),
            nets: [format!("{address}/32").parse().unwrap()].into(),
            ports: Arc::default(),
        })
    }

    fn grouped<'a>(groups: &'a mut Groups, all: &[Arc<WorkloadEndpoint>]) -> &'a [Group] {
        groups.update(all);
        groups.all()
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
        let first = grouped(&mut groups, &all).to_vec();
        assert_eq!(first.len(), 2);
        // One moves, in address and then in label.
        all[1] = workload("b", "x", "10.0.0.9");
        let second = grouped(&mut groups, &all).to_vec();
        assert!(Arc::ptr_eq(&first[1].nets, &second[1].nets));
        assert!(!Arc::ptr_eq(&first[0].nets, &second[0].nets));
        all[1] = workload("b", "y", "10.0.0.9");
        let told = |label: &str, nets: &[&str]| {
            let nets = nets.iter().map(|net| format!("{net}/32")).collect();
            (label.to_owned(), nets)
        };
        assert_eq!(
            held(grouped(&mut groups, &all)),
            [
                told("x", &["10.0.0.1"]),
                told("y", &["10.0.0.3", "10.0.0.9"])
            ]
        );
        // A copy that says the same changes nothing.
        let before = grouped(&mut groups, &all).to_vec();
        all[0] = workload("a", "x", "10.0.0.1");
        let after = grouped(&mut groups, &all).to_vec();
        assert!(
            before
                .iter()
                .zip(&after)
                .all(|(a, b)| Arc::ptr_eq(&a.nets, &b.nets))
        );
        // Most go.
        all.drain(..2);
        assert_eq!(held(grouped(&mut groups, &all)), [told("y", &["10.0.0.3"])]);
        all.clear();
        assert_eq!(held(grouped(&mut groups, &all)), []);
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
            let anew = held(grouped(&mut Groups::default(), &all));
            assert_eq!(held(grouped(&mut groups, &all)), anew);
        }
    }
}
