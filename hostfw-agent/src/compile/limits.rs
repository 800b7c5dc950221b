//! What a generation can hold, and what it means to ask for more.

use std::fmt;

use hostfw_common::limits;

use crate::model::ObjectRef;

/// A capacity of the dataplane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`limits::MAX_RULES`]
    Rules,
    /// [`limits::MAX_PREFIXES`]
    Prefixes,
    /// [`limits::MAX_INDEX_LINES`]
    IndexLines,
    /// [`limits::MAX_ROW_LINES`]
    RowLines,
    /// [`limits::MAX_RULE_ENTRIES`]
    RuleEntries,
    /// [`limits::MAX_ENDPOINTS`]
    Endpoints,
    /// [`limits::MAX_FAILSAFES`]
    Failsafes,
}

impl Limit {
    /// All limits.
    pub const ALL: [Self; 7] = [
        Self::Rules,
        Self::Prefixes,
        Self::IndexLines,
        Self::RowLines,
        Self::RuleEntries,
        Self::Endpoints,
        Self::Failsafes,
    ];

    /// The name of the constant in [`hostfw_common::limits`].
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rules => "MAX_RULES",
            Self::Prefixes => "MAX_PREFIXES",
            Self::IndexLines => "MAX_INDEX_LINES",
            Self::RowLines => "MAX_ROW_LINES",
            Self::RuleEntries => "MAX_RULE_ENTRIES",
            Self::Endpoints => "MAX_ENDPOINTS",
            Self::Failsafes => "MAX_FAILSAFES",
        }
    }

    /// How many there can be.
    #[must_use]
    pub const fn value(self) -> usize {
        (match self {
            Self::Rules => limits::MAX_RULES,
            Self::Prefixes => limits::MAX_PREFIXES,
            Self::IndexLines => limits::MAX_INDEX_LINES,
            Self::RowLines => limits::MAX_ROW_LINES,
            Self::RuleEntries => limits::MAX_RULE_ENTRIES,
            Self::Endpoints => limits::MAX_ENDPOINTS,
            Self::Failsafes => limits::MAX_FAILSAFES,
        }) as usize
    }

    /// Whether it is one of an array that also holds what was compiled before.
    pub(super) const fn is_of_lines(self) -> bool {
        matches!(self, Self::IndexLines | Self::RowLines)
    }

    /// What there are too many of.
    #[must_use]
    pub const fn what(self) -> &'static str {
        match self {
            Self::Rules => "rule entries for one stage, direction and address family",
            Self::Prefixes => "prefixes over all endpoints",
            Self::IndexLines => "lines of 64 bytes for the index of addresses and ports",
            Self::RowLines => "lines of 64 bytes for the classes of packets",
            Self::RuleEntries => "rules over all endpoints, stages and address families",
            Self::Endpoints => "governed interfaces",
            Self::Failsafes => "fail-safe ports and tunnels of one address family",
        }
    }
}

/// The selection asks for more than the dataplane can hold. Nothing of it is
/// compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct CompileError {
    /// What was exceeded.
    pub limit: Limit,
    /// How many there are; where counting stopped at the limit, how many there
    /// are at least.
    pub found: usize,
    /// The endpoint at which the limit was exceeded; for fail-safes, the
    /// settings that all nodes share, whichever object gave the lists.
    pub object: ObjectRef,
    /// The policy at whose rules the limit was exceeded, if that can be told.
    pub policy: Option<ObjectRef>,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.object)?;
        if let Some(policy) = &self.policy {
            write!(f, ", at {policy}")?;
        }
        write!(
            f,
            ": {} {}, expected at most {} ({})",
            self.found,
            self.limit.what(),
            self.limit.value(),
            self.limit.name()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    #[test]
    fn message_names_limit_value_found_and_objects() {
        let error = CompileError {
            limit: Limit::Rules,
            found: 20_000,
            object: ObjectRef {
                kind: Kind::HostEndpoint,
                name: "node1-eth0".to_owned(),
            },
            policy: Some(ObjectRef {
                kind: Kind::GlobalNetworkPolicy,
                name: "many".to_owned(),
            }),
        };
        assert_eq!(
            error.to_string(),
            "HostEndpoint(node1-eth0), at GlobalNetworkPolicy(many): 20000 rule entries for one \
             stage, direction and address family, expected at most 16384 (MAX_RULES)"
        );
    }
}
