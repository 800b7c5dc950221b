use std::collections::BTreeMap;

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
}
