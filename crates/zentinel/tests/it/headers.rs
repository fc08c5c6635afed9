//! Header maps and views: their heap budgets, and the headers that they yield to events.

use allocation_counter::measure;
use std::collections::{BTreeMap, HashMap};
use zentinel_agent_protocol::headers::{
    HeaderIterator, HeaderSource, HeaderValues, HeadersCow, HeadersRef, from_optimized,
    intern_header_name, iter_flat, iter_flat_cow, iter_flat_optimized, to_cow_optimized,
    to_optimized,
};

fn headers(pairs: &[(&str, &[&str])]) -> HashMap<String, Vec<String>> {
    let owned = |values: &[&str]| values.iter().map(|&value| value.to_owned()).collect();
    let pairs = pairs.iter();
    pairs
        .map(|(name, values)| ((*name).to_owned(), owned(values)))
        .collect()
}

fn grouped(source: &impl HeaderSource) -> BTreeMap<String, Vec<String>> {
    let mut map = BTreeMap::new();
    for (name, values) in source.grouped() {
        let values = values.into_iter().map(|value| value.to_text().into_owned());
        map.insert(name.to_owned(), values.collect());
    }
    map
}

#[test]
fn every_map_and_view_yields_the_same_headers() {
    let map = headers(&[("host", &["a"]), ("x-two", &["b", ""]), ("x-none", &[])]);
    let expected = grouped(&map);
    assert_eq!(expected, BTreeMap::from_iter(map.clone()));
    assert_eq!(grouped(&HeadersRef::new(&map)), expected);
    assert_eq!(grouped(&HeadersCow::borrowed(&map)), expected);
    assert_eq!(grouped(&to_optimized(map.clone())), expected);
    assert_eq!(grouped(&to_cow_optimized(map)), expected);
}

#[track_caller]
fn expect_allocations<T>(allocations: u64, work: impl FnOnce() -> T) -> T {
    let mut result = None;
    let made = measure(|| result = Some(work()));
    assert_eq!(made.count_total, allocations);
    result.unwrap()
}

fn length_of<'h>(pairs: impl Iterator<Item = (&'h str, &'h str)>) -> usize {
    pairs.map(|(name, value)| name.len() + value.len()).sum()
}

#[test]
fn reading_allocates_nothing() {
    let map = headers(&[
        ("host", &["example.com"]),
        ("accept", &["text/html", "*/*"]),
    ]);
    let (optimized, cow) = (to_optimized(map.clone()), to_cow_optimized(map.clone()));
    let lengths = expect_allocations(0, || {
        [
            length_of(iter_flat(&map)),
            length_of(HeaderIterator::new(&map)),
            length_of(iter_flat_optimized(&optimized)),
            length_of(iter_flat_cow(&cow)),
        ]
    });
    assert_eq!(lengths, [39; 4]);
    let found = expect_allocations(0, || {
        let (looked, copied) = (HeadersRef::new(&map), HeadersCow::borrowed(&map));
        looked.get_first("host") == copied.get_first("host")
    });
    assert!(found);
    let names = |source: &dyn Fn() -> usize| expect_allocations(0, source);
    assert_eq!(names(&|| optimized.grouped().count()), 2);
    assert_eq!(names(&|| cow.grouped().count()), 2);
}

#[test]
fn common_names_are_interned_without_an_allocation() {
    expect_allocations(0, || intern_header_name("Content-Type"));
    expect_allocations(1, || intern_header_name("X-Unknown"));
}

#[test]
fn converting_allocates_the_map_and_lists_of_single_values() {
    let map = headers(&[
        ("host", &["example.com"]),
        ("accept", &["text/html", "*/*"]),
    ]);
    let value = "v".to_owned();
    let values = expect_allocations(0, || HeaderValues::from_iter([value]));
    assert!(!values.spilled());
    let copy = map.clone();
    expect_allocations(1, || to_cow_optimized(copy));
    let optimized = expect_allocations(1, || to_optimized(map));
    // The map, and a list for the single value.
    expect_allocations(2, || from_optimized(optimized));
}
