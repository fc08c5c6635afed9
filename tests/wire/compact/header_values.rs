//! Header values that are not UTF-8, and names with and without numbers.

use super::COMPACT;
use super::table::HEADER_NAMES;
use crate::owned_event::call;
use proptest::collection::vec;
use proptest::prelude::*;
use tollgate::codec::IncomingEvent;
use tollgate::headers::{FieldValue, bytes_of_latin1};
use tollgate::{EventType, HeaderSource, HeadersView, ResponseHeaders};

/// Names with their values, all of them distinct.
#[derive(Debug)]
struct Headers(Vec<(String, Vec<Vec<u8>>)>);

impl HeaderSource for Headers {
    fn grouped(
        &self,
    ) -> impl Iterator<Item = (&str, impl IntoIterator<Item = FieldValue<'_>> + Clone)> {
        self.0.iter().map(|(name, values)| {
            (
                name.as_str(),
                values.iter().map(|value| FieldValue::Bytes(value)),
            )
        })
    }
}

/// Encodes headers and calls `check` with the view of them.
fn with_view(headers: &Headers, check: impl FnOnce(HeadersView<'_>)) {
    let event = ResponseHeaders {
        correlation_id: "",
        status: 200,
        headers,
    };
    let mut message = Vec::new();
    let rest = COMPACT.encode_event(&event, call("r-1"), &mut message);
    assert!(rest.is_empty());
    let read =
        COMPACT
            .decoder()
            .decode_event(
                EventType::ResponseHeaders,
                message[8..].into(),
                |event| match event {
                    IncomingEvent::ResponseHeaders(event) => check(event.headers),
                    other => panic!("{other:?}"),
                },
            );
    read.unwrap();
}

fn headers() -> impl Strategy<Value = Headers> {
    let known = (0..HEADER_NAMES.len()).prop_map(|at| HEADER_NAMES[at].clone());
    let name = prop_oneof![known, "[a-zA-Z-]{1,20}"];
    vec((name, vec(vec(any::<u8>(), 0..12), 0..4)), 0..30).prop_map(|mut headers| {
        headers.sort_by_key(|(name, _)| name.to_ascii_lowercase());
        headers.dedup_by(|(left, _), (right, _)| left.eq_ignore_ascii_case(right));
        Headers(headers)
    })
}

proptest! {
    #[test]
    fn bytes_and_texts_are_those_that_were_sent(headers in headers()) {
        with_view(&headers, |view| {
            assert_eq!(view.len(), headers.0.len());
            for (name, values) in &headers.0 {
                for name in [name.clone(), name.to_ascii_uppercase(), name.to_ascii_lowercase()] {
                    let is_other = |(other, _): &&(String, _)| other.eq_ignore_ascii_case(&name);
                    let expected: Vec<_> =
                        headers.0.iter().filter(is_other).flat_map(|(_, values)| values).collect();
                    assert!(view.get_all_bytes(&name).eq(expected.iter().map(|value| &value[..])));
                }
                assert_eq!(view.get_bytes(name).is_some(), !values.is_empty());
            }
            let sent = headers.0.iter().flat_map(|(name, values)| {
                values.iter().map(move |value| (&name[..], &value[..]))
            });
            assert!(view.iter_bytes().eq(sent.clone()));
            // Asking twice yields the same.
            for _ in 0..2 {
                let texts: Vec<_> = view.iter().collect();
                let expected: Vec<_> = sent
                    .clone()
                    .map(|(name, value)| (name, FieldValue::Bytes(value).to_text()))
                    .collect();
                assert!(texts.iter().copied().eq(expected.iter().map(|(n, v)| (*n, &**v))));
            }
        });
    }
}

#[test]
fn a_value_that_is_not_utf_8_is_text_as_in_other_encodings() {
    let values = vec![b"caf\xe9".to_vec(), "caf\u{e9}".into(), b"\xff".to_vec()];
    with_view(&Headers(vec![("Server".to_owned(), values)]), |view| {
        let texts: Vec<_> = view.get_all("server").collect();
        assert_eq!(texts, ["caf\u{e9}", "caf\u{e9}", "\u{ff}"]);
        assert_eq!(bytes_of_latin1(texts[2]).as_deref(), Some(&b"\xff"[..]));
        let bytes: Vec<_> = view.get_all_bytes("server").collect();
        assert_eq!(bytes, [&b"caf\xe9"[..], "caf\u{e9}".as_bytes(), b"\xff"]);
        // The name is spelled as it was sent.
        assert_eq!(view.iter().next(), Some(("Server", "caf\u{e9}")));
        assert_eq!(format!("{view:?}"), format!("{:?}", Map(view)));
    });
}

struct Map<'a>(HeadersView<'a>);

impl std::fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.0.iter()).finish()
    }
}

#[test]
fn many_values_that_are_not_utf_8_take_linear_time() {
    let values = vec![b"\xff".to_vec(); 100_000];
    let started = std::time::Instant::now();
    with_view(&Headers(vec![("x".to_owned(), values)]), |view| {
        assert_eq!(
            view.get_all("x").filter(|text| *text == "\u{ff}").count(),
            100_000
        );
    });
    // A search of all values for each of them would take minutes.
    assert!(started.elapsed() < std::time::Duration::from_secs(30));
}
