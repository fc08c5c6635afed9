//! Timestamps. In the protobuf messages of `zentinel-agent-protocol` they are milliseconds, in
//! events of this crate RFC 3339 text.

use crate::protocol::timestamp::DAYS_BEFORE_1970;

/// Converts RFC 3339 text to milliseconds since 1970. Returns 0, which stands for no timestamp, if
/// the text is invalid or the time is earlier.
pub(super) fn parse_ms(text: &str) -> u64 {
    parse(text.as_bytes())
        .and_then(|ms| u64::try_from(ms).ok())
        .unwrap_or(0)
}

fn parse(text: &[u8]) -> Option<i64> {
    let (head, rest) = text.split_first_chunk::<19>()?;
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    let is_separated = separators.iter().all(|&(at, byte)| head[at] == byte);
    if !is_separated || !matches!(head[10], b'T' | b't' | b' ') {
        return None;
    }
    let (year, month, day) = (
        number(&head[..4])?,
        number(&head[5..7])?,
        number(&head[8..10])?,
    );
    let (hours, minutes, seconds) = (
        number(&head[11..13])?,
        number(&head[14..16])?,
        number(&head[17..])?,
    );
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hours > 23 || minutes > 59 {
        return None;
    }
    let (ms, zone) = fraction(rest)?;
    let seconds = days_of(year, month, day) * 86_400 + hours * 3600 + minutes * 60 + seconds;
    Some((seconds - offset(zone)?) * 1000 + ms)
}

/// Returns the milliseconds after the seconds, 0 if there are none, and the remaining text.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = rest.strip_prefix(b".") else {
        return Some((0, rest));
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut ms = [b'0'; 3];
    for (digit, &given) in ms.iter_mut().zip(&rest[..digits]) {
        *digit = given;
    }
    Some((number(&ms)?, &rest[digits..])).filter(|_| digits > 0)
}

/// Returns the offset of local time from UTC in seconds.
fn offset(zone: &[u8]) -> Option<i64> {
    match zone {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let seconds = number(&[*h1, *h2])? * 3600 + number(&[*m1, *m2])? * 60;
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

/// Parses a decimal number; `None` if a byte is not a digit.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + i64::from(digit - b'0'))
    })
}

/// Converts a date to days since 1970-01-01. Years are counted from March on, so that a leap day is
/// the last day of its year.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year
        - i64::from(DAYS_BEFORE_1970)
}
