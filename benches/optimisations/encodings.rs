//! Encodes and decodes events without a socket: JSON with base64 text against MessagePack with
//! bytes.

use crate::common::{CORRELATION_ID, Sample, request_headers};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::hint::black_box;
use tollgate::bench::FrameReceiver;
use tollgate::codec::Codec;
use tollgate::{Encoding, events::RequestBodyChunkEvent};

pub(crate) fn encodings(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encoding");
    for count in [10, 40] {
        let name = format!("{count} headers");
        let event = request_headers(count).to_event();
        zentinel(&mut group, &name, &event);
        tollgate(&mut group, &name, &Sample::request_headers(count));
        tollgate(
            &mut group,
            &format!("{name} of hyper"),
            &Sample::hyper_request_headers(count),
        );
    }
    for kib in [1, 64, 1_024] {
        let name = format!("{kib} KiB of body");
        group.throughput(Throughput::Bytes(kib << 10));
        let data = vec![7; (kib << 10) as usize];
        let event = RequestBodyChunkEvent::new(CORRELATION_ID, data, 3, false);
        zentinel(&mut group, &name, &event);
        tollgate(&mut group, &name, &Sample::RequestBodyChunk(event));
    }
}

/// Measures serde, into a new buffer and from there into an owned event.
fn zentinel<E: Serialize + DeserializeOwned>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    event: &E,
) {
    group.bench_function(BenchmarkId::new("published JSON", name), |bencher| {
        bencher.iter(|| {
            let payload = serde_json::to_vec(black_box(event)).expect("an event");
            serde_json::from_slice::<E>(&payload).expect("the same event")
        });
    });
    group.bench_function(BenchmarkId::new("published MessagePack", name), |bencher| {
        bencher.iter(|| {
            let payload = rmp_serde::to_vec_named(black_box(event)).expect("an event");
            rmp_serde::from_slice::<E>(&payload).expect("the same event")
        });
    });
}

/// Measures tollgate, into a reused buffer, with the copy that a socket makes, and into a view.
fn tollgate(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, event: &Sample) {
    for (way, encoding) in [
        ("tollgate JSON", Encoding::Json),
        ("tollgate MessagePack", Encoding::MessagePack),
    ] {
        let codec = Codec::extended(encoding);
        let (mut out, mut receiver) = (Vec::new(), FrameReceiver::new(codec));
        group.bench_function(BenchmarkId::new(way, name), |bencher| {
            bencher.iter(|| {
                out.clear();
                let body = black_box(event).encode(codec, &mut out);
                receiver.receive(&out);
                receiver.receive(&body);
                assert!(receiver.decode_event());
            });
        });
    }
}
