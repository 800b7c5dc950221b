//! What the programs log for debugging, passed on to the agent's log.

use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;
use tracing::error;

/// Passes on in a task of the current runtime, through the `log` crate, under
/// the programs' own module names (`hostfw::...`).
pub fn spawn(log: EbpfLogger<&'static dyn log::Log>) {
    // SAFETY: the logger keeps the descriptor of its ring buffer open until it
    // is dropped, and nothing here closes it.
    let mut log = match unsafe { AsyncFd::register(log) } {
        Ok(log) => log,
        Err(error) => {
            let error = std::io::Error::from(error);
            error!(%error, "the programs' log cannot be followed");
            return;
        }
    };
    tokio::spawn(async move {
        loop {
            match log.readable_mut().await {
                Ok(mut guard) => {
                    guard.get_inner_mut().flush();
                    guard.clear_ready();
                }
                Err(error) => {
                    error!(%error, "the programs' log can no longer be followed");
                    return;
                }
            }
        }
    });
}
