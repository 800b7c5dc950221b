//! Waits for something to change, and reconciles.

use std::{future::Future, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{Dataplane, Reconciler, steps::Steps};
use crate::{
    model::Interface,
    observe::socket::Question,
    source::{Source, Trust},
};

/// Between attempts after a failure: doubled each time, up to the last.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// The store is read again this often although nothing was told to change:
/// files that links in it lead to are not followed, nor network file systems,
/// and who writes through mapped memory leaves no trace.
const RESYNC: Duration = Duration::from_secs(60);

/// Reconciles whenever the store or the interfaces change, and answers
/// questions, until `stop` is ready. What is enforced then stays.
pub async fn run<D: Dataplane, S: Source>(
    mut reconciler: Reconciler<D>,
    mut store: S,
    mut interfaces: watch::Receiver<Vec<Interface>>,
    mut requests: mpsc::Receiver<Question>,
    stop: impl Future<Output = ()>,
) {
    let mut stop = std::pin::pin!(stop);
    let mut trust = Trust::Nothing;
    let mut failures = 0;
    let mut waiting = None;
    // Apart from the next attempt, which each pass puts off.
    let mut resync = Instant::now() + RESYNC;
    loop {
        if Instant::now() >= resync {
            trust = Trust::Nothing;
        }
        if trust == Trust::Nothing {
            resync = Instant::now() + RESYNC;
        }
        let next = pass(
            &mut reconciler,
            &mut store,
            trust,
            &mut interfaces,
            &mut failures,
        );
        trust = Trust::Stamps;
        reconciler.passes.send_modify(|passes| *passes += 1);
        if let Some(question) = waiting.take() {
            answer(&mut reconciler, &store, question);
        }
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return,
                Some(question) = requests.recv() => {
                    // What was stored before the question belongs to the answer:
                    // else the object's old version would be told as enforced.
                    if store.has_changed() {
                        failures = 0;
                        waiting = Some(question);
                        break;
                    }
                    answer(&mut reconciler, &store, question);
                }
                () = store.changed() => {
                    failures = 0;
                    break;
                }
                Ok(()) = interfaces.changed() => {
                    failures = 0;
                    break;
                }
                () = tokio::time::sleep_until(next.min(resync)) => {
                    trust = Trust::Nothing;
                    break;
                }
            }
        }
    }
}

/// Answers a question, by what was read last.
fn answer<D: Dataplane>(reconciler: &mut Reconciler<D>, store: &impl Source, question: Question) {
    reconciler.being_written = store.being_written();
    reconciler.kinds = store.kinds();
    reconciler.answer(question);
}

/// Reads and reconciles, and gives the time of the next attempt.
fn pass<D: Dataplane>(
    reconciler: &mut Reconciler<D>,
    store: &mut impl Source,
    trust: Trust,
    interfaces: &mut watch::Receiver<Vec<Interface>>,
    failures: &mut u32,
) -> Instant {
    let mut steps = Steps::begin();
    let read = store.read(trust, reconciler.snapshot.as_ref());
    reconciler.take_read(read);
    reconciler.being_written = store.being_written();
    steps.done("read");

    let interfaces = interfaces.borrow_and_update().clone();
    let wait = if reconciler.reconcile(&interfaces) {
        *failures = 0;
        RESYNC
    } else {
        let wait = (RETRY[0] * 2u32.saturating_pow(*failures)).min(RETRY[1]);
        *failures = failures.saturating_add(1).min(16);
        wait
    };
    Instant::now() + wait
}
