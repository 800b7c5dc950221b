//! Which sets of labels selectors match, remembered: of very many objects, most have
//! the labels that they had, and many have the same.

use std::{collections::HashMap, sync::Arc};

use super::labels::Labels;
use crate::selector::Selector;

/// Sets of labels, each once. Its number stays.
#[derive(Debug, Default)]
pub(super) struct LabelSets {
    numbers: HashMap<Arc<Labels>, usize>,
    sets: Vec<Arc<Labels>>,
}

impl LabelSets {
    pub(super) fn number(&mut self, labels: &Labels) -> usize {
        if let Some(number) = self.numbers.get(labels) {
            return *number;
        }
        let number = self.sets.len();
        let labels = Arc::new(labels.clone());
        self.numbers.insert(Arc::clone(&labels), number);
        self.sets.push(labels);
        number
    }

    pub(super) const fn len(&self) -> usize {
        self.sets.len()
    }
}

/// The sets that a selector matches, and another one does not.
#[derive(Debug, Default)]
pub(super) struct Matched {
    /// How many sets were looked at.
    known: usize,
    /// Those that match, sorted.
    sets: Vec<usize>,
}

impl Matched {
    /// Looks at the sets that are new, always by the same selectors.
    pub(super) fn update(
        &mut self,
        all: &LabelSets,
        selector: &Selector,
        except: Option<&Selector>,
    ) {
        let new = all.sets.iter().enumerate().skip(self.known);
        let new = new.filter(|(_, labels)| {
            selector.matches(labels) && !except.is_some_and(|except| except.matches(labels))
        });
        self.sets.extend(new.map(|(number, _)| number));
        self.known = all.len();
    }

    pub(super) fn sets(&self) -> &[usize] {
        &self.sets
    }

    pub(super) fn contain(&self, set: usize) -> bool {
        self.sets.binary_search(&set).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_keep_their_numbers_and_only_new_ones_are_looked_at() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            let pairs = pairs.iter();
            pairs
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect()
        };
        let mut all = LabelSets::default();
        assert_eq!(all.number(&labels(&[])), 0);
        assert_eq!(all.number(&labels(&[("a", "x")])), 1);
        assert_eq!(all.number(&labels(&[("a", "x"), ("b", "")])), 2);
        assert_eq!(all.number(&labels(&[("a", "x")])), 1);
        let selector = |text: &str| Selector::parse(text).unwrap();
        let (has_a, has_b) = (selector("has(a)"), selector("has(b)"));
        let (mut matched, mut but) = (Matched::default(), Matched::default());
        for _ in 0..2 {
            matched.update(&all, &has_a, None);
            but.update(&all, &has_a, Some(&has_b));
            assert_eq!((matched.sets(), but.sets()), (&[1, 2][..], &[1][..]));
        }
        assert_eq!(all.number(&labels(&[("a", "y")])), 3);
        matched.update(&all, &has_a, None);
        assert_eq!(matched.sets(), [1, 2, 3]);
        assert!(matched.contain(3) && !matched.contain(0) && !but.contain(2));
    }
}
