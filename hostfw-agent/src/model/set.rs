use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;

/// A `GlobalNetworkSet` or a `NetworkSet`: addresses with labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSet {
    /// Namespace of a `NetworkSet`; `None` for a `GlobalNetworkSet`.
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// Its addresses; host bits are cleared. There may be a lot: copies share them.
    pub nets: Arc<[IpNet]>,
}
