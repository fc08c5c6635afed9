//! The clock of a simulation.
//!
//! A simulation drives several tokio runtimes with paused clocks on one thread, in turns. Each of
//! them counts time from its own start, so the simulation says before each turn which time that is.

use super::{Duration, Instant, SystemTime};
use std::cell::Cell;

#[derive(Debug, Clone, Copy)]
struct State {
    /// Zero point of the simulation.
    start: Instant,
    /// Time since `start` when the present turn began.
    elapsed: Duration,
    /// Time of the runtime whose turn it is when that turn began. `None` between turns.
    entered: Option<tokio::time::Instant>,
    /// Time of the system's clock at `start`, which a simulation may change.
    wall: SystemTime,
}

thread_local! {
    static STATE: Cell<Option<State>> = const { Cell::new(None) };
}

/// Begins a simulation on this thread, at the time zero.
pub fn start(wall: SystemTime) {
    STATE.set(Some(State {
        start: Instant::now(),
        elapsed: Duration::ZERO,
        entered: None,
        wall,
    }));
}

/// Ends the simulation on this thread.
pub fn stop() {
    STATE.set(None);
}

/// Returns whether a simulation runs on this thread.
pub fn is_active() -> bool {
    STATE.get().is_some()
}

/// Begins the turn of the current tokio runtime, at a time since the start of the simulation.
pub fn enter(elapsed: Duration) {
    change(|state| {
        state.elapsed = elapsed;
        state.entered = Some(tokio::time::Instant::now());
    });
}

/// Ends the turn of a runtime, at a time since the start of the simulation.
pub fn leave(elapsed: Duration) {
    change(|state| {
        state.elapsed = elapsed;
        state.entered = None;
    });
}

/// Returns the time since the start of the simulation.
pub fn since_start() -> Duration {
    STATE.get().map_or(Duration::ZERO, State::since_start)
}

/// Sets the system's clock forward or back.
pub fn jump(by: Duration, is_forward: bool) {
    change(|state| {
        if is_forward {
            state.wall += by;
        } else {
            state.wall -= by;
        }
    });
}

fn change(change: impl FnOnce(&mut State)) {
    STATE.set(STATE.get().map(|mut state| {
        change(&mut state);
        state
    }));
}

impl State {
    fn since_start(self) -> Duration {
        let turn = self
            .entered
            .map(|entered| tokio::time::Instant::now().duration_since(entered));
        self.elapsed + turn.unwrap_or_default()
    }
}

pub(crate) fn now() -> Instant {
    STATE
        .get()
        .map_or_else(Instant::now, |state| state.start + state.since_start())
}

pub(crate) fn wall() -> SystemTime {
    STATE
        .get()
        .map_or_else(SystemTime::now, |state| state.wall + state.since_start())
}

pub(crate) fn timer(at: Instant) -> tokio::time::Instant {
    if !is_active() {
        return at.into();
    }
    tokio::time::Instant::now() + at.saturating_duration_since(now())
}
