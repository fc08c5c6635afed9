use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn results_equal_the_standard_library(mut bytes in prop::collection::vec(0..0x80_u8, 0..80), at: prop::sample::Index, other: u8) {
        prop_assert_eq!(from_utf8(&bytes), std::str::from_utf8(&bytes));
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = other;
            prop_assert_eq!(is_ascii(&bytes), bytes.is_ascii());
            prop_assert_eq!(from_utf8(&bytes), std::str::from_utf8(&bytes));
        }
    }

    #[test]
    fn any_text_is_accepted(text: String) {
        prop_assert_eq!(from_utf8(text.as_bytes()), Ok(text.as_str()));
    }
}
