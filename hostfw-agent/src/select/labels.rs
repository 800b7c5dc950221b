//! Labels that objects have through profiles.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::model::{HostEndpoint, NetworkSet, Profile, WorkloadEndpoint};

/// The label that says which namespace an object lives in.
const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";

/// What the name of the profile begins with that holds the labels of a
/// namespace.
const NAMESPACE_PROFILE: &str = "kns.";

/// Labels by key.
pub(super) type Labels = BTreeMap<String, String>;

/// The profiles, by name.
pub(super) struct Profiles<'a> {
    all: &'a [Arc<Profile>],
    by_name: HashMap<&'a str, &'a Profile>,
}

impl<'a> Profiles<'a> {
    pub(super) fn new(profiles: &'a [Arc<Profile>]) -> Self {
        Self {
            all: profiles,
            by_name: profiles.iter().map(|p| (&*p.name, &**p)).collect(),
        }
    }

    pub(super) const fn all(&self) -> &'a [Arc<Profile>] {
        self.all
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a Profile> {
        self.by_name.get(name).copied()
    }

    /// Its own labels, and for every other key what the first listed profile
    /// with that key says.
    pub(super) fn labels_of_endpoint<'e>(&self, endpoint: &'e HostEndpoint) -> Cow<'e, Labels> {
        let mut labels = Cow::Borrowed(&endpoint.labels);
        for name in &endpoint.profiles {
            self.inherit(name, &mut labels);
        }
        labels
    }

    /// Its own labels; of a set in a namespace also the namespace's name and
    /// labels.
    pub(super) fn labels_of_set<'s>(&self, set: &'s NetworkSet) -> Cow<'s, Labels> {
        let mut labels = Cow::Borrowed(&set.labels);
        if let Some(namespace) = &set.namespace {
            labels
                .to_mut()
                .entry(NAMESPACE_LABEL.to_owned())
                .or_insert_with(|| namespace.clone());
            self.inherit(&format!("{NAMESPACE_PROFILE}{namespace}"), &mut labels);
        }
        labels
    }

    /// Its own labels, and for every other key what the first listed profile
    /// with that key says.
    pub(super) fn labels_of_workload<'w>(&self, workload: &'w WorkloadEndpoint) -> Cow<'w, Labels> {
        let mut labels = Cow::Borrowed(&*workload.labels);
        for name in workload.profiles.iter() {
            self.inherit(name, &mut labels);
        }
        labels
    }

    fn inherit(&self, profile: &str, labels: &mut Cow<'_, Labels>) {
        if let Some(profile) = self.get(profile) {
            profile.lend_labels(labels);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::fixture::{labelled, network_set, profile};

    fn labels(of: &[(&str, &str)]) -> Labels {
        of.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn own_labels_win_then_the_first_listed_profile() {
        let profiles = [
            profile("one", &[("a", "one"), ("b", "one")]),
            profile("two", &[("b", "two"), ("c", "two")]),
            profile("not-listed", &[("d", "x")]),
        ]
        .map(Arc::new);
        let mut endpoint = labelled("e", &[], &[("a", "own")]);
        endpoint.profiles = ["two", "missing", "one"].map(str::to_owned).to_vec();
        assert_eq!(
            *Profiles::new(&profiles).labels_of_endpoint(&endpoint),
            labels(&[("a", "own"), ("b", "two"), ("c", "two")])
        );
    }

    #[test]
    fn a_set_in_a_namespace_has_the_labels_of_the_namespace() {
        let profiles = [
            profile("kns.web", &[("pcns.zone", "a"), ("x", "profile")]),
            profile("web", &[("y", "")]),
        ]
        .map(Arc::new);
        let profiles = Profiles::new(&profiles);
        let set = network_set(Some("web"), "s", &[], &[("x", "own")]);
        assert_eq!(
            *profiles.labels_of_set(&set),
            labels(&[
                ("x", "own"),
                ("pcns.zone", "a"),
                ("projectcalico.org/namespace", "web")
            ])
        );
        let global = network_set(None, "s", &[], &[("x", "own")]);
        assert_eq!(*profiles.labels_of_set(&global), labels(&[("x", "own")]));
    }
}
