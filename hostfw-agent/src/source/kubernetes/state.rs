//! What is known of the cluster's objects, and what of it is told.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use super::{
    cluster,
    followed::{Followed, Needs},
};
use crate::{
    model::Kind,
    source::{Files, Snapshot, SourceFile, Text},
};

/// A change is told when nothing else came for this long.
const QUIET: Duration = Duration::from_millis(10);
/// However long a burst goes on, it is told after this long.
const PATIENCE: Duration = Duration::from_millis(500);
/// Without them nothing is enforced, and endpoints without policies deny.
const NEEDED: [Followed; 2] = [
    Followed::Kind(Kind::HostEndpoint),
    Followed::Kind(Kind::GlobalNetworkPolicy),
];

/// An object's text, or why there is none.
pub(super) type Content = Result<Text, String>;

/// What is told of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    content: Content,
    /// What it refers to.
    needs: Needs,
}

impl Held {
    pub(super) fn new(content: Content, needs: Needs) -> Self {
        Self { content, needs }
    }

    /// What was in force. It says itself what it refers to.
    fn remembered(kind: Followed, content: Content) -> Self {
        let read = content.as_ref().ok();
        let read = read.and_then(|text| serde_json::from_str::<Value>(text).ok());
        let needs = read.map(|value| kind.needs_of(&value));
        Self::new(content, needs.unwrap_or_default())
    }
}

/// The objects of a kind, by what stands for their files.
pub(super) type Objects = BTreeMap<Arc<str>, Held>;

