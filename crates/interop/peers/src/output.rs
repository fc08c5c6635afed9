//! JSON lines on standard output, the only thing a peer prints there.

use serde::Serialize;
use std::io::{self, Write};

/// Prints one value on a line of its own, at once.
pub fn emit(value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// As [`emit`], from a callback that has nobody to give an error to: when the
/// reader of our output is gone, so is the reason to go on.
pub fn emit_or_exit(value: &impl Serialize) {
    if let Err(error) = emit(value) {
        eprintln!("error: standard output: {error}");
        std::process::exit(1);
    }
}
