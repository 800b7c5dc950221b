use crate::model::Kind;

/// What a command has done, in `calicoctl`'s words.
pub(super) struct Summary {
    /// `applied`, `deleted`, ...
    pub(super) done: &'static str,
    /// Kinds of all objects of the input.
    pub(super) kinds: Vec<Kind>,
    /// How many objects it has handled well.
    pub(super) handled: usize,
    /// How many objects it should have handled.
    pub(super) total: usize,
}

impl Summary {
    pub(super) fn success(&self) -> String {
        let kind = self.kind();
        let handled = self.handled;
        format!("Successfully {} {handled}{kind} resource(s)", self.done)
    }

    /// Says "the first" as `calicoctl` does, although every object was tried.
    pub(super) fn partial(&self) -> String {
        format!(
            "Partial success: {} the first {} out of {}{} resources:",
            self.done,
            self.handled,
            self.total,
            self.kind()
        )
    }

    /// The kind, if all objects are of one.
    fn kind(&self) -> String {
        match self.kinds.split_first() {
            Some((first, others)) if others.iter().all(|other| other == first) => {
                format!(" '{first}'")
            }
            Some(_) | None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_only_when_uniform() {
        let mut summary = Summary {
            done: "applied",
            kinds: vec![Kind::GlobalNetworkPolicy; 2],
            handled: 2,
            total: 3,
        };
        assert_eq!(
            summary.success(),
            "Successfully applied 2 'GlobalNetworkPolicy' resource(s)"
        );
        assert_eq!(
            summary.partial(),
            "Partial success: applied the first 2 out of 3 'GlobalNetworkPolicy' resources:"
        );
        summary.kinds.push(Kind::HostEndpoint);
        assert_eq!(summary.success(), "Successfully applied 2 resource(s)");
    }
}
