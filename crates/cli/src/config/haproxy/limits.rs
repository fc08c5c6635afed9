//! Limits of what HAProxy takes in a configuration.

use crate::exit::UsageError;
use crate::values::parse_timeout;
use std::time::Duration;

/// Shortest time limit of an answer, and the unit that HAProxy counts in.
const MIN_WAIT: Duration = Duration::from_millis(1);

/// Length limit of a line in bytes, of which HAProxy needs two for its end.
const MAX_LINE: usize = 2_046;

/// Parses the time limit of an answer.
pub(super) fn parse_wait(text: &str) -> Result<Duration, String> {
    let wait = parse_timeout(text)?;
    if wait < MIN_WAIT {
        return Err("must be at least 1ms".to_owned());
    }
    Ok(wait)
}

/// Parses a status that comes through.
pub(super) fn parse_status(text: &str) -> Result<u16, String> {
    let status = text.parse().ok().filter(|status| is_answered(*status));
    status.ok_or_else(|| {
        "expected a status from 200 to 599 whose responses have bodies: not 204, 205 or 304"
            .to_owned()
    })
}

/// Returns whether HAProxy can answer with this status.
pub(super) fn is_answered(status: u16) -> bool {
    (200..600).contains(&status) && ![204, 205, 304].contains(&status)
}

/// Refuses a file with a line that is longer than HAProxy takes.
pub(super) fn check_lines(text: &str) -> Result<(), UsageError> {
    let is_long = text.lines().any(|line| line.len() > MAX_LINE);
    if is_long {
        let reason = "the names of all headers together are longer than a line of HAProxy's \
                      configuration; name fewer of them";
        return Err(UsageError(reason.to_owned()));
    }
    Ok(())
}
