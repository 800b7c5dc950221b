//! Writes down what is in force, while the loop goes on.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::error;

use crate::{
    accept::{self, Accepted, AcceptedObject},
    model::Kind,
    sorted::Change,
};

/// How long a state that may wait does, for each second that the last one took
/// to be written. It is written whole, and of pods there may be 100,000.
const REST: u32 = 30;
/// At most.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// How soon a state is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// At once: what was told to be in force is so after a reboot as well.
    Now,
    /// Soon: what differs comes from the cluster all the time, and nobody who
    /// wrote it asks whether it is in force.
    Soon,
}

impl When {
    /// When to write what is in force now, which was that before.
    pub(super) fn of(before: &Accepted, now: &Accepted) -> Self {
        let written = |change: &Change<'_, AcceptedObject>| {
            change.before.or(change.now).is_some_and(|object| {
                !matches!(
                    object.named.kind,
                    Kind::EndpointSlice | Kind::NodeAddresses | Kind::WorkloadEndpoint
                )
            })
        };
        let same = before.refused == now.refused
            && !now
                .objects
                .changes_from(&before.objects)
                .iter()
                .any(written);
        if same { Self::Soon } else { Self::Now }
    }
}

/// Writes one state after another; of those that wait, only the last.
#[derive(Debug)]
pub(super) struct Saver {
    file: PathBuf,
    writer: Option<Writer>,
    /// Ends when what was asked for is written.
    pending: Vec<Receiver<()>>,
}

#[derive(Debug)]
struct Writer {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

struct Job {
    accepted: Accepted,
    when: When,
    /// Closed when the state, or a later one, is written.
    _done: Sender<()>,
}

impl Saver {
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            writer: None,
            pending: Vec::new(),
        }
    }

    /// Has this state written.
    pub(super) fn save(&mut self, accepted: &Accepted, when: When) {
        let (done, pending) = mpsc::channel();
        let job = Job {
            accepted: accepted.clone(),
            when,
            _done: done,
        };
        if when == When::Now {
            self.pending.push(pending);
        }
        if self.writer.is_none() {
            self.writer = self.start();
        }
        match &self.writer {
            // Its thread ends only after the sender does.
            Some(writer) => {
                let _ = writer.jobs.send(job);
            }
            None => write(&self.file, &job.accepted),
        }
    }

    /// Returns when all is written that was to be at once.
    pub(super) fn wait(&mut self) {
        for pending in self.pending.drain(..) {
            // Nothing is ever sent: the other end is closed.
            let _ = pending.recv();
        }
    }

    fn start(&self) -> Option<Writer> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let file = self.file.clone();
        let thread = thread::Builder::new()
            .name("save".to_owned())
            .spawn(move || {
                step_back();
                let mut rested = Instant::now();
                while let Ok(mut job) = queue.recv() {
                    let mut passed_over = Vec::new();
                    let mut at_once = false;
                    loop {
                        at_once |= job.when == When::Now;
                        let left = match at_once {
                            true => Duration::ZERO,
                            false => rested.saturating_duration_since(Instant::now()),
                        };
                        // Also if nobody asks any more: then it is time.
                        let Ok(later) = queue.recv_timeout(left) else {
                            break;
                        };
                        passed_over.push(std::mem::replace(&mut job, later));
                    }
                    let begin = Instant::now();
                    write(&file, &job.accepted);
                    rested = Instant::now() + (begin.elapsed() * REST).min(LONGEST_REST);
                    drop((job, passed_over));
                    give_back();
                }
            });
        thread.ok().map(|thread| Writer { jobs, thread })
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        if let Some(Writer { jobs, thread }) = self.writer.take() {
            drop(jobs);
            let _ = thread.join();
        }
    }
}

/// Lets the loop go first where there are not CPUs for both: a change that comes
/// now matters more than writing down the one before.
fn step_back() {
    const NICE: libc::c_int = 10;
    // SAFETY: no pointers; 0 is the thread that calls. That it fails costs speed.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
}

