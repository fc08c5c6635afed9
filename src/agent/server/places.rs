//! The places of a server: how many sessions and calls it serves at once.

use super::super::control::AgentControl;
use crate::log::{NO_PEER, log_line};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

/// Interval at which whoever waits for a place makes a session give way.
const ROOM_INTERVAL: Duration = Duration::from_millis(100);

/// Places of sessions and calls that are served at once.
#[derive(Debug)]
pub(in crate::agent) struct Places {
    free: Arc<Semaphore>,
    control: AgentControl,
}

impl Places {
    pub(super) fn new(count: usize, control: AgentControl) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count)),
            control,
        }
    }

    /// Waits for a place. If all are taken, silent sessions give way, one in each
    /// [`ROOM_INTERVAL`].
    pub(in crate::agent) async fn acquire(&self) -> OwnedSemaphorePermit {
        let mut acquired = pin!(Arc::clone(&self.free).acquire_owned());
        loop {
            tokio::select! {
                biased;
                // The semaphore is never closed.
                Ok(place) = &mut acquired => return place,
                () = self.make_room() => {}
            }
        }
    }

    async fn make_room(&self) {
        if self.control.make_room() {
            log_line!(
                warn,
                NO_PEER,
                {},
                "closed a connection that sent no events, since all places are taken; raise \
                 max_connections"
            );
        }
        sleep(ROOM_INTERVAL).await;
    }
}
