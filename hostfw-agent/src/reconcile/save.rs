//! Writes down what is in force, while the loop goes on.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, Sender},
    thread::{self, JoinHandle},
};

use tracing::error;

use crate::accept::{self, Accepted};

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
    pub(super) fn save(&mut self, accepted: &Accepted) {
        let (done, pending) = mpsc::channel();
        let job = Job {
            accepted: accepted.clone(),
            _done: done,
        };
        self.pending.push(pending);
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

    /// Returns when all is written that was asked for.
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
                while let Ok(mut job) = queue.recv() {
                    let mut passed_over = Vec::new();
                    while let Ok(later) = queue.try_recv() {
                        passed_over.push(std::mem::replace(&mut job, later));
                    }
                    write(&file, &job.accepted);
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
    use super::*;
    use crate::accept::{Problem, RefusedObject};
    use crate::model::{Kind, ObjectRef};

    fn state(number: usize) -> Accepted {
        Accepted {
            refused: vec![RefusedObject {
                object: ObjectRef::new(Kind::Tier, None, &number.to_string()),
                files: Vec::new(),
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
            saver.save(&state(number));
            if number % 7 == 0 {
                saver.wait();
                let saved = accept::load(&file).unwrap();
                assert_eq!(saved.refused, state(number).refused);
            }
        }
        drop(saver);
        assert_eq!(accept::load(&file).unwrap().refused, state(19).refused);
    }
}
