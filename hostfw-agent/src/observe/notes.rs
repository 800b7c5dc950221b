//! What goes wrong beside enforcing, for the status.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::status::Warning;

/// Shared by those who note something and the one who tells it.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<BTreeMap<String, String>>>);

impl Notes {
    /// Notes what is wrong with something, and whether that is news.
    pub fn set(&self, about: &str, message: String) -> bool {
        self.change(|notes| {
            let before = notes.insert(about.to_owned(), message);
            before.as_ref() != notes.get(about)
        })
    }

    /// Nothing is wrong with it any more; whether something was.
    pub fn clear(&self, about: &str) -> bool {
        self.change(|notes| notes.remove(about).is_some())
    }

    /// All of them, by what they are about.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        self.change(|notes| {
            let notes = notes.iter().map(|(about, message)| Warning {
                object: about.clone(),
                message: message.clone(),
            });
            notes.collect()
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<String, String>) -> T) -> T {
        // It is whole after every statement.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_news_are_news() {
        let notes = Notes::default();
        assert!(notes.set("Event", "no".to_owned()));
        assert!(!notes.clone().set("Event", "no".to_owned()));
        assert!(notes.set("Event", "still no".to_owned()));
        assert_eq!(notes.warnings()[0].message, "still no");
        assert!(notes.clear("Event") && !notes.clear("Event"));
        assert_eq!(notes.warnings(), []);
    }
}
