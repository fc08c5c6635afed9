//! Timestamps as text.

use super::{ms_since_epoch, text};
use crate::clock;
use std::time::SystemTime;

/// A point in time as text, in the form that events carry: RFC 3339 in UTC, to the millisecond.
///
/// Neither allocates nor uses `std::fmt`, because a proxy writes one for each request.
///
/// ```
/// use tollgate::events::Timestamp;
///
/// assert_eq!(&*Timestamp::from_ms(951_825_600_123), "2000-02-29T12:00:00.123Z");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Timestamp([u8; 24]);

impl Timestamp {
    /// Returns the current time.
    pub fn now() -> Self {
        Self::from(clock::wall())
    }

    /// Converts milliseconds since the Unix epoch. Times after the year 9999, which RFC 3339 cannot
    /// express, become its last millisecond.
    pub fn from_ms(ms: u64) -> Self {
        let ms = ms.min(LAST_MS);
        let (year, month, day) = date_of((ms / MS_PER_DAY) as u32);
        let ms = (ms % MS_PER_DAY) as u32;
        let (seconds, ms) = (ms / 1000, ms % 1000);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut write =
            |at: usize, pair: u32| text[at..at + 2].copy_from_slice(&PAIRS[pair as usize]);
        write(0, year / 100);
        write(2, year % 100);
        write(5, month);
        write(8, day);
        write(11, seconds / 3600);
        write(14, seconds / 60 % 60);
        write(17, seconds % 60);
        write(20, ms / 10);
        text[22] += (ms % 10) as u8;
        Self(text)
    }

    /// Returns the milliseconds since the Unix epoch whose text this is; `None` if there are none.
    #[inline]
    pub(crate) fn ms_of(text: &str) -> Option<u64> {
        let digits = digits_of(text.as_bytes().try_into().ok()?)?;
        // Ten times each byte, plus the byte behind it. No sum exceeds 99.
        let pairs = digits.map(|word| word * 10 + (word >> 8));
        let pair = |at: usize| u32::from(pairs[at / 8].to_le_bytes()[at % 8]);
        let (year, month, day) = (pair(0) * 100 + pair(2), pair(5), pair(8));
        let (hours, minutes, seconds) = (pair(11), pair(14), pair(17));
        let ms = pair(20) * 10 + u32::from(digits[2].to_le_bytes()[6]);
        let is_valid = year >= 1970
            && (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day)
            && hours < 24
            && minutes < 60
            && seconds < 60;
        if !is_valid {
            return None;
        }
        let of_day = (hours * 3600 + minutes * 60 + seconds) * 1000 + ms;
        Some(u64::from(days_of(year, month, day)) * MS_PER_DAY + u64::from(of_day))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        // The bytes are ASCII, so the default is never used.
        text::from_utf8(&self.0).unwrap_or_default()
    }
}

const MS_PER_DAY: u64 = 24 * 60 * 60 * 1000;
/// Last millisecond of the year 9999.
const LAST_MS: u64 = 253_402_300_799_999;

impl Default for Timestamp {
    /// Returns the Unix epoch.
    fn default() -> Self {
        Self(*b"1970-01-01T00:00:00.000Z")
    }
}

impl From<SystemTime> for Timestamp {
    /// Converts a time. Times before the Unix epoch become the epoch.
    fn from(time: SystemTime) -> Self {
        Self::from_ms(ms_since_epoch(time))
    }
}

text::text_type!(Timestamp);

/// Decimal digits of the numbers from 0 to 99.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        pairs[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
        number += 1;
    }
    pairs
};

/// Days from 1 March of the year 0 to 1 January 1970.
pub(crate) const DAYS_BEFORE_1970: u32 = 719_468;

/// Converts days since 1970-01-01 to year, month and day.
///
/// Years are counted from March on, so that a leap day is the last day of its year. 146,097 days
/// are an era of 400 years, after which the calendar repeats.
fn date_of(days: u32) -> (u32, u32, u32) {
    let days = days + DAYS_BEFORE_1970;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + next, month, day)
}

/// Returns the digits of a timestamp as numbers, in little-endian words; its separators are zeros.
/// `None` if the text has other characters.
///
/// The exclusive or with [`FORM`] leaves digits their value and makes separators zero. The sum sets
/// the high bit of each byte that is larger.
#[inline]
fn digits_of(text: &[u8; 24]) -> Option<[u64; 3]> {
    const FORM: &[u8; 24] = b"0000-00-00T00:00:00.000Z";
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    /// For each byte the number that a larger one than is allowed carries into the high bit with.
    const CARRY: [u8; 24] = {
        let (mut carry, mut at) = ([0x7f; 24], 0);
        while at < FORM.len() {
            if FORM[at] == b'0' {
                carry[at] = 0x7f - 9;
            }
            at += 1;
        }
        carry
    };
    let words = |bytes: &[u8; 24]| {
        let (words, _) = bytes.as_chunks::<8>();
        [0, 1, 2].map(|at| u64::from_le_bytes(words[at]))
    };
    let (text, form, carry) = (words(text), words(FORM), words(&CARRY));
    let digits = [0, 1, 2].map(|at| text[at] ^ form[at]);
    let check = |at: usize| digits[at] | digits[at].wrapping_add(carry[at]);
    let is_valid = (check(0) | check(1) | check(2)) & HIGH_BITS == 0;
    is_valid.then_some(digits)
}

/// The timestamp that was converted last. Another one of the same second is converted faster.
#[derive(Debug, Default)]
pub(crate) struct LastTimestamp {
    text: Timestamp,
    second: u64,
}

impl LastTimestamp {
    /// Returns the text of milliseconds since the Unix epoch, as [`Timestamp::from_ms`] does.
    #[inline]
    pub(crate) fn text_of(&mut self, ms: u64) -> &str {
        let ms = ms.min(LAST_MS);
        let (second, ms_of_second) = (ms / 1000, (ms % 1000) as usize);
        if second == self.second {
            let Timestamp(text) = &mut self.text;
            text[20..22].copy_from_slice(&PAIRS[ms_of_second / 10]);
            text[22] = b'0' + (ms_of_second % 10) as u8;
        } else {
            self.text = Timestamp::from_ms(ms);
            self.second = second;
        }
        self.text.as_str()
    }
}

/// Converts a date since 1970 to days since 1970-01-01, the reverse of [`date_of`].
fn days_of(year: u32, month: u32, day: u32) -> u32 {
    let year = year - u32::from(month <= 2);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - DAYS_BEFORE_1970
}

fn days_in(year: u32, month: u32) -> u32 {
    let is_leap_year =
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 => 28 + u32::from(is_leap_year),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
#[path = "../../tests/unit/protocol/timestamp.rs"]
mod tests;
