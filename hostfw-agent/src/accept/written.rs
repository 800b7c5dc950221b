//! Objects as they were written.

use std::sync::Arc;

use serde_json::Value;

use crate::{model::Kind, resource::Resource, source::Text};

/// An object as it was written. A copy shares what is large.
#[derive(Clone, Debug)]
pub struct Written(Form);

#[derive(Clone, Debug)]
enum Form {
    Read(Arc<Resource>),
    /// Of pods and endpoints of services there may be very many, and little is asked
    /// of them: that is held as JSON, in one form for all that say the same.
    Text {
        text: Text,
        generation: Option<u64>,
    },
}

impl Written {
    /// `text`: where it stands, if nothing else stands there; it is shared if it
    /// reads as it is held.
    #[must_use]
    pub fn new(resource: Resource, text: Option<&Text>) -> Self {
        if !matches!(
            resource.kind(),
            Kind::EndpointSlice | Kind::WorkloadEndpoint
        ) {
            return Self(Form::Read(resource.into()));
        }
        let held = resource.to_value().to_string();
        let same = text.filter(|text| ***text == *held);
        Self(Form::Text {
            text: same.cloned().unwrap_or_else(|| Text::from(held)),
            generation: resource.metadata().generation,
        })
    }

    /// As a tree, for whoever shows or writes it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match &self.0 {
            Form::Read(resource) => resource.to_value(),
            // It was made from a tree.
            Form::Text { text, .. } => serde_json::from_str(text).unwrap_or_default(),
        }
    }

    /// As JSON.
    #[must_use]
    pub fn to_text(&self) -> Text {
        match &self.0 {
            Form::Read(resource) => Text::from(resource.to_value().to_string()),
            Form::Text { text, .. } => text.clone(),
        }
    }

    /// `None` of objects of which nothing is ever [said](crate::lint::silent).
    #[must_use]
    pub fn resource(&self) -> Option<&Arc<Resource>> {
        match &self.0 {
            Form::Read(resource) => Some(resource),
            Form::Text { .. } => None,
        }
    }

    /// `metadata.generation`.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        match &self.0 {
            Form::Read(resource) => resource.metadata().generation,
            Form::Text { generation, .. } => *generation,
        }
    }
}

impl PartialEq for Written {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Form::Read(one), Form::Read(other)) => Arc::ptr_eq(one, other) || one == other,
            (Form::Text { text: one, .. }, Form::Text { text: other, .. }) => one == other,
            (Form::Read(_), Form::Text { .. }) | (Form::Text { .. }, Form::Read(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::parse_documents;

    fn read(text: &str) -> Resource {
        parse_documents(text).remove(0).result.unwrap().remove(0)
    }

    #[test]
    fn pods_are_held_as_text_which_is_shared_if_it_can_be() {
        let pod = "{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {name: \
                   a, namespace: b, generation: 7}, spec: {ipNetworks: [10.0.0.1]}}";
        let resource = read(pod);
        let value = resource.to_value();
        let own = Written::new(resource.clone(), Some(&Text::from(pod)));
        let text = Text::from(value.to_string());
        let shared = Written::new(resource.clone(), Some(&text));
        assert!(std::ptr::eq(&*shared.to_text(), &*text));
        assert!(!std::ptr::eq(&*own.to_text(), &*text));
        assert_eq!(own, shared);
        for written in [own, shared] {
            assert_eq!(written.to_value(), value);
            assert_eq!(written.generation(), Some(7));
            assert!(written.resource().is_none());
            assert_eq!(Resource::from_value(&written.to_value()).unwrap(), resource);
        }
        let other = read(&pod.replace("10.0.0.1", "10.0.0.2"));
        assert_ne!(Written::new(other, None), Written::new(resource, None));
    }

    #[test]
    fn others_are_held_as_they_were_read() {
        let tier = "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a}}";
        let written = Written::new(read(tier), Some(&Text::from(tier)));
        assert_eq!(**written.resource().unwrap(), read(tier));
        assert_eq!(*written.to_text(), read(tier).to_value().to_string());
    }
}
