//! What pods have in common, held once.

use std::{borrow::Borrow, collections::HashSet, hash::Hash, sync::Arc};

use crate::{
    model::{Labels, NamedPort},
    validate::Object,
};

/// Labels, profiles and ports of workloads: of very many, most have the same.
#[derive(Debug, Default)]
pub(super) struct Interner {
    labels: Shared<Labels>,
    profiles: Shared<[String]>,
    ports: Shared<[NamedPort]>,
}

#[derive(Debug)]
struct Shared<T: ?Sized> {
    all: HashSet<Arc<T>>,
    /// From how many on to look for those that nobody has any more.
    many: usize,
}

impl Interner {
    /// Has an object that nobody else has yet share what another one has, too.
    pub(super) fn share_in(&mut self, object: &mut Object) {
        if let Object::Workload(workload) = object
            && let Some(workload) = Arc::get_mut(workload)
        {
            self.labels.share(&mut workload.labels);
            self.profiles.share(&mut workload.profiles);
            self.ports.share(&mut workload.ports);
        }
    }
}

impl<T: ?Sized> Default for Shared<T> {
    fn default() -> Self {
        Self {
            all: HashSet::new(),
            many: 1000,
        }
    }
}

impl<T: ?Sized + Eq + Hash> Shared<T>
where
    Arc<T>: Borrow<T>,
{
    fn share(&mut self, own: &mut Arc<T>) {
        if let Some(known) = self.all.get::<T>(own) {
            own.clone_from(known);
            return;
        }
        if self.all.len() >= self.many {
            self.all.retain(|one| Arc::strong_count(one) > 1);
            self.many = 1000 + 2 * self.all.len();
        }
        self.all.insert(Arc::clone(own));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ones_are_shared_and_what_nobody_has_is_forgotten() {
        let mut shared = Shared::<[String]>::default();
        let text = |number: usize| -> Arc<[String]> { [number.to_string()].into() };
        let mut kept: Vec<Arc<[String]>> = (0..500).map(text).collect();
        for number in 0..100_000 {
            let own = &mut text(number);
            shared.share(own);
            if let Some(kept) = kept.get_mut(number) {
                shared.share(kept);
                assert!(Arc::ptr_eq(kept, own));
            }
        }
        assert!(shared.all.len() <= 2001, "{}", shared.all.len());
        for (number, kept) in kept.iter().enumerate() {
            let own = &mut text(number);
            shared.share(own);
            assert!(Arc::ptr_eq(kept, own));
        }
    }
}
