//! Follows the objects of one kind.

use std::{
    hash::{BuildHasher as _, RandomState},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt as _;
use kube::{
    Api, Client,
    core::ApiResource,
    runtime::watcher::{self, Event, watcher},
};
use tracing::{debug, info, warn};

use super::{
    Shared, Times,
    discovery::{Discovery, Served},
    followed::{Followed, Needs},
    object::{Form, RawObject},
    say,
    state::{Held, Objects},
};
use crate::model::Kind;

/// How often a watch may break off without having told anything, before the
/// objects are listed anew.
const BREAKS: u32 = 3;

/// How long to wait before the next attempt: longer each time, and never the
/// same on two nodes.
#[derive(Debug)]
pub(super) struct Backoff {
    times: [Duration; 2],
    failures: u32,
}

impl Backoff {
    pub(super) fn new(times: [Duration; 2]) -> Self {
        Self { times, failures: 0 }
    }

    fn reset(&mut self) {
        self.failures = 0;
    }

    fn next(&mut self) -> Duration {
        let [first, last] = self.times;
        let full = (first * 2u32.saturating_pow(self.failures)).min(last);
        self.failures = self.failures.saturating_add(1).min(16);
        jitter(full)
    }
}

/// Between half of it and all of it.
fn jitter(full: Duration) -> Duration {
    // Each RandomState has other keys, taken from the kernel's randomness.
    let share = RandomState::new().hash_one(()) % 1024;
    full / 2 + full / 2 * u32::try_from(share).unwrap_or(0) / 1024
}

/// Why following ended.
enum End {
    /// The API server does not know the kind.
    NotFound,
    /// Something else.
    Failed(String),
}

/// Follows what is not always followed, for as long as something refers to it.
/// Of nodes, only the one of this name.
pub(super) async fn follow_wanted(
    kind: Followed,
    resource: ApiResource,
    node: String,
    client: Client,
    shared: Arc<Shared>,
    times: Times,
) {
    let mut wanted = shared.wanted.subscribe();
    let plural = resource.plural.clone();
    let served = Served {
        resource,
        form: Form::Written,
    };
    let all = watcher::Config::default();
    let which = match kind {
        Followed::Kind(Kind::Node) => all.fields(&format!("metadata.name={node}")),
        // What has ended has no address any more, and never will.
        Followed::Pod => all.fields("status.phase!=Succeeded,status.phase!=Failed"),
        Followed::Kind(_) | Followed::Namespace | Followed::ServiceAccount => all,
    };
    let follow = async || {
        let mut backoff = Backoff::new(times.retry);
        loop {
            let which = which.clone();
            let (client, served, shared) = (&client, &served, &*shared);
            let end = if kind.is_bare() {
                follow_served::<true>(kind, which, client, served, shared, times, &mut backoff)
                    .await
            } else {
                follow_served::<false>(kind, which, client, served, shared, times, &mut backoff)
                    .await
            };
            let reason = match end {
                // Ours: an older installation lacks it, and goes on without.
                End::NotFound if kind == Followed::Kind(Kind::NodeAddresses) => {
                    shared.change(|state| state.absent(kind));
                    tokio::time::sleep(jitter(times.rediscover)).await;
                    continue;
                }
                End::NotFound => format!("the API server does not know {plural}"),
                End::Failed(reason) => reason,
            };
            fail(shared, kind, reason);
            tokio::time::sleep(backoff.next()).await;
        }
    };
    // The sender is never dropped before this task.
    while wanted.wait_for(|all| all.contain(kind)).await.is_ok() {
        tokio::select! {
            () = follow() => {}
            _ = wanted.wait_for(|all| !all.contain(kind)) => {}
        }
    }
}

/// Follows the kind for ever.
pub(super) async fn follow(
    kind: Followed,
    client: Client,
    discovery: Arc<Discovery>,
    shared: Arc<Shared>,
    times: Times,
) {
    let mut backoff = Backoff::new(times.retry);
    loop {
        let failure = match discovery.find(&client, kind).await {
            Ok(Some(served)) => {
                debug!(%kind, version = served.resource.api_version, "follows");
                let all = watcher::Config::default();
                let end = follow_served::<false>(
                    kind,
                    all,
                    &client,
                    &served,
                    &shared,
                    times,
                    &mut backoff,
                )
                .await;
                match end {
                    End::NotFound => {
                        discovery.forget().await;
                        // What is told of the kind is for discovery to say.
                        None
                    }
                    End::Failed(reason) => Some(reason),
                }
            }
            Ok(None) => {
                shared.change(|state| state.absent(kind));
                tokio::time::sleep(jitter(times.rediscover)).await;
                continue;
            }
            Err(reason) => Some(reason),
        };
        if let Some(reason) = failure {
            fail(&shared, kind, reason);
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// Tells that the kind cannot be followed: once, for each reason in a row.
fn fail(shared: &Shared, kind: Followed, reason: String) {
    let text = reason.clone();
    if shared.change(|state| state.failed(kind, reason)) {
        warn!(%kind, reason = text, "cannot be followed; tried again");
    }
}

/// Lists and watches the kind until something is wrong that only listing it
/// anew can mend.
async fn follow_served<const BARE: bool>(
    kind: Followed,
    which: watcher::Config,
    client: &Client,
    served: &Served,
    shared: &Shared,
    times: Times,
    backoff: &mut Backoff,
) -> End {
    let api = Api::<RawObject<BARE>>::all_with(client.clone(), &served.resource);
    let mut events = pin!(watcher(api, which));
    let read = |object: RawObject<BARE>| {
        let path: Arc<str> = object.path(kind).into();
        let held = match object.into_text(kind, served.form) {
            Ok(Some((text, needs))) => Some(Held::new(Ok(text), needs)),
            Ok(None) => None,
            Err(reason) => Some(Held::new(Err(reason), Needs::default())),
        };
        (path, held)
    };
    // Those of a list that is not complete yet.
    let mut listing = Some(Objects::new());
    let mut breaks = 0;
    loop {
        // A list comes soon or not at all; for a change one may wait for days.
        let event = if listing.is_some() {
            match tokio::time::timeout(times.patience, events.next()).await {
                Ok(event) => event,
                Err(_) => return End::Failed("the API server takes too long".to_owned()),
            }
        } else {
            events.next().await
        };
        let Some(event) = event else {
            return End::Failed("the watch has ended".to_owned());
        };
        match event {
            Ok(Event::Init) => listing = Some(Objects::new()),
            Ok(Event::InitApply(object)) => {
                if let (path, Some(held)) = read(object) {
                    listing.get_or_insert_default().insert(path, held);
                }
            }
            Ok(Event::InitDone) => {
                let objects = listing.take().unwrap_or_default();
                if shared.change(|state| state.listed(kind, objects)) {
                    info!(%kind, "is followed again");
                }
                backoff.reset();
                breaks = 0;
            }
            Ok(Event::Apply(object)) => {
                match read(object) {
                    (path, Some(held)) => shared.change(|state| state.applied(kind, path, held)),
                    (path, None) => shared.change(|state| state.deleted(kind, &path)),
                }
                backoff.reset();
                breaks = 0;
            }
            Ok(Event::Delete(object)) => {
                shared.change(|state| state.deleted(kind, &object.path(kind)));
                backoff.reset();
                breaks = 0;
            }
            // What was told is too old to be continued: the stream lists anew.
            Err(watcher::Error::WatchError(status)) if status.code == 410 => {
                listing = Some(Objects::new());
            }
            // The connection broke: the stream goes on where it was.
            Err(watcher::Error::WatchFailed(
                kube::Error::ReadEvents(_) | kube::Error::HyperError(_) | kube::Error::Service(_),
            )) if breaks < BREAKS => {
                breaks += 1;
                tokio::time::sleep(backoff.next()).await;
            }
            // An event that cannot be read would be missed: listed anew.
            Err(error) => return end_of(&error),
        }
    }
}

fn end_of(error: &watcher::Error) -> End {
    let (doing, error) = match error {
        watcher::Error::InitialListFailed(error) => ("cannot be listed", error),
        watcher::Error::WatchStartFailed(error) => ("cannot be watched", error),
        watcher::Error::WatchFailed(error) => ("cannot be watched", error),
        watcher::Error::WatchError(status) => {
            return End::Failed(format!("cannot be watched: {}", super::say_status(status)));
        }
        watcher::Error::NoResourceVersion => {
            return End::Failed("cannot be watched: the API server gives no version".to_owned());
        }
    };
    if matches!(error, kube::Error::Api(status) if status.code == 404) {
        return End::NotFound;
    }
    End::Failed(format!("{doing}: {}", say(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_begin_anew() {
        let times = [Duration::from_secs(1), Duration::from_secs(30)];
        let mut backoff = Backoff::new(times);
        for full in [1, 2, 4, 8, 16, 30, 30, 30] {
            let full = Duration::from_secs(full);
            let wait = backoff.next();
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= times[0]);
    }
}