/// Gives memory back to the kernel that texts and trees took, and that the
/// allocator would keep for more of them; but not a little, which the next change
/// would only have to ask for again, page by page.
fn give_back() {
    /// Bytes: what a change of a set of 100,000 networks takes for a moment, and
    /// some more.
    #[cfg(target_env = "gnu")]
    const LITTLE: usize = 32 << 20;
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; they may be called at any time.
    unsafe {
        if libc::mallinfo2().fordblks > LITTLE {
            libc::malloc_trim(0);
        }
    }
}

fn write(file: &Path, accepted: &Accepted) {
    if let Err(error) = accept::save(file, accepted) {
        error!(
            file = %file.display(),
            %error,
            "cannot write down what is in force"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        accept::{Problem, RefusedObject},
        model::ObjectRef,
        resource::parse_documents,
        validate::validate,
    };

    fn state(number: usize) -> Accepted {
        Accepted {
            refused: vec![RefusedObject {
                object: ObjectRef::new(Kind::Tier, None, &number.to_string()),
                files: Arc::default(),
                stored_generation: None,
            }],
            problems: vec![Problem {
                file: None,
                object: None,
                message: "is not saved".to_owned(),
            }],
            ..Accepted::default()
        }
    }

    #[test]
    fn the_last_state_is_written_and_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.json");
        let mut saver = Saver::new(&file);
        saver.wait();
        for number in 0..20 {
            saver.save(&state(number), When::Now);
            if number % 7 == 0 {
                saver.wait();
                let saved = accept::load(&file).unwrap();
                assert_eq!(saved.refused, state(number).refused);
            }
        }
        drop(saver);
        assert_eq!(accept::load(&file).unwrap().refused, state(19).refused);
    }

    #[test]
    fn what_may_wait_is_written_with_what_may_not_or_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.json");
        let written = || accept::load(&file).unwrap().refused;
        let mut saver = Saver::new(&file);
        saver.save(&state(1), When::Now);
        saver.save(&state(2), When::Soon);
        saver.save(&state(3), When::Now);
        saver.save(&state(4), When::Soon);
        // It does not wait for the last one, which may be there all the same.
        saver.wait();
        assert!([state(3).refused, state(4).refused].contains(&written()));
        saver.save(&state(5), When::Now);
        saver.wait();
        assert_eq!(written(), state(5).refused);
        saver.save(&state(6), When::Soon);
        drop(saver);
        assert_eq!(written(), state(6).refused);
    }

    #[test]
    fn only_what_the_cluster_changes_by_itself_may_wait() {
        let accepted = |objects: &[&str]| {
            let parsed = objects.iter().map(|text| {
                let resources = parse_documents(text).remove(0).result.unwrap();
                let resource = resources.into_iter().next().unwrap();
                AcceptedObject {
                    named: resource.object_ref(),
                    files: Arc::default(),
                    object: validate(&resource).unwrap(),
                    resource: accept::Written::new(resource, None),
                    stored: crate::accept::Stored::Current,
                    stored_generation: None,
                }
            });
            Accepted {
                objects: parsed.collect(),
                ..Accepted::default()
            }
        };
        let pod = "{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: \
                   {name: a, namespace: b}}";
        let tier = "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: a}, spec: \
                    {order: 1}}";
        let other = tier.replace("order: 1", "order: 2");
        let both = accepted(&[pod, tier]);
        assert_eq!(When::of(&accepted(&[tier]), &both), When::Soon);
        assert_eq!(When::of(&both, &accepted(&[tier])), When::Soon);
        assert_eq!(When::of(&both, &accepted(&[pod])), When::Now);
        assert_eq!(When::of(&both, &accepted(&[pod, &other])), When::Now);
        assert_eq!(When::of(&both, &state(1)), When::Now);
    }
}
