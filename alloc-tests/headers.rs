//! Heap budgets of header sources, and of timestamps and addresses as text.

mod support;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use support::{Counting, counted};
use tollgate::{
    HeaderSource, Metadata, RequestHeaders,
    events::{IpText, Timestamp},
};

fn length_of_source(headers: &impl HeaderSource) -> usize {
    let values = headers.grouped().flat_map(|(_, values)| values);
    values.map(|value| value.to_text().len()).sum()
}

/// One test, because everything in the process is counted.
#[test]
fn headers_and_texts_allocate_as_documented() {
    let _counting = Counting::begin();
    let headers = HashMap::from([
        ("host".to_owned(), vec!["example.com".to_owned()]),
        (
            "accept".to_owned(),
            vec!["text/html".to_owned(), "*/*".to_owned()],
        ),
    ]);

    assert_eq!(counted(|| length_of_source(&headers)), (23, 0));
    for address in [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ] {
        let (_, allocations) = counted(|| (Timestamp::now(), IpText::from(address)));
        assert_eq!(allocations, 0);
    }

    targets_are_read_in_place();
    #[cfg(feature = "http")]
    http_map_is_read_in_place();
}

fn targets_are_read_in_place() {
    let lengths = |uri: &str| {
        let event = RequestHeaders {
            metadata: Metadata::default(),
            method: "GET",
            uri,
            headers: &[("accept", "*/*"), ("host", "example.com:80")][..],
        };
        let host = event.host().map_or(0, |host| host.len());
        (event.path().len(), event.query().map_or(0, str::len), host)
    };
    for uri in ["/a/b%2Fc/?q=1", "http://example.com/a/b%2Fc/?q=1"] {
        assert_eq!(counted(|| lengths(uri)), ((9, 3, 11), 0), "{uri}");
    }
    assert!(counted(|| lengths("//a/b%2Fc/?q=1")).1 > 0);
}

#[cfg(feature = "http")]
fn http_map_is_read_in_place() {
    use http::{HeaderMap, HeaderValue, header};

    let mut map = HeaderMap::new();
    map.append(header::ACCEPT, HeaderValue::from_static("text/html"));
    map.append(header::ACCEPT, HeaderValue::from_static("*/*"));
    assert_eq!(counted(|| length_of_source(&map)), (12, 0));
}
