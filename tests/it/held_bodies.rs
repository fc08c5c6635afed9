//! Bodies that a proxy holds until agents have decided, with the changes that they ask for.

use std::time::{Duration, Instant};
use tollgate::proxy::{BodyError, HeldBody};
use tollgate::response::BodyMutation;
use tollgate::{AgentPool, AgentPoolConfig, Bytes};

fn body_of(chunks: &[&'static str]) -> HeldBody {
    let mut held = HeldBody::with_limit(10);
    for (index, chunk) in (0..).zip(chunks) {
        held.keep(index, Bytes::from_static(chunk.as_bytes()))
            .unwrap();
    }
    held
}

#[test]
fn single_chunk_may_exceed_limit_and_is_not_copied() {
    let large = Bytes::from_static(b"longer than ten bytes");
    let mut held = HeldBody::with_limit(10);
    held.keep(3, large.clone()).unwrap();
    assert_eq!(held.release().as_ptr(), large.as_ptr());
    assert!(held.release().is_empty());
}

#[test]
fn limit_holds_until_release() {
    let mut held = body_of(&["12345", "67890"]);
    let one_more = || Bytes::from_static(b"x");
    assert_eq!(
        held.keep(2, one_more()),
        Err(BodyError::TooLarge { limit: 10 })
    );
    assert_eq!(held.release(), "1234567890");
    held.keep(2, one_more()).unwrap();
    assert_eq!(held.release(), "x");
}

#[test]
fn mutations_apply_in_order_and_count_for_limit() {
    let mut held = body_of(&["12345", "67890"]);
    let mutations = [
        BodyMutation::replace(1, "first"),
        BodyMutation::pass_through(9),
        BodyMutation::replace(1, "2nd"),
        BodyMutation::drop_chunk(0),
    ];
    held.change(&mutations).unwrap();
    assert_eq!(held.last().unwrap(), "2nd");
    held.keep(2, Bytes::from_static(b"1234567")).unwrap();
    assert_eq!(held.release(), "2nd1234567");
}

#[test]
fn released_chunk_cannot_be_changed() {
    let mut held = body_of(&["12345"]);
    held.release();
    held.keep(1, Bytes::from_static(b"x")).unwrap();
    let late = [BodyMutation::replace(0, "y")];
    assert_eq!(held.change(&late), Err(BodyError::NoSuchChunk { index: 0 }));
}

/// A proxy may be sent the body byte by byte, and an agent may change each byte.
#[test]
fn changes_to_many_chunks_take_little_time() {
    const LIMIT: u32 = 100_000;
    let mut held = HeldBody::with_limit(LIMIT as usize);
    for index in 0..LIMIT {
        held.keep(index, Bytes::from_static(b"a")).unwrap();
    }
    let mut beyond = LIMIT..10 * LIMIT;
    assert!(beyond.all(|index| held.keep(index, Bytes::from_static(b"a")).is_err()));

    let started = Instant::now();
    for index in (0..LIMIT).rev() {
        held.change(&[BodyMutation::replace(index, "b")]).unwrap();
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(held.release(), "b".repeat(LIMIT as usize));
}

#[test]
fn bodies_of_a_pool_share_its_memory_limit() {
    let pool = AgentPool::with_config(AgentPoolConfig::default().max_memory(10));
    let used = || pool.metrics().snapshot().memory_bytes;
    let held_body = || HeldBody::with_limit(100).charged_to(&pool);
    let (mut first, mut second) = (held_body(), held_body());
    first.keep(0, Bytes::from_static(b"123456")).unwrap();
    let chunk = Bytes::from_static(b"12345");
    assert_eq!(second.keep(0, chunk.clone()), Err(BodyError::OverMemory));
    for mut other in (0..20).map(|_| held_body()) {
        let kept = other.keep(0, Bytes::from_static(b"123456"));
        assert_eq!(kept, Err(BodyError::OverMemory));
    }
    let longer = BodyMutation::replace(0, "x".repeat(100));
    assert_eq!(first.change([&longer]), Err(BodyError::OverMemory));
    assert_eq!(used(), 6);
    assert_eq!(first.release(), "123456");
    second.keep(0, chunk).unwrap();
    assert_eq!(used(), 5);
    drop(second);
    assert_eq!(used(), 0);
}

#[test]
fn empty_chunks_use_memory_as_well() {
    const LIMIT: usize = 4000;
    let pool = AgentPool::with_config(AgentPoolConfig::default().max_memory(LIMIT));
    let mut held = HeldBody::with_limit(100).charged_to(&pool);
    let kept = (0..).map(|index| held.keep(index, Bytes::new()));
    let count = kept.take_while(Result::is_ok).count();
    assert!((50..=LIMIT / 40 + 2).contains(&count), "{count} chunks");
    assert_eq!(held.release(), "");
    assert_eq!(pool.metrics().snapshot().memory_bytes, 0);
}
