//! JSON lines on standard output. A peer prints nothing else there.

use serde::Serialize;
use std::io::{self, Write};

/// Prints a value on a line and flushes the output.
pub fn emit(value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

/// Like [`emit`], for callbacks that cannot return an error. Ends the process if the
/// output is closed.
pub fn emit_or_exit(value: &impl Serialize) {
    if let Err(error) = emit(value) {
        eprintln!("error: standard output: {error}");
        std::process::exit(1);
    }
}
