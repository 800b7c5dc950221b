//! What is known of the cluster's objects, and what of it is told.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::{
    model::Kind,
    source::{Snapshot, SourceFile, Text},
};

/// A change is told when nothing else came for this long.
const QUIET: Duration = Duration::from_millis(10);
/// However long a burst goes on, it is told after this long.
const PATIENCE: Duration = Duration::from_millis(500);
/// Without them nothing is enforced, and endpoints without policies deny.
const NEEDED: [Kind; 2] = [Kind::HostEndpoint, Kind::GlobalNetworkPolicy];

/// An object's text, or why there is none.
pub(super) type Content = Result<Text, String>;

/// The objects of a kind, by what stands for their files.
pub(super) type Objects = BTreeMap<String, Content>;

/// What is known of all kinds.
#[derive(Debug)]
pub(super) struct State {
    kinds: BTreeMap<Kind, KindState>,
    /// Whether something is in force already, so that a kind which cannot be
    /// listed is known as it was.
    remembers: bool,
    changes: Changes,
}

#[derive(Debug, Default)]
struct KindState {
    phase: Phase,
    /// Why it cannot be followed now, if so.
    failure: Option<String>,
    objects: Objects,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    /// The API server has not told.
    #[default]
    Unknown,
    /// All objects were listed once.
    Listed,
    /// The cluster does not serve the kind.
    Absent,
    /// Nothing refers to the kind.
    Unwanted,
}

/// Changes that were not told yet.
#[derive(Debug, Default)]
struct Changes {
    /// When the first and the last of them came.
    burst: Option<(Instant, Instant)>,
}

impl State {
    /// Begins with what an earlier agent had in force.
    pub(super) fn new(remembered: Vec<SourceFile>) -> Self {
        let mut kinds: BTreeMap<Kind, KindState> = Kind::ALL
            .into_iter()
            .map(|kind| (kind, KindState::default()))
            .collect();
        kinds.entry(Kind::Node).or_default().phase = Phase::Unwanted;
        let mut remembers = false;
        for file in remembered {
            let kind = file.path.split('/').next().unwrap_or_default();
            let kind = Kind::ALL.into_iter().find(|known| known.name() == kind);
            if let Some(state) = kind.and_then(|kind| kinds.get_mut(&kind)) {
                state.objects.insert(file.path, file.content);
                remembers = true;
            }
        }
        let mut state = Self {
            kinds,
            remembers,
            changes: Changes::default(),
        };
        state.refer();
        state
    }

    /// These are all objects of the kind.
    pub(super) fn listed(&mut self, kind: Kind, objects: Objects) {
        self.change(kind, |state| {
            let new = KindState {
                phase: Phase::Listed,
                failure: None,
                objects,
            };
            let changed = state.phase != new.phase
                || state.failure != new.failure
                || state.objects != new.objects;
            *state = new;
            changed
        });
    }

    /// An object is there, or has changed.
    pub(super) fn applied(&mut self, kind: Kind, path: String, content: Content) {
        self.change(kind, |state| {
            let same = state.objects.get(&path) == Some(&content);
            state.objects.insert(path, content);
            !same
        });
    }

    /// An object is gone.
    pub(super) fn deleted(&mut self, kind: Kind, path: &str) {
        self.change(kind, |state| state.objects.remove(path).is_some());
    }

    /// The cluster does not serve the kind. What it held stays: nobody has
    /// told that it was deleted.
    pub(super) fn absent(&mut self, kind: Kind) {
        self.change(kind, |state| {
            let changed = state.phase != Phase::Absent || state.failure.is_some();
            state.phase = Phase::Absent;
            state.failure = None;
            changed
        });
    }

    /// The kind cannot be followed now.
    pub(super) fn failed(&mut self, kind: Kind, reason: String) {
        self.change(kind, |state| {
            let changed = state.failure.as_ref() != Some(&reason);
            state.failure = Some(reason);
            changed
        });
    }

    fn change(&mut self, kind: Kind, change: impl FnOnce(&mut KindState) -> bool) {
        let state = self.kinds.entry(kind).or_default();
        // What was asked for before it was known that nothing refers to it.
        if state.phase == Phase::Unwanted {
            return;
        }
        if change(state) {
            self.refer();
            let now = Instant::now();
            let first = self.changes.burst.map_or(now, |(first, _)| first);
            self.changes.burst = Some((first, now));
        }
    }

