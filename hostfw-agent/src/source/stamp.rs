//! The metadata that the store itself keeps: uid, creation time, generation and
//! version, in the manner of the Kubernetes API server.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::resource::{Metadata, Resource};

/// The input was made from another version than the stored one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// `metadata.resourceVersion` or `metadata.uid`.
    pub field: &'static str,
    /// The stored value.
    pub expected: String,
    /// The input's value.
    pub found: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: expected {:?}, as stored, found {:?}",
            self.field, self.expected, self.found
        )
    }
}

/// Compares the input's version and uid with the stored ones. What the input
/// leaves out is not compared.
///
/// # Errors
///
/// What differs.
pub fn check(stored: &Metadata, input: &Metadata) -> Result<(), Conflict> {
    let fields = [
        ("metadata.uid", &stored.uid, &input.uid),
        (
            "metadata.resourceVersion",
            &stored.resource_version,
            &input.resource_version,
        ),
    ];
    for (field, expected, found) in fields {
        if let Some(found) = found.as_ref().filter(|found| !found.is_empty())
            && expected.as_ref() != Some(found)
        {
            return Err(Conflict {
                field,
                expected: expected.clone().unwrap_or_default(),
                found: found.clone(),
            });
        }
    }
    Ok(())
}

/// The first version of an object.
#[must_use]
pub fn created(mut resource: Resource, now: SystemTime) -> Resource {
    let metadata = resource.metadata_mut();
    metadata.uid = Some(new_uid());
    metadata.creation_timestamp = Some(timestamp(now));
    metadata.generation = Some(1);
    metadata.resource_version = Some(next_version(None, now));
    resource
}

/// The version of an object that follows `old`; `None` if nothing changes.
#[must_use]
pub fn updated(old: &Resource, mut new: Resource, now: SystemTime) -> Option<Resource> {
    let stored = old.metadata();
    let metadata = new.metadata_mut();
    metadata.uid = stored.uid.clone().or_else(|| Some(new_uid()));
    metadata.creation_timestamp = stored
        .creation_timestamp
        .clone()
        .or_else(|| Some(timestamp(now)));
    metadata.generation = stored.generation;
    metadata
        .resource_version
        .clone_from(&stored.resource_version);

    let (before, after) = (old.to_value(), new.to_value());
    if before == after {
        return None;
    }
    // Labels count too: they decide which policies apply to an endpoint.
    let enforced = |value: &Value| {
        (
            value.get("spec").cloned(),
            value.pointer("/metadata/labels").cloned(),
        )
    };
    let metadata = new.metadata_mut();
    if enforced(&before) != enforced(&after) || stored.generation.is_none() {
        metadata.generation = Some(stored.generation.unwrap_or(0).saturating_add(1));
    }
    metadata.resource_version = Some(next_version(stored.resource_version.as_deref(), now));
    Some(new)
}

/// A version that no object of the store has had: the time in microseconds, so
/// that an object that was removed and made anew does not start over.
fn next_version(old: Option<&str>, now: SystemTime) -> String {
    let now = u64::try_from(since_epoch(now).as_micros()).unwrap_or(u64::MAX);
    match old.and_then(|old| old.parse::<u64>().ok()) {
        Some(old) => now.max(old.saturating_add(1)).to_string(),
        None => now.to_string(),
    }
}

/// A random UUID (RFC 9562, version 4).
fn new_uid() -> String {
    // Each RandomState has other keys, taken from the kernel's randomness: good
    // enough for a name that need not be secret.
    let word = || u128::from(RandomState::new().hash_one(()));
    let bits = word() << 64 | word();
    let bits = bits & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        bits >> 96,
        bits >> 80 & 0xffff,
        bits >> 64 & 0xffff,
        bits >> 48 & 0xffff,
        bits & 0xffff_ffff_ffff
    )
}

/// RFC 3339, UTC, whole seconds, as Kubernetes writes it.
fn timestamp(now: SystemTime) -> String {
    let seconds = since_epoch(now).as_secs();
    let (mut days, clock) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    while days >= days_of_year(year) {
        days -= days_of_year(year);
        year += 1;
    }
    let mut month = 1;
    while days >= days_of_month(year, month) {
        days -= days_of_month(year, month);
        month += 1;
    }
    format!(
        "{year:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z",
        days + 1,
        clock / 3600,
        clock / 60 % 60,
        clock % 60
    )
}

fn days_of_year(year: u64) -> u64 {
    365 + u64::from(is_leap(year))
}

fn days_of_month(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// A clock that stands before 1970 counts as 1970.
fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn timestamps() {
        assert_eq!(timestamp(at(0)), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(at(951_868_799)), "2000-02-29T23:59:59Z");
        assert_eq!(timestamp(at(951_868_800)), "2000-03-01T00:00:00Z");
        assert_eq!(timestamp(at(1_798_761_599)), "2026-12-31T23:59:59Z");
        assert_eq!(timestamp(at(4_107_542_400)), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn uids_are_version_4_and_differ() {
        let (one, two) = (new_uid(), new_uid());
        assert_ne!(one, two);
        assert_eq!(one.len(), 36);
        assert_eq!(one.as_bytes()[14], b'4');
        assert!(matches!(one.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
    }

    #[test]
    fn versions_only_grow() {
        assert_eq!(next_version(None, at(5)), "5000000");
        assert_eq!(next_version(Some("17"), at(5)), "5000000");
        // The clock was set back.
        assert_eq!(next_version(Some("6000000"), at(5)), "6000001");
        assert_eq!(next_version(Some("from elsewhere"), at(5)), "5000000");
    }
}
