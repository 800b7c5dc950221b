use std::fmt;

/// A kind of resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `EndpointSlice`, as Kubernetes has it.
    EndpointSlice,
    /// `FelixConfiguration`.
    FelixConfiguration,
    /// `GlobalNetworkPolicy`.
    GlobalNetworkPolicy,
    /// `GlobalNetworkSet`.
    GlobalNetworkSet,
    /// `HostEndpoint`.
    HostEndpoint,
    /// `HostEndpointTemplate`, which is hostfw's own.
    HostEndpointTemplate,
    /// `NetworkSet`.
    NetworkSet,
    /// `Node`, as Kubernetes has it.
    Node,
    /// `NodeAddresses`, which is hostfw's own and written by agents.
    NodeAddresses,
    /// `Profile`.
    Profile,
    /// `StagedGlobalNetworkPolicy`.
    StagedGlobalNetworkPolicy,
    /// `Tier`.
    Tier,
    /// `WorkloadEndpoint`.
    WorkloadEndpoint,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 13] = [
        Self::EndpointSlice,
        Self::FelixConfiguration,
        Self::GlobalNetworkPolicy,
        Self::GlobalNetworkSet,
        Self::HostEndpoint,
        Self::HostEndpointTemplate,
        Self::NetworkSet,
        Self::Node,
        Self::NodeAddresses,
        Self::Profile,
        Self::StagedGlobalNetworkPolicy,
        Self::Tier,
        Self::WorkloadEndpoint,
    ];

    /// As in a resource's `kind` field.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EndpointSlice => "EndpointSlice",
            Self::FelixConfiguration => "FelixConfiguration",
            Self::GlobalNetworkPolicy => "GlobalNetworkPolicy",
            Self::GlobalNetworkSet => "GlobalNetworkSet",
            Self::HostEndpoint => "HostEndpoint",
            Self::HostEndpointTemplate => "HostEndpointTemplate",
            Self::NetworkSet => "NetworkSet",
            Self::Node => "Node",
            Self::NodeAddresses => "NodeAddresses",
            Self::Profile => "Profile",
            Self::StagedGlobalNetworkPolicy => "StagedGlobalNetworkPolicy",
            Self::Tier => "Tier",
            Self::WorkloadEndpoint => "WorkloadEndpoint",
        }
    }

    /// The `apiVersion` of its resources.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::FelixConfiguration
            | Self::GlobalNetworkPolicy
            | Self::GlobalNetworkSet
            | Self::HostEndpoint
            | Self::NetworkSet
            | Self::Profile
            | Self::StagedGlobalNetworkPolicy
            | Self::Tier
            | Self::WorkloadEndpoint => "projectcalico.org/v3",
            Self::HostEndpointTemplate | Self::NodeAddresses => "hostfw.io/v1alpha1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::Node => "v1",
        }
    }

    /// Whether objects of the kind live in a namespace.
    #[must_use]
    pub const fn is_namespaced(self) -> bool {
        matches!(
            self,
            Self::EndpointSlice | Self::NetworkSet | Self::WorkloadEndpoint
        )
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
