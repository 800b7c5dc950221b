use std::{borrow::Cow, collections::BTreeMap};

use super::Rule;

/// A `Profile`: labels that endpoints inherit, and rules for traffic that no
/// tier decides.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// `metadata.name`.
    pub name: String,
    /// Labels that endpoints with the profile have, unless they have the key
    /// already.
    pub labels_to_apply: BTreeMap<String, String>,
    /// Rules for what comes in.
    pub ingress: Vec<Rule>,
    /// Rules for what goes out.
    pub egress: Vec<Rule>,
}

impl Profile {
    /// Name of the profile that is always there, and allows everything.
    pub const ALLOW_ALL: &str = "projectcalico-default-allow";

    /// Gives those of its labels whose keys are not among `labels`.
    pub fn lend_labels(&self, labels: &mut Cow<'_, BTreeMap<String, String>>) {
        for (key, value) in &self.labels_to_apply {
            if !labels.contains_key(key) {
                labels.to_mut().insert(key.clone(), value.clone());
            }
        }
    }
}