    /// Whether an object refers to nodes.
    pub(super) fn wants_nodes(&self) -> bool {
        let templates = self.kinds.get(&Kind::HostEndpointTemplate);
        templates.is_some_and(|templates| !templates.objects.is_empty())
    }

    /// What nothing refers to is forgotten, and what something refers to is
    /// waited for.
    fn refer(&mut self) {
        let wanted = self.wants_nodes();
        let nodes = self.kinds.entry(Kind::Node).or_default();
        match (wanted, nodes.phase) {
            (true, Phase::Unwanted) => nodes.phase = Phase::Unknown,
            (false, Phase::Unknown | Phase::Listed | Phase::Absent) => {
                *nodes = KindState {
                    phase: Phase::Unwanted,
                    ..KindState::default()
                };
            }
            (true, Phase::Unknown | Phase::Listed | Phase::Absent) | (false, Phase::Unwanted) => {}
        }
    }

    /// When what has changed is to be told; `None` if nothing has.
    pub(super) fn due(&self) -> Option<Instant> {
        let (first, last) = self.changes.burst?;
        Some((last + QUIET).min(first + PATIENCE))
    }

    /// Whether anything has changed, which then counts as told.
    pub(super) fn tell(&mut self) -> bool {
        self.changes.burst.take().is_some()
    }

    /// The kinds that are to be followed, and whether they are: what nothing
    /// refers to, or the cluster does not serve and never has, is left out.
    pub(super) fn followed(&self) -> Vec<(Kind, bool)> {
        self.kinds
            .iter()
            .filter(|(_, it)| match it.phase {
                Phase::Unwanted => false,
                Phase::Absent => !it.objects.is_empty(),
                Phase::Unknown | Phase::Listed => true,
            })
            .map(|(kind, it)| (*kind, it.phase == Phase::Listed && it.failure.is_none()))
            .collect()
    }

    /// All that is known, once it is enough to be enforced.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub(super) fn snapshot(&mut self) -> Result<Snapshot, String> {
        self.is_enough()?;
        // From now on, a kind that becomes wanted has no part in what is in
        // force.
        self.remembers = true;
        let mut files = Vec::new();
        for (kind, state) in &self.kinds {
            if let Some(problem) = state.problem(*kind) {
                files.push(SourceFile {
                    path: kind.name().to_owned(),
                    content: Err(problem),
                });
            }
            files.extend(state.objects.iter().map(|(path, content)| SourceFile {
                path: path.clone(),
                content: content.clone(),
            }));
        }
        Ok(Snapshot::of(files))
    }

    /// What stands for this file.
    pub(super) fn text(&self, path: &str) -> Option<Text> {
        let kind = path.split('/').next().unwrap_or_default();
        let kind = Kind::ALL.into_iter().find(|known| known.name() == kind)?;
        let content = self.kinds.get(&kind)?.objects.get(path)?;
        content.as_ref().ok().cloned()
    }

    fn is_enough(&self) -> Result<(), String> {
        for kind in NEEDED {
            let known = self.kinds.get(&kind);
            if known.is_none_or(|it| it.phase == Phase::Absent && it.objects.is_empty()) {
                return Err(format!(
                    "the cluster does not serve {kind}, neither as projectcalico.org/v3 nor as \
                     crd.projectcalico.org/v1: nothing is enforced until it does"
                ));
            }
        }
        let served = || {
            self.kinds
                .iter()
                .filter(|(_, it)| !matches!(it.phase, Phase::Absent | Phase::Unwanted))
        };
        if served().all(|(_, it)| it.failure.is_some())
            && let Some(reason) = served().find_map(|(_, it)| it.failure.as_ref())
        {
            return Err(format!("the API server cannot be followed: {reason}"));
        }
        let unknown = served().filter(|(_, it)| it.phase == Phase::Unknown);
        // Without a memory, what is missing may be all that lets somebody in.
        let missing: Vec<String> = unknown
            .filter(|(_, it)| !self.remembers || it.failure.is_none())
            .map(|(kind, it)| match &it.failure {
                Some(reason) => format!("{kind} ({reason})"),
                None => kind.to_string(),
            })
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "the API server has not listed all kinds yet; missing: {}",
                missing.join(", ")
            ))
        }
    }
}

