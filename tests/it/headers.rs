//! Headers reach agents from every representation that a proxy may have.

use crate::common::*;
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
