//! Heap budgets of the header types, and of timestamps and addresses as text.

mod support;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use support::{Counting, counted};
use tollgate::headers::{
    HeaderIterator, HeadersCow, HeadersRef, from_optimized, iter_flat_cow, iter_flat_optimized,
    to_cow_optimized, to_optimized,
};
use tollgate::{
    HeaderSource,
    events::{IpText, Timestamp},
    headers::{HeaderValues, intern_header_name, iter_flat},
};

fn length_of<'h>(pairs: impl Iterator<Item = (&'h str, &'h str)>) -> usize {
    pairs.map(|(name, value)| name.len() + value.len()).sum()
}

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

    assert_eq!(counted(|| length_of(iter_flat(&headers))), (39, 0));
    assert_eq!(
        counted(|| length_of(HeaderIterator::new(&headers))),
        (39, 0)
    );
    assert_eq!(counted(|| length_of_source(&headers)), (23, 0));
    let (found, allocations) = counted(|| {
        let looked = HeadersRef::new(&headers);
        let copied = HeadersCow::borrowed(&headers);
        looked.get_first("host") == copied.get_first("host")
    });
    assert_eq!((found, allocations), (true, 0));

    let (_, allocations) = counted(|| intern_header_name("Content-Type"));
    assert_eq!(allocations, 0);
    let (_, allocations) = counted(|| intern_header_name("X-Unknown"));
    assert_eq!(allocations, 1);

    let value = "v".to_owned();
    let (values, allocations) = counted(|| HeaderValues::from_iter([value]));
    assert_eq!((values.spilled(), allocations), (false, 0));

    // The map itself.
    let (optimized, allocations) = counted(|| to_optimized(headers.clone()));
    let (copy, cloning) = counted(|| headers.clone());
    assert_eq!(allocations - cloning, 1);
    let (pairs, allocations) = counted(|| length_of(iter_flat_optimized(&optimized)));
    assert_eq!((pairs, allocations), (39, 0));
    assert_eq!(counted(|| length_of_source(&optimized)), (23, 0));
    // The map, and a list for the single value.
    let (_, allocations) = counted(|| from_optimized(optimized));
    assert_eq!(allocations, 2);

    let (cow, allocations) = counted(|| to_cow_optimized(copy));
    assert_eq!(allocations, 1);
    assert_eq!(counted(|| length_of(iter_flat_cow(&cow))), (39, 0));
    assert_eq!(counted(|| length_of_source(&cow)), (23, 0));

    for address in [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ] {
        let (_, allocations) = counted(|| (Timestamp::now(), IpText::from(address)));
        assert_eq!(allocations, 0);
    }

    #[cfg(feature = "http")]
    http_map_is_read_in_place();
}

#[cfg(feature = "http")]
fn http_map_is_read_in_place() {
    use http::{HeaderMap, HeaderValue, header};

    let mut map = HeaderMap::new();
    map.append(header::ACCEPT, HeaderValue::from_static("text/html"));
    map.append(header::ACCEPT, HeaderValue::from_static("*/*"));
    assert_eq!(counted(|| length_of_source(&map)), (12, 0));
}
