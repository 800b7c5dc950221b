//! `Profile`.

use hostfw_common::verdict::Direction;

use super::{Findings, metadata, rule};
use crate::{model::Profile, resource};

pub(super) fn convert(object: &resource::Profile, findings: &mut Findings) -> Profile {
    let spec = &object.spec;
    metadata::labels("spec.labelsToApply", &spec.labels_to_apply, findings);
    Profile {
        name: object.metadata.name.clone(),
        labels_to_apply: spec.labels_to_apply.clone(),
        ingress: rule::list(Direction::Ingress, &spec.ingress, findings),
        egress: rule::list(Direction::Egress, &spec.egress, findings),
    }
}
