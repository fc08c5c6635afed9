use serde::de::IgnoredAny;

/// simd-json looks at what stands behind a number only if the number is shorter than this.
const UNCHECKED_LEN: usize = 19;

/// Whether a long number runs into something that is no part of it, such as `1000000000000000000x`.
/// simd-json would pass over the rest.
pub(super) fn long_number_runs_on(json: &[u8]) -> bool {
    // In a string this is right; whether it is one takes reading everything before it.
    has_suspect(json) && serde_json::from_slice::<IgnoredAny>(json).is_err()
}

/// Looks at one byte in so many: no run that is long enough has room between them.
fn has_suspect(json: &[u8]) -> bool {
    let mut at = UNCHECKED_LEN - 1;
    while let Some(byte) = json.get(at) {
        if is_in_number(*byte) {
            let before = run_len(json[..at].iter().rev());
            let end = at + run_len(json[at..].iter());
            let (run, rest) = (&json[at - before..end], &json[end..]);
            if run.len() >= UNCHECKED_LEN && !is_whole_integer(run, rest) {
                return true;
            }
            at = end;
        }
        at += UNCHECKED_LEN;
    }
    false
}

fn run_len<'a>(bytes: impl Iterator<Item = &'a u8>) -> usize {
    bytes.take_while(|byte| is_in_number(**byte)).count()
}

/// Whether it is what a number is made of up to its exponent, which is the part whose length counts.
const fn is_in_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'.')
}

fn is_whole_integer(run: &[u8], rest: &[u8]) -> bool {
    run.iter().all(u8::is_ascii_digit) && rest.first().is_none_or(|next| may_follow(*next))
}

/// A quote behind a number is refused by simd-json, and ends a string that only looks like one.
const fn may_follow(byte: u8) -> bool {
    matches!(
        byte,
        b',' | b']' | b'}' | b':' | b'"' | b' ' | b'\t' | b'\r' | b'\n'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_run_on_are_found_wherever_they_stand() {
        for blanks in 0..40 {
            for (number, runs_on) in [
                ("1000000000000000000", false),
                ("1000000000000000000x", true),
                ("-1000000000000000000;null", true),
                ("1.00000000000000000000x", true),
                ("1.00000000000000000000e5", false),
                ("1000000000000000000-", true),
                ("1.00000000000000000000.5", true),
                (r#""1000000000000000000x""#, false),
                (r#""1000000000000000000""#, false),
            ] {
                let json = format!("{}[{number}]", " ".repeat(blanks));
                assert_eq!(long_number_runs_on(json.as_bytes()), runs_on, "{json}");
            }
        }
    }
}
