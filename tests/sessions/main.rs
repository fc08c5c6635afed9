//! Fuzz tests of whole sessions, pools, listeners and dialers, over each link: see docs/testing.md.
//!
//! An input is a script for misbehaving peers ([`input`]). They play sessions that the library
//! itself has recorded ([`recording`]), with changes ([`damage`]), pauses and early ends
//! ([`peer`]). Connections beside theirs have to work, calls have to end in time and with what was
//! sent, and nothing may be left ([`run`]).

#![allow(unreachable_pub, reason = "a test has no users")]

mod agent;
mod damage;
mod dialers;
mod input;
mod listeners;
#[path = "../simulator/panics.rs"]
mod panics;
mod peer;
mod pools;
mod recording;
mod run;
mod servers;
mod stream;
mod units;
mod world;

use input::{Script, scripts};
use run::Checked;
use stream::Carrier::{Tls, Unix};
use units::Framing::{Frames, Http2};

/// Number of inputs of each test, if libFuzzer does not run it. `TOLLGATE_INPUTS` changes it.
const INPUTS: usize = 100;

type Engine =
    bolero::TestTarget<bolero::ByteSliceGenerator, bolero::DefaultEngine, bolero::BorrowedInput>;

fn fuzz<W: Future<Output = Checked>>(
    engine: Engine,
    work: impl Fn(Vec<Script>) -> W + std::panic::RefUnwindSafe,
) {
    recording::prepare();
    let inputs = std::env::var("TOLLGATE_INPUTS").ok();
    engine
        .with_iterations(inputs.map_or(INPUTS, |count| count.parse().expect("a number")))
        .with_max_len(input::MAX_LEN)
        .for_each(|bytes| run::run(bytes, work(scripts(bytes))));
}

#[test]
fn unix_servers() {
    fuzz(bolero::check!(), |scripts| {
        servers::run(Unix, Frames, scripts)
    });
}

#[test]
fn grpc_servers() {
    fuzz(bolero::check!(), |scripts| {
        servers::run(Unix, Http2, scripts)
    });
}

#[test]
fn tls_servers() {
    fuzz(bolero::check!(), |scripts| {
        servers::run(Tls, Http2, scripts)
    });
}

#[test]
fn unix_pools() {
    fuzz(bolero::check!(), |scripts| {
        pools::run(Unix, Frames, scripts)
    });
}

#[test]
fn grpc_pools() {
    fuzz(bolero::check!(), |scripts| pools::run(Unix, Http2, scripts));
}

#[test]
fn tls_pools() {
    fuzz(bolero::check!(), |scripts| pools::run(Tls, Http2, scripts));
}

#[test]
fn unix_listeners() {
    fuzz(bolero::check!(), |scripts| listeners::run(Unix, scripts));
}

#[test]
fn tls_listeners() {
    fuzz(bolero::check!(), |scripts| listeners::run(Tls, scripts));
}

#[test]
fn unix_dialers() {
    fuzz(bolero::check!(), |scripts| dialers::run(Unix, scripts));
}

#[test]
fn tls_dialers() {
    fuzz(bolero::check!(), |scripts| dialers::run(Tls, scripts));
}