impl KindState {
    fn problem(&self, kind: Kind) -> Option<String> {
        if let Some(reason) = &self.failure {
            return Some(format!(
                "{reason}: what the cluster last held stays in force"
            ));
        }
        (self.phase == Phase::Absent && !self.objects.is_empty()).then(|| {
            format!("the cluster does not serve {kind} any more: what it last held stays in force")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(names: &[&str]) -> Objects {
        let content = |name: &str| Ok(Text::from(name));
        names
            .iter()
            .map(|name| ((*name).to_owned(), content(name)))
            .collect()
    }

    /// All kinds listed, with one endpoint.
    fn listed() -> State {
        let mut state = State::new(Vec::new());
        for kind in Kind::ALL {
            assert!(state.snapshot().is_err());
            state.listed(kind, Objects::new());
        }
        state.listed(Kind::HostEndpoint, objects(&["HostEndpoint/a"]));
        assert!(state.tell());
        state
    }

    #[test]
    fn only_what_changes_is_told() {
        let mut state = listed();
        let kind = Kind::HostEndpoint;
        state.listed(kind, objects(&["HostEndpoint/a"]));
        state.applied(
            kind,
            "HostEndpoint/a".to_owned(),
            Ok("HostEndpoint/a".into()),
        );
        state.deleted(kind, "HostEndpoint/b");
        assert_eq!(state.due(), None);
        assert!(!state.tell());

        state.applied(kind, "HostEndpoint/a".to_owned(), Ok("other".into()));
        assert!(state.due().is_some() && state.tell());
        state.deleted(kind, "HostEndpoint/a");
        assert!(state.tell());
        state.failed(kind, "away".to_owned());
        assert!(state.tell());
        state.failed(kind, "away".to_owned());
        assert!(!state.tell());
        state.listed(kind, Objects::new());
        assert!(state.tell());
        state.absent(kind);
        assert!(state.tell());
        state.absent(kind);
        assert!(!state.tell());
    }

    #[test]
    fn a_burst_is_told_in_time() {
        let mut state = listed();
        state.applied(Kind::Tier, "Tier/a".to_owned(), Ok("1".into()));
        let first = state.due().unwrap();
        let (begin, _) = state.changes.burst.unwrap();
        assert_eq!(first, begin + QUIET);
        state.changes.burst = Some((begin, begin + PATIENCE));
        assert_eq!(state.due(), Some(begin + PATIENCE));
    }

    #[test]
    fn what_is_not_followed_is_told() {
        let mut state = listed();
        let of = |state: &State, kind| {
            let kinds = state.followed();
            kinds.iter().find(|(one, _)| *one == kind).map(|one| one.1)
        };
        assert_eq!(of(&state, Kind::Tier), Some(true));
        // Nothing refers to nodes.
        assert_eq!(of(&state, Kind::Node), None);
        state.failed(Kind::Tier, "forbidden".to_owned());
        assert_eq!(of(&state, Kind::Tier), Some(false));
        state.absent(Kind::Tier);
        assert_eq!(of(&state, Kind::Tier), None);
        state.absent(Kind::HostEndpoint);
        assert_eq!(of(&state, Kind::HostEndpoint), Some(false));
    }

    #[test]
    fn endpoints_without_policies_are_not_enforced() {
        let mut state = listed();
        state.absent(Kind::GlobalNetworkPolicy);
        let error = state.snapshot().unwrap_err();
        assert!(
            error.contains("does not serve GlobalNetworkPolicy"),
            "{error}"
        );
        // Unless they were there: then they stay.
        state.applied(
            Kind::GlobalNetworkPolicy,
            "GlobalNetworkPolicy/a".to_owned(),
            Ok("a".into()),
        );
        let files = state.snapshot().unwrap().files;
        assert_eq!(files.len(), 3);
        assert_eq!(files[0].path, "GlobalNetworkPolicy");
        assert!(files[0].content.is_err());
    }
}
