//! Values of events as text: timestamps, addresses, header values and kinds of events.

use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};
use tollgate::EventType;
use tollgate::events::{IpText, Timestamp};
use tollgate::headers::{FieldValue, bytes_of_latin1};

/// Last millisecond of the year 9999.
const LAST_MS: u64 = 253_402_300_799_999;

#[test]
fn known_times_are_formatted() {
    for (ms, text) in [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_825_600_000, "2000-02-29T12:00:00.000Z"),
        (1_795_568_049_123, "2026-11-25T00:54:09.123Z"),
        (13_574_649_600_000, "2400-03-01T00:00:00.000Z"),
        (LAST_MS, "9999-12-31T23:59:59.999Z"),
        (u64::MAX, "9999-12-31T23:59:59.999Z"),
    ] {
        assert_eq!(Timestamp::from_ms(ms).as_str(), text);
    }
}

#[test]
fn time_before_1970_becomes_epoch() {
    let before = SystemTime::UNIX_EPOCH - Duration::from_secs(1);
    assert_eq!(Timestamp::from(before), Timestamp::default());
    assert_eq!(Timestamp::from_ms(0), Timestamp::default());
}

proptest! {
    #[test]
    fn text_is_that_of_the_canonical_address(v4: Ipv4Addr, v6: Ipv6Addr) {
        for address in [IpAddr::V4(v4), IpAddr::V6(v6), IpAddr::V6(v4.to_ipv6_mapped())] {
            let canonical = address.to_canonical().to_string();
            prop_assert_eq!(IpText::from(address).to_string(), canonical);
        }
    }
}

proptest! {
    #[test]
    fn bytes_survive_conversion_to_text(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let value = FieldValue::Bytes(&bytes);
        let text = value.to_text();
        match std::str::from_utf8(&bytes) {
            Ok(utf8) => prop_assert_eq!(text, utf8),
            Err(_) => prop_assert_eq!(bytes_of_latin1(&text), Some(bytes.clone())),
        }
    }
}

#[test]
fn numbers_round_trip() {
    for kind in EventType::ALL {
        assert_eq!(EventType::from_number(kind.number()), Some(kind));
    }
}

#[test]
fn zero_is_configure_and_other_numbers_are_unknown() {
    assert_eq!(EventType::from_number(0), Some(EventType::Configure));
    assert_eq!(EventType::from_number(9), None);
    assert_eq!(EventType::from_number(-1), None);
}
