use super::{LastTimestamp, Timestamp};
use proptest::prelude::*;

#[test]
fn times_that_do_not_exist_or_have_other_forms_are_no_number() {
    for text in [
        "",
        "1969-12-31T23:59:59.999Z",
        "2026-02-29T00:00:00.000Z",
        "2100-02-29T00:00:00.000Z",
        "2026-04-31T00:00:00.000Z",
        "2026-13-01T00:00:00.000Z",
        "2026-00-01T00:00:00.000Z",
        "2026-01-00T00:00:00.000Z",
        "2026-01-01T24:00:00.000Z",
        "2026-01-01T00:60:00.000Z",
        "2026-01-01T00:00:60.000Z",
        "2026-01-01T00:00:00.00:Z",
        "2026-01-01T00:00:00.000z",
        "2026-01-01 00:00:00.000Z",
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.0000Z",
        "+026-01-01T00:00:00.000Z",
    ] {
        assert_eq!(Timestamp::ms_of(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn every_time_is_the_number_of_its_text(ms in 0..super::LAST_MS + 1) {
        prop_assert_eq!(Timestamp::ms_of(&Timestamp::from_ms(ms)), Some(ms));
    }

    #[test]
    fn the_last_timestamp_is_converted_like_any_other(
        times in proptest::collection::vec((0..3_u64, 0..2000_u64), 1..20)
    ) {
        let mut last = LastTimestamp::default();
        for (day, ms) in times {
            let ms = day * super::MS_PER_DAY + ms;
            prop_assert_eq!(last.text_of(ms), &*Timestamp::from_ms(ms));
        }
    }

    #[test]
    fn a_byte_that_is_changed_changes_or_removes_the_number(
        ms in 0..super::LAST_MS, at in 0..24_usize, byte in 0..128_u8,
    ) {
        let mut text = Timestamp::from_ms(ms).to_string().into_bytes();
        text[at] = byte;
        let text = String::from_utf8(text).unwrap();
        if let Some(number) = Timestamp::ms_of(&text) {
            prop_assert_eq!(&*Timestamp::from_ms(number), text);
        }
    }

    #[test]
    fn a_text_with_a_number_is_the_text_of_that_number(
        text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9].[0-9]{3}Z",
    ) {
        if let Some(ms) = Timestamp::ms_of(&text) {
            prop_assert_eq!(&*Timestamp::from_ms(ms), text);
        }
    }
}
