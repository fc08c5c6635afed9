//! Formats the texts that a proxy writes for each request.

use crate::OPERATIONS;
use iai_callgrind::{library_benchmark, library_benchmark_group};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tollgate::events::{IpText, Timestamp};

#[library_benchmark]
#[bench::of_2026(1_795_568_049_123)]
fn timestamp(ms: u64) {
    for _ in 0..OPERATIONS {
        black_box(Timestamp::from_ms(black_box(ms)).as_str());
    }
}

#[library_benchmark]
#[bench::v4(Ipv4Addr::new(203, 0, 113, 195).into())]
#[bench::v6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0xff00, 0x42, 0x8329).into())]
fn address(address: IpAddr) {
    for _ in 0..OPERATIONS {
        black_box(IpText::from(black_box(address)).as_str());
    }
}

library_benchmark_group!(
    name = request_texts;
    benchmarks = timestamp, address
);
