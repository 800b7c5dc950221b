//! A private world to work in: mounts, network and processes of its own.
//!
//! The kernel takes all of it down when its first process ends, however that
//! comes about, so nothing can be left behind and two of them cannot meet.

use std::{
    env,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    path::Path,
    process::{Command, ExitStatus},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

/// Set to `1` for everything that runs inside.
pub const ENV_INSIDE: &str = "HOSTFW_SANDBOX";

/// Inside: the process id, as the outside sees it, of the process whose end
/// takes the sandbox down.
pub const ENV_PID: &str = "HOSTFW_SANDBOX_PID";

/// Inside, if the sandbox may outlive the caller: number of the descriptor
/// that [`Lifeline`] takes over.
const ENV_LIFELINE: &str = "HOSTFW_SANDBOX_LIFELINE";

/// Exists in every sandbox, on its private /run: the environment alone could
/// be set by hand.
const MARKER: &str = "/run/hostfw-sandbox";

/// Runs as the first process of the new namespaces and becomes the command.
///
/// /proc is still the outside's when the process id is read, which is how it
/// comes to be the outside's number.
const SET_UP: &str = r#"set -eu
read -r HOSTFW_SANDBOX_PID rest </proc/self/stat
export HOSTFW_SANDBOX_PID HOSTFW_SANDBOX=1
mount -t proc proc /proc
mount -t tmpfs -o mode=0755 tmpfs /run
mount -t bpf bpf /sys/fs/bpf
: >/run/hostfw-sandbox
ip link set lo up
exec "$@"
"#;

/// Whether this process runs in a sandbox.
#[must_use]
pub fn inside() -> bool {
    env::var_os(ENV_INSIDE).is_some_and(|value| value == "1") && Path::new(MARKER).exists()
}

/// For tests: whether to skip, because this is no sandbox. Says so.
#[must_use]
pub fn or_skip() -> bool {
    let skip = !inside();
    if skip {
        println!("skipped: not in a sandbox");
    }
    skip
}

/// Runs the command in a new sandbox, and takes the sandbox down when the
/// command ends or this process does. Of the command, program, arguments,
/// environment and working directory are used.
///
/// # Errors
///
/// If the sandbox cannot be made: no root, or `unshare`, `mount` or `ip` is
/// missing.
pub fn enter(command: &Command) -> Result<ExitStatus> {
    let mut unshare = wrap(command)?;
    let parent = std::process::id();
    // SAFETY: the closure makes only async-signal-safe system calls.
    unsafe { unshare.pre_exec(move || die_with(parent)) };
    unshare.status().context("unshare (package util-linux)")
}

/// As [`enter`], but the command may stay when this process has gone: see
/// [`Lifeline`]. Returns its exit code, or what it passed to
/// [`Lifeline::stay`].
///
/// # Errors
///
/// As [`enter`].
pub fn enter_detachable(command: &Command) -> Result<i32> {
    let (mut reader, writer) = io::pipe().context("pipe")?;
    let fd = writer.as_raw_fd();
    let mut unshare = wrap(command)?;
    unshare.env(ENV_LIFELINE, fd.to_string());
    // SAFETY: the closure makes only async-signal-safe system calls.
    unsafe {
        unshare.pre_exec(move || {
            // Away from this terminal: Ctrl-C must not reach what stays.
            check(libc::setsid())?;
            check(libc::fcntl(fd, libc::F_SETFD, 0)).map(drop)
        });
    };
    let mut child = unshare.spawn().context("unshare (package util-linux)")?;
    drop(writer);
    let mut code = [0];
    match reader.read(&mut code).context("lifeline of the sandbox")? {
        0 => Ok(child.wait()?.code().unwrap_or(1)),
        _ => Ok(i32::from(code[0])),
    }
}

fn wrap(command: &Command) -> Result<Command> {
    // SAFETY: no preconditions.
    let user = unsafe { libc::geteuid() };
    ensure!(
        user == 0,
        "network namespaces and eBPF need root: run this as root"
    );
    if inside() {
        bail!("already in a sandbox");
    }
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--mount", "--net", "--pid", "--fork"])
        .args(["--kill-child=SIGKILL", "--propagation", "private", "--"])
        .args(["/bin/sh", "-c", SET_UP, "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => unshare.env(name, value),
            None => unshare.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        unshare.current_dir(folder);
    }
    Ok(unshare)
}

/// In the child: be killed when the parent ends, even if it ends by SIGKILL.
fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    // SAFETY: no preconditions.
    if u32::try_from(unsafe { libc::getppid() }).ok() != Some(parent) {
        // It ended before the call above.
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Makes SIGINT and SIGTERM end this process. The first process of a process
/// namespace ignores signals that it has no handler for.
pub fn end_on_signals() {
    extern "C" fn end(signal: libc::c_int) {
        // SAFETY: _exit is async-signal-safe.
        unsafe { libc::_exit(128 + signal) }
    }
    let end: extern "C" fn(libc::c_int) = end;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler makes one async-signal-safe call.
        unsafe { libc::signal(signal, end as libc::sighandler_t) };
    }
}

/// Set as soon as the caller's end is expected.
static LET_GO: AtomicBool = AtomicBool::new(false);

/// The inner end of [`enter_detachable`]: while it is held, the end of the
/// caller ends this process, and with it the sandbox.
#[derive(Debug)]
pub struct Lifeline(File);

impl Lifeline {
    /// Takes it over; `None` if the sandbox was made by [`enter`].
    #[must_use]
    pub fn take() -> Option<Self> {
        let fd: RawFd = env::var(ENV_LIFELINE).ok()?.parse().ok()?;
        // Children must not hold it: the caller waits for its closing.
        // SAFETY: the number names a descriptor that only we know of.
        let owned = unsafe {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            OwnedFd::from_raw_fd(fd)
        };
        thread::spawn(move || watch(fd));
        Some(Self(File::from(owned)))
    }

    /// Lets the caller go with this exit code; the sandbox stays until a
    /// signal ends this process.
    ///
    /// # Errors
    ///
    /// If the caller has gone already.
    pub fn stay(mut self, code: u8) -> Result<()> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        for fd in 0..3 {
            // SAFETY: both are open descriptors of this process.
            check(unsafe { libc::dup2(null.as_raw_fd(), fd) })?;
        }
        LET_GO.store(true, Ordering::SeqCst);
        self.0.write_all(&[code])?;
        loop {
            thread::park();
        }
    }
}

/// Ends this process when nobody reads from the pipe any more.
fn watch(fd: RawFd) {
    let mut poll = libc::pollfd {
        fd,
        events: 0,
        revents: 0,
    };
    loop {
        // SAFETY: one valid pollfd.
        let ready = unsafe { libc::poll(&raw mut poll, 1, -1) };
        if ready > 0 {
            if !LET_GO.load(Ordering::SeqCst) {
                // SAFETY: ends the process.
                unsafe { libc::_exit(1) };
            }
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}