/// What is known of all kinds.
#[derive(Debug)]
pub(super) struct State {
    kinds: BTreeMap<Followed, KindState>,
    /// What something refers to.
    wanted: Needs,
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
    /// Its objects.
    files: Files,
    /// What they refer to, of those that refer to something.
    needs: BTreeMap<Arc<str>, Needs>,
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
        let mut kinds: BTreeMap<Followed, KindState> = Followed::all()
            .map(|kind| (kind, KindState::default()))
            .collect();
        for (kind, state) in &mut kinds {
            if kind.on_demand().is_some() {
                state.phase = Phase::Unwanted;
            }
        }
        let mut remembers = false;
        for file in remembered {
            let kind = file.path.split('/').next().unwrap_or_default();
            let kind = Followed::all().find(|known| known.name() == kind);
            if let Some(kind) = kind
                && let Some(state) = kinds.get_mut(&kind)
            {
                let held = Held::remembered(kind, file.content);
                state.put(file.path, held);
                remembers = true;
            }
        }
        let mut state = Self {
            kinds,
            wanted: Needs::default(),
            remembers,
            changes: Changes::default(),
        };
        state.refer();
        state
    }

    /// These are all objects of the kind. Returns whether that could not be
    /// told before.
    pub(super) fn listed(&mut self, kind: Followed, objects: Objects) -> bool {
        let mut mended = false;
        self.change(kind, |state| {
            mended = state.failure.is_some();
            let mut changed = state.phase != Phase::Listed || mended;
            state.phase = Phase::Listed;
            state.failure = None;
            let known = state.files.iter().map(|file| &file.path);
            let gone = known.filter(|path| !objects.contains_key(*path)).cloned();
            for path in gone.collect::<Vec<_>>() {
                changed |= state.take(&path);
            }
            for (path, held) in objects {
                changed |= state.put(path, held);
            }
            changed
        });
        mended
    }

    /// An object is there, or has changed.
    pub(super) fn applied(&mut self, kind: Followed, path: Arc<str>, held: Held) {
        self.change(kind, |state| state.put(path, held));
    }

    /// An object is gone.
    pub(super) fn deleted(&mut self, kind: Followed, path: &str) {
        self.change(kind, |state| state.take(path));
    }

    /// The cluster does not serve the kind. What it held stays: nobody has
    /// told that it was deleted.
    pub(super) fn absent(&mut self, kind: Followed) {
        self.change(kind, |state| {
            let changed = state.phase != Phase::Absent || state.failure.is_some();
            state.phase = Phase::Absent;
            state.failure = None;
            changed
        });
    }

    /// The kind cannot be followed now. Returns whether that is news.
    pub(super) fn failed(&mut self, kind: Followed, reason: String) -> bool {
        let mut news = false;
        self.change(kind, |state| {
            news = state.failure.as_ref() != Some(&reason);
            state.failure = Some(reason);
            news
        });
        news
    }

    fn change(&mut self, kind: Followed, change: impl FnOnce(&mut KindState) -> bool) {
        let state = self.kinds.entry(kind).or_default();
        // What was asked for before it was known that nothing refers to it.
        if state.phase == Phase::Unwanted {
            return;
        }
        if change(state) {
            // What is followed on demand refers to nothing.
            if kind.on_demand().is_none() {
                self.refer();
            }
            let now = Instant::now();
            let first = self.changes.burst.map_or(now, |(first, _)| first);
            self.changes.burst = Some((first, now));
        }
    }

    /// What something refers to.
    pub(super) const fn wanted(&self) -> &Needs {
        &self.wanted
    }

    /// What nothing refers to is forgotten, and what something refers to is
    /// waited for.
    fn refer(&mut self) {
        let mut wanted = Needs::default();
        // What is followed on demand refers to nothing, and there may be much.
        let asking = self.kinds.iter().filter(|it| it.0.on_demand().is_none());
        for (_, kind) in asking {
            for needs in kind.needs.values() {
                wanted.extend(*needs);
            }
        }
        for (kind, state) in &mut self.kinds {
            if kind.on_demand().is_none() {
                continue;
            }
            match (wanted.contain(*kind), state.phase) {
                (true, Phase::Unwanted) => state.phase = Phase::Unknown,
                (false, Phase::Unknown | Phase::Listed | Phase::Absent) => {
                    *state = KindState {
                        phase: Phase::Unwanted,
                        ..KindState::default()
                    };
                }
                (true, Phase::Unknown | Phase::Listed | Phase::Absent)
                | (false, Phase::Unwanted) => {}
            }
        }
        self.wanted = wanted;
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
    pub(super) fn followed(&self) -> Vec<(&'static str, bool)> {
        self.kinds
            .iter()
            .filter(|(_, it)| match it.phase {
                Phase::Unwanted => false,
                Phase::Absent => !it.files.is_empty(),
                Phase::Unknown | Phase::Listed => true,
            })
            .map(|(kind, it)| {
                (
                    kind.name(),
                    it.phase == Phase::Listed && it.failure.is_none(),
                )
            })
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
        // By name, and not by kind: so their paths are in order.
        let kinds: BTreeMap<&str, (&Followed, &KindState)> =
            self.kinds.iter().map(|it| (it.0.name(), it)).collect();
        let mut files = Files::default();
        for (name, (kind, state)) in kinds {
            if let Some(problem) = state.problem(*kind) {
                files.insert(SourceFile {
                    path: name.into(),
                    content: Err(problem),
                });
            }
            if *kind == Followed::Kind(Kind::Profile) {
                files.append(&self.profiles(&state.files));
            } else {
                files.append(&state.files);
            }
        }
        Ok(files.into())
    }

    /// Of these profiles, those that nothing else says: Calico's API server says in
    /// profiles what namespaces and service accounts say, too.
    fn profiles(&self, profiles: &Files) -> Files {
        let mut told = profiles.clone();
        if profiles.is_empty() {
            return told;
        }
        let said: HashSet<String> = [Followed::Namespace, Followed::ServiceAccount]
            .iter()
            .filter_map(|kind| self.kinds.get(kind))
            .flat_map(|state| state.files.iter())
            .filter_map(|file| cluster::profile_path(&file.path))
            .collect();
        for path in said {
            told.remove(&path);
        }
        told
    }

    /// What stands for this file.
    pub(super) fn text(&self, path: &str) -> Option<Text> {
        let kind = path.split('/').next().unwrap_or_default();
        let kind = Followed::all().find(|known| known.name() == kind)?;
        let file = self.kinds.get(&kind)?.files.get(path)?;
        file.content.as_ref().ok().cloned()
    }

    fn is_enough(&self) -> Result<(), String> {
        for kind in NEEDED {
            let known = self.kinds.get(&kind);
            if known.is_none_or(|it| it.phase == Phase::Absent && it.files.is_empty()) {
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
    /// Puts an object in, and says whether that changes anything.
    fn put(&mut self, path: Arc<str>, held: Held) -> bool {
        let Held { content, mut needs } = held;
        let before = self.files.get(&path);
        let needed = self.needs.get(&path).copied().unwrap_or_default();
        // Whether the version before is not valid is not known here, and then it
        // stays in force: so what it referred to is referred to still.
        needs.extend(needed);
        if before.is_some_and(|before| before.content == content) && needs == needed {
            return false;
        }
        if needs != Needs::default() {
            self.needs.insert(Arc::clone(&path), needs);
        }
        self.files.insert(SourceFile { path, content });
        true
    }

    /// Takes an object out, and says whether it was there.
    fn take(&mut self, path: &str) -> bool {
        self.needs.remove(path);
        self.files.remove(path)
    }

    fn problem(&self, kind: Followed) -> Option<String> {
        if let Some(reason) = &self.failure {
            return Some(format!(
                "{reason}: what the cluster last held stays in force"
            ));
        }
        (self.phase == Phase::Absent && !self.files.is_empty()).then(|| {
            format!("the cluster does not serve {kind} any more: what it last held stays in force")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST_ENDPOINT: Followed = Followed::Kind(Kind::HostEndpoint);
    const POLICY: Followed = Followed::Kind(Kind::GlobalNetworkPolicy);

    fn held(text: &str) -> Held {
        Held::new(Ok(Text::from(text)), Needs::default())
    }

    fn objects(names: &[&str]) -> Objects {
        names
            .iter()
            .map(|name| ((*name).into(), held(name)))
            .collect()
    }

    /// All kinds listed, with one endpoint.
    fn listed() -> State {
        let mut state = State::new(Vec::new());
        for kind in Followed::all().filter(|kind| kind.on_demand().is_none()) {
            assert!(state.snapshot().is_err());
            state.listed(kind, Objects::new());
        }
        state.listed(HOST_ENDPOINT, objects(&["HostEndpoint/a"]));
        assert!(state.tell());
        state
    }

    #[test]
    fn only_what_changes_is_told() {
        let mut state = listed();
        let kind = HOST_ENDPOINT;
        state.listed(kind, objects(&["HostEndpoint/a"]));
        state.applied(kind, "HostEndpoint/a".into(), held("HostEndpoint/a"));
        state.deleted(kind, "HostEndpoint/b");
        assert_eq!(state.due(), None);
        assert!(!state.tell());

        state.applied(kind, "HostEndpoint/a".into(), held("other"));
        assert!(state.due().is_some() && state.tell());
        state.deleted(kind, "HostEndpoint/a");
        assert!(state.tell());
        assert!(state.failed(kind, "away".to_owned()));
        assert!(state.tell());
        assert!(!state.failed(kind, "away".to_owned()));
        assert!(!state.tell());
        assert!(state.listed(kind, Objects::new()));
        assert!(state.tell());
        assert!(!state.listed(kind, Objects::new()));
        assert!(!state.tell());
        state.absent(kind);
        assert!(state.tell());
        state.absent(kind);
        assert!(!state.tell());
    }

    #[test]
    fn a_burst_is_told_in_time() {
        let mut state = listed();
        state.applied(Followed::Kind(Kind::Tier), "Tier/a".into(), held("1"));
        let first = state.due().unwrap();
        let (begin, _) = state.changes.burst.unwrap();
        assert_eq!(first, begin + QUIET);
        state.changes.burst = Some((begin, begin + PATIENCE));
        assert_eq!(state.due(), Some(begin + PATIENCE));
    }

    #[test]
    fn what_is_not_followed_is_told() {
        let mut state = listed();
        let of = |state: &State, kind: Followed| {
            let kinds = state.followed();
            let found = kinds.iter().find(|(one, _)| *one == kind.name());
            found.map(|one| one.1)
        };
        let tier = Followed::Kind(Kind::Tier);
        assert_eq!(of(&state, tier), Some(true));
        // Nothing refers to nodes.
        assert_eq!(of(&state, Followed::Kind(Kind::Node)), None);
        state.failed(tier, "forbidden".to_owned());
        assert_eq!(of(&state, tier), Some(false));
        state.absent(tier);
        assert_eq!(of(&state, tier), None);
        state.absent(HOST_ENDPOINT);
        assert_eq!(of(&state, HOST_ENDPOINT), Some(false));
    }

    #[test]
    fn endpoints_without_policies_are_not_enforced() {
        let mut state = listed();
        state.absent(POLICY);
        let error = state.snapshot().unwrap_err();
        assert!(
            error.contains("does not serve GlobalNetworkPolicy"),
            "{error}"
        );
        // Unless they were there: then they stay.
        state.applied(POLICY, "GlobalNetworkPolicy/a".into(), held("a"));
        let files = state.snapshot().unwrap().files;
        assert_eq!(files.len(), 3);
        assert_eq!(&*files[0].path, "GlobalNetworkPolicy");
        assert!(files[0].content.is_err());
    }
}
