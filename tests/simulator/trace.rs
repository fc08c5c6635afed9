//! The trace: what happened when, as lines of text, and a hash of them.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use tollgate::sim::clock;

/// The lines of one simulation.
#[derive(Debug)]
pub struct Trace {
    lines: Mutex<Lines>,
    is_kept: bool,
}

#[derive(Debug, Default)]
struct Lines {
    kept: Vec<String>,
    hash: u64,
    count: u64,
}

impl Trace {
    /// Creates a trace. Without `is_kept` it only hashes the lines.
    pub fn new(is_kept: bool) -> Self {
        Self {
            lines: Mutex::default(),
            is_kept,
        }
    }

    /// Adds a line with the present virtual time.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let now = clock::since_start();
        let line = format!("{:>4}.{:03} {what}", now.as_secs(), now.subsec_millis());
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in line.bytes() {
            // FNV-1a: short, and the same everywhere.
            lines.hash = (lines.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        lines.count += 1;
        if self.is_kept {
            lines.kept.push(line);
        }
    }

    /// Takes the lines, and returns the hash of all of them.
    pub fn finish(&self) -> (Vec<String>, u64) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = std::mem::take(&mut lines.kept);
        (kept, lines.hash ^ lines.count)
    }
}
