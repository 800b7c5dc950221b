//! `Profile`.

use hostfw_common::verdict::Direction;

use super::{
    Findings, metadata, rule,
    selector::{NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX},
};
use crate::{model::Profile, resource};

pub(super) fn convert(object: &resource::Profile, findings: &mut Findings) -> Profile {
    let spec = &object.spec;
    // What a namespace or a service account lends is its own label, which may be as
    // long as any, behind a prefix.
    let bare = spec.labels_to_apply.iter().map(|(key, value)| {
        let key = [NAMESPACE_PREFIX, SERVICE_ACCOUNT_PREFIX]
            .iter()
            .find_map(|prefix| key.strip_prefix(prefix))
            .unwrap_or(key);
        (key.to_owned(), value.clone())
    });
    metadata::labels("spec.labelsToApply", &bare.collect(), findings);
    Profile {
        name: object.metadata.name.clone(),
        labels_to_apply: spec.labels_to_apply.clone(),
        ingress: rule::list(Direction::Ingress, &spec.ingress, findings),
        egress: rule::list(Direction::Egress, &spec.egress, findings),
    }
}
