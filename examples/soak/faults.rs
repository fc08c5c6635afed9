//! The kinds of faults, and how often each was injected.

use std::ops::AddAssign;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Killed,
    Stopped,
    Paused,
    Degraded,
    Moved,
    Stalled,
    Lost,
    Reset,
    NoDescriptors,
    FullDisk,
    ClockJump,
}

impl Fault {
    pub(crate) const ALL: [Self; 11] = [
        Self::Killed,
        Self::Stopped,
        Self::Paused,
        Self::Degraded,
        Self::Moved,
        Self::Stalled,
        Self::Lost,
        Self::Reset,
        Self::NoDescriptors,
        Self::FullDisk,
        Self::ClockJump,
    ];

    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Killed => "SIGKILL, and a restart up to 1 s later",
            Self::Stopped => "SIGSTOP for up to 18 s",
            Self::Paused => "the agent pauses by flow control for up to 0.5 s",
            Self::Degraded => "the agent reports that it is degraded",
            Self::Moved => "another process with another address takes over",
            Self::Stalled => "the relay forwards nothing for up to 18 s, then everything",
            Self::Lost => "the relay loses all data for up to 18 s, then resets",
            Self::Reset => "the relay resets all connections",
            Self::NoDescriptors => "no free descriptors, and all connections are reset",
            Self::FullDisk => "the log has no space left",
            Self::ClockJump => "the clock jumps by up to 400 days and back",
        }
    }
}

/// Numbers of faults by kind.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally([u64; Fault::ALL.len()]);

impl Tally {
    pub(crate) fn count(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    pub(crate) fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        for (sum, more) in self.0.iter_mut().zip(more.0) {
            *sum += more;
        }
    }
}
