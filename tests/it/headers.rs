//! Headers reach agents from every representation that a proxy may have.

use crate::common::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::HashMap;
use tollgate::headers::bytes_of_latin1;
use tollgate::{HeaderSource, Metadata, RequestHeaders, ResponseHeaders};

/// Sends headers in a request and in a response, in both encodings. Returns what the agent saw.
async fn seen(headers: impl HeaderSource + Copy) -> [Value; 4] {
    let agent = serve().await;
    let mut seen = Vec::new();
    for encoding in BOTH {
        let pool = pool_with(config(encoding), &agent.path).await;
        let request = RequestHeaders {
            metadata: Metadata {
                correlation_id: "a",
                ..Metadata::default()
            },
            method: "GET",
            uri: "/",
            headers,
        };
        pool.agent("agent")
            .unwrap()
            .send("a", &request)
            .await
            .unwrap();
        seen.push(agent.last_seen()["headers"].clone());
        let response = ResponseHeaders {
            correlation_id: "a",
            status: 200,
            headers,
        };
        pool.agent("agent")
            .unwrap()
            .send("a", &response)
            .await
            .unwrap();
        seen.push(agent.last_seen()["headers"].clone());
    }
    seen.try_into().unwrap()
}

async fn expect_seen(headers: impl HeaderSource + Copy, expected: Value) {
    for seen in seen(headers).await {
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn headers_from_slices_of_pairs() {
    let pairs = [
        ("Accept", "a"),
        ("host", ""),
        ("ACCEPT", "b"),
        ("x", "\u{1f980}"),
    ];

    let expected = json!({"Accept": ["a", "b"], "host": [""], "x": ["\u{1f980}"]});
    expect_seen(&pairs[..], expected).await;
    expect_seen(&[("", ""); 0][..], json!({})).await;
}

#[tokio::test]
async fn many_pairs_are_grouped_in_time() {
    let pairs: Vec<_> = (0..32_000)
        .map(|n| (format!("x-{:05}-same-end", n % 16_000), n.to_string()))
        .collect();
    let expected: serde_json::Map<_, _> = (0..16_000)
        .map(|n| {
            let values = [n.to_string(), (n + 16_000).to_string()];
            (format!("x-{n:05}-same-end"), json!(values))
        })
        .collect();
    let started = std::time::Instant::now();
    expect_seen(&pairs[..], Value::Object(expected)).await;
    // Comparing each name with each would take minutes.
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
}

#[tokio::test]
async fn headers_from_maps_of_lists() {
    let map = HashMap::from([
        ("host".to_owned(), vec!["a".to_owned()]),
        ("x-two".to_owned(), vec!["b".to_owned(), String::new()]),
        ("x-none".to_owned(), vec![]),
    ]);

    let expected = json!({"host": ["a"], "x-two": ["b", ""], "x-none": []});
    expect_seen(&map, expected).await;
}

#[cfg(feature = "http")]
#[tokio::test]
async fn headers_from_http_maps_with_any_bytes() {
    use http::{HeaderMap, HeaderName, HeaderValue};
    let high: Vec<u8> = (0x80..=0xff).collect();

    let mut map = HeaderMap::new();
    for (name, value) in [
        ("accept", &b"a"[..]),
        ("x-utf8", "caf\u{e9} \u{1f980}".as_bytes()),
        ("accept", b"b, c"),
        ("x-empty", b""),
        ("x-latin1", b"caf\xe9"),
        ("x-high", &high),
    ] {
        let name = HeaderName::from_static(name);
        map.append(name, HeaderValue::from_bytes(value).unwrap());
    }

    for headers in seen(&map).await {
        let mut headers = headers.as_object().unwrap().clone();
        let text = headers.remove("x-high").unwrap()[0].clone();
        assert_eq!(bytes_of_latin1(text.as_str().unwrap()).unwrap(), high);
        let expected = json!({
            "accept": ["a", "b, c"],
            "x-utf8": ["caf\u{e9} \u{1f980}"],
            "x-empty": [""],
            "x-latin1": ["caf\u{e9}"],
        });
        assert_eq!(Value::Object(headers), expected);
    }
}

proptest! {
    #[test]
    fn pairs_are_grouped_by_name_in_order(
        names in prop::collection::vec("[abAB]{1,3}", 0..200),
    ) {
        let pairs: Vec<_> = names.iter().zip((0..).map(|n: usize| n.to_string())).collect();
        let mut expected: Vec<(&str, Vec<String>)> = Vec::new();
        for (name, value) in &pairs {
            let group = expected.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name));
            match group {
                Some((_, values)) => values.push(value.clone()),
                None => expected.push((name, vec![value.clone()])),
            }
        }
        let grouped = pairs.grouped().map(|(name, values)| {
            (name, values.into_iter().map(|value| value.to_text().into_owned()).collect())
        });
        let grouped: Vec<(_, Vec<String>)> = grouped.collect();
        prop_assert!(grouped.len() <= pairs.max_names());
        prop_assert_eq!(grouped, expected);
    }
}

#[cfg(feature = "http")]
proptest! {
    /// Names are in lower case, and values in order, whether or not they are UTF-8.
    #[test]
    fn every_header_is_yielded(
        headers in prop::collection::vec(("[a-zA-Z][a-z0-9-]{0,3}", prop::collection::vec(0x20_u8..=0xff, 0..6)), 0..40),
    ) {
        use http::{HeaderMap, HeaderName, HeaderValue};
        use tollgate::headers::FieldValue;
        let mut map = HeaderMap::new();
        let mut expected: HashMap<String, Vec<String>> = HashMap::new();
        for (name, bytes) in &headers {
            let Ok(value) = HeaderValue::from_bytes(bytes) else { continue };
            map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            let text = FieldValue::Bytes(bytes).to_text().into_owned();
            expected.entry(name.to_ascii_lowercase()).or_default().push(text);
        }
        let grouped = map.grouped().map(|(name, values)| {
            let values = values.into_iter().map(|value| value.to_text().into_owned());
            (name.to_owned(), values.collect())
        });
        prop_assert_eq!(grouped.collect::<HashMap<_, _>>(), expected.clone());
        let singles = map.singles().map(|singles| {
            let single = |(name, value): (&str, FieldValue<'_>)| {
                (name.to_owned(), vec![value.to_text().into_owned()])
            };
            singles.map(single).collect::<HashMap<_, _>>()
        });
        let is_single = expected.values().all(|values| values.len() == 1);
        prop_assert_eq!(singles, is_single.then_some(expected));
    }
}
