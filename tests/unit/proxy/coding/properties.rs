//! Properties of any data.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Data with repetitions, as random bytes alone cannot be compressed.
fn data() -> impl Strategy<Value = Vec<u8>> {
    let part = (vec(any::<u8>(), 0..50), 1..20_usize);
    vec(part, 0..20).prop_map(|parts| {
        let repeated = parts.iter().map(|(bytes, count)| bytes.repeat(*count));
        repeated.collect::<Vec<_>>().concat()
    })
}

/// Cuts a body at some places.
fn cut<'b>(body: &'b [u8], places: &[Index]) -> Vec<&'b [u8]> {
    let mut places: Vec<_> = places
        .iter()
        .map(|place| place.index(body.len() + 1))
        .collect();
    places.extend([0, body.len()]);
    places.sort_unstable();
    let pieces = places.windows(2).map(|cut| &body[cut[0]..cut[1]]);
    pieces.collect()
}

proptest! {
    #[test]
    fn data_round_trips_however_it_is_cut(
        data in data(),
        form in select(&FORMATS[..]),
        places in vec(any::<Index>(), 0..10),
    ) {
        let body = form.encode(&data);
        let decoded = decode(form.coding(), UNLIMITED, cut(&body, &places));
        prop_assert_eq!(decoded, Ok(data));
    }

    #[test]
    fn garbage_is_the_same_however_it_is_cut(
        garbage in vec(any::<u8>(), 0..300),
        form in select(&FORMATS[..]),
        places in vec(any::<Index>(), 0..10),
    ) {
        let whole = decode_whole(form.coding(), &garbage);
        let pieces = decode(form.coding(), UNLIMITED, cut(&garbage, &places));
        prop_assert_eq!(whole, pieces);
    }

    #[test]
    fn damaged_bodies_are_the_same_however_they_are_cut(
        data in data(),
        form in select(&FORMATS[..]),
        edits in vec((any::<Index>(), any::<u8>()), 1..4),
        places in vec(any::<Index>(), 0..10),
    ) {
        let mut body = form.encode(&data);
        for (place, value) in edits {
            let at = place.index(body.len());
            body[at] = value;
        }
        let limits = DecodeLimits { max_ratio: u32::MAX, max_size: 100_000 };
        let whole = decode(form.coding(), limits, [&body[..]]);
        let pieces = decode(form.coding(), limits, cut(&body, &places));
        // Of several errors in a body, either may be found first.
        prop_assert_eq!(whole.ok(), pieces.ok());
    }
}
