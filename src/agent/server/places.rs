//! The places of a server: how many sessions and calls it serves at once.

use super::super::control::AgentControl;
use crate::clock;
use crate::count_guard::CountGuard;
use crate::lock::lock;
use crate::log::{NO_PEER, log_line};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

/// Interval at which silent sessions give way to those who wait for a place.
const ROOM_INTERVAL: Duration = Duration::from_millis(100);

/// Places of sessions and calls that are served at once.
#[derive(Debug)]
pub(in crate::agent) struct Places {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Time when sessions last gave way.
    made_room: Mutex<Option<Instant>>,
    control: AgentControl,
}

impl Places {
    pub(super) fn new(count: usize, control: AgentControl) -> Self {
        Self {
            free: Arc::new(Semaphore::new(count)),
            waiting: AtomicUsize::new(0),
            made_room: Mutex::default(),
            control,
        }
    }

    /// Waits for a place. If all are taken, one silent session gives way for each who waits.
    pub(in crate::agent) async fn acquire(&self) -> OwnedSemaphorePermit {
        let mut acquired = pin!(Arc::clone(&self.free).acquire_owned());
        let _waiting = CountGuard::of(&self.waiting);
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
        if self.is_due() {
            let closed = self.control.make_room(self.waiting.load(Ordering::Relaxed));
            if closed > 0 {
                log_line!(
                    warn,
                    NO_PEER,
                    { closed },
                    "closed connections that sent no events, since all places are taken; raise \
                     max_connections"
                );
            }
        }
        sleep(ROOM_INTERVAL).await;
    }

    /// Returns whether sessions have to give way now. All who wait share one interval, since each
    /// look at the sessions takes time.
    fn is_due(&self) -> bool {
        let mut made_room = lock(&self.made_room);
        let is_due = made_room.is_none_or(|at| clock::elapsed(at) >= ROOM_INTERVAL);
        if is_due {
            *made_room = Some(clock::now());
        }
        is_due
    }
}
