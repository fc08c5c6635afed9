//! Stores owned headers: `Vec` against inline values, and owned names against interned ones.

use crate::common::request_headers;
use criterion::{BenchmarkId, Criterion};
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::Hash;
use std::hint::black_box;

#[path = "../../crates/zentinel/src/headers/names.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    reason = "shared with the crate that has the function"
)]
mod names;

use names::intern_header_name;

/// Values of one header, of which a single one is stored inline.
type HeaderValues = SmallVec<[String; 1]>;

/// Measures filling, iterating and dropping a map.
pub(crate) fn headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("headers");
    for count in [10, 40] {
        let pairs = request_headers(count).headers;
        group.bench_function(BenchmarkId::new("Vec", count), |bencher| {
            bencher.iter(|| use_map::<_, Vec<String>>(pairs, |name| name.to_owned()));
        });
        group.bench_function(BenchmarkId::new("SmallVec", count), |bencher| {
            bencher.iter(|| use_map::<_, HeaderValues>(pairs, |name| name.to_owned()));
        });
        group.bench_function(
            BenchmarkId::new("SmallVec and known names", count),
            |bencher| {
                bencher.iter(|| use_map::<_, HeaderValues>(pairs, intern_header_name));
            },
        );
    }
}

fn use_map<N, V>(pairs: &[(String, String)], name_of: impl Fn(&str) -> N)
where
    N: Eq + Hash + AsRef<str>,
    V: Default + Extend<String> + AsRef<[String]>,
{
    let mut map: HashMap<N, V> = HashMap::with_capacity(pairs.len());
    for (name, value) in black_box(pairs) {
        map.entry(name_of(name))
            .or_default()
            .extend([value.clone()]);
    }
    for (name, values) in &map {
        for value in values.as_ref() {
            black_box((name.as_ref(), value));
        }
    }
}
