use std::fmt;

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `FelixConfiguration`.
    FelixConfiguration,
    /// `GlobalNetworkPolicy`.
    GlobalNetworkPolicy,
    /// `HostEndpoint`.
    HostEndpoint,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [
        Self::FelixConfiguration,
        Self::GlobalNetworkPolicy,
        Self::HostEndpoint,
    ];

    /// As in a resource's `kind` field.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FelixConfiguration => "FelixConfiguration",
            Self::GlobalNetworkPolicy => "GlobalNetworkPolicy",
            Self::HostEndpoint => "HostEndpoint",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names an object: `HostEndpoint(node1-eth0)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Kind of the object.
    pub kind: Kind,
    /// Its `metadata.name`.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.kind, self.name)
    }
}
