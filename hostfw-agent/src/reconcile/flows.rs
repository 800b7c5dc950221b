//! Tells clients the flows. There may be a million, so it is done beside the
//! loop.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::oneshot, task::spawn_blocking};

use super::ReadFlows;
use crate::observe::socket::{Refusal, Reply};

/// Those who asked for the flows. They are served one by one: what is read for
/// one of them takes memory.
#[derive(Clone, Debug, Default)]
pub(super) struct FlowClients(Arc<Mutex<()>>);

impl FlowClients {
    /// Reads the flows on another thread and sends them.
    pub(super) fn serve(&self, read: ReadFlows, reply: oneshot::Sender<Reply>) {
        let turn = self.clone();
        spawn_blocking(move || {
            let told = {
                // Nothing is guarded but the turn itself.
                let _turn = turn.0.lock().unwrap_or_else(PoisonError::into_inner);
                if reply.is_closed() {
                    return;
                }
                read()
            };
            // Fails if the client went away meanwhile.
            let _ = reply.send(match told {
                Ok(flows) => Reply::Flows(flows),
                Err(error) => refusal(&error),
            });
        });
    }
}

pub(super) fn refusal(error: &dyn fmt::Display) -> Reply {
    Reply::Refusal(Refusal {
        error: format!("cannot read the flows: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::observe::live::Flows;

    fn left_out(left_out: usize) -> Reply {
        Reply::Flows(Flows {
            left_out,
            ..Flows::default()
        })
    }

    #[tokio::test]
    async fn the_loop_goes_on_while_flows_are_read_one_client_at_a_time() {
        let clients = FlowClients::default();
        let (begin, wait) = mpsc::channel::<()>();
        let (first, mut first_told) = oneshot::channel();
        clients.serve(
            Box::new(move || {
                wait.recv().map_err(|error| error.to_string())?;
                Ok(Flows {
                    left_out: 1,
                    ..Flows::default()
                })
            }),
            first,
        );
        // This thread is the loop's, and it is here although nothing is read.
        assert!(first_told.try_recv().is_err());
        let (second, second_told) = oneshot::channel();
        let refuse = || Err("no such map".to_owned());
        clients.serve(Box::new(refuse), second);
        begin.send(()).unwrap();
        assert_eq!(first_told.await.unwrap(), left_out(1));
        let told = second_told.await.unwrap();
        assert_eq!(told, refusal(&"no such map"));
    }

    #[tokio::test]
    async fn nothing_is_read_for_a_client_that_went_away() {
        let (reply, told) = oneshot::channel();
        drop(told);
        let (alive, dropped) = mpsc::channel::<()>();
        FlowClients::default().serve(
            Box::new(move || {
                alive.send(()).map_err(|error| error.to_string())?;
                Ok(Flows::default())
            }),
            reply,
        );
        let read = tokio::task::spawn_blocking(move || dropped.recv());
        assert!(read.await.unwrap().is_err(), "it was read");
    }
}
