use std::fmt;

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `FelixConfiguration`.
    FelixConfiguration,
    /// `GlobalNetworkPolicy`.
    GlobalNetworkPolicy,
    /// `GlobalNetworkSet`.
    GlobalNetworkSet,
    /// `HostEndpoint`.
    HostEndpoint,
    /// `NetworkSet`, the only kind that lives in a namespace.
    NetworkSet,
    /// `Profile`.
    Profile,
    /// `StagedGlobalNetworkPolicy`.
    StagedGlobalNetworkPolicy,
    /// `Tier`.
    Tier,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::FelixConfiguration,
        Self::GlobalNetworkPolicy,
        Self::GlobalNetworkSet,
        Self::HostEndpoint,
        Self::NetworkSet,
        Self::Profile,
        Self::StagedGlobalNetworkPolicy,
        Self::Tier,
    ];

    /// As in a resource's `kind` field.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FelixConfiguration => "FelixConfiguration",
            Self::GlobalNetworkPolicy => "GlobalNetworkPolicy",
            Self::GlobalNetworkSet => "GlobalNetworkSet",
            Self::HostEndpoint => "HostEndpoint",
            Self::NetworkSet => "NetworkSet",
            Self::Profile => "Profile",
            Self::StagedGlobalNetworkPolicy => "StagedGlobalNetworkPolicy",
            Self::Tier => "Tier",
        }
    }

    /// Whether objects of the kind live in a namespace.
    #[must_use]
    pub const fn is_namespaced(self) -> bool {
        matches!(self, Self::NetworkSet)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names an object: `HostEndpoint(node1-eth0)`, `NetworkSet(web/partners)`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Kind of the object.
    pub kind: Kind,
    /// Its `metadata.name`, for a kind that lives in a namespace with
    /// `namespace/` in front: no name holds a slash.
    pub name: String,
}

impl ObjectRef {
    /// Names an object; the namespace counts only for a kind that lives in
    /// one.
    #[must_use]
    pub fn new(kind: Kind, namespace: Option<&str>, name: &str) -> Self {
        let name = match namespace.filter(|_| kind.is_namespaced()) {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name.to_owned(),
        };
        Self { kind, name }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.kind, self.name)
    }
}
