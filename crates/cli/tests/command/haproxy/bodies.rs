//! Bodies of requests, as far as HAProxy shows them.

use super::RULES;
use super::proxy::{Proxy, Request};

fn filler(len: usize) -> String {
    "a".repeat(len)
}

#[test]
fn bodies_are_judged_whole_or_refused() {
    let proxy = Proxy::start(RULES, &[]);
    for (body, is_chunked, status) in [
        (filler(5), false, 200),
        (format!("{}attack", filler(20_000)), false, 403),
        (format!("{}attack", filler(20_000)), true, 403),
        (filler(30_000), false, 200),
        (filler(30_000), true, 200),
        // Fits into the buffer, and HAProxy knows that it is all there.
        (filler(47_000), false, 200),
        (format!("{}attack", filler(47_000)), false, 403),
        (filler(100_000), false, 413),
        (filler(100_000), true, 413),
    ] {
        let request = Request::post("/upload", &body);
        let request = if is_chunked {
            request.chunked()
        } else {
            request
        };
        let answer = proxy.send(&request);
        assert_eq!(
            answer.status,
            status,
            "{} bytes, chunked: {is_chunked}",
            body.len()
        );
    }
    let long = Request::get("/").with_header("x-long", &filler(20_000));
    assert_eq!(proxy.send(&long).status, 431);
    let long = Request::get(&format!("/{}", filler(9_000)));
    assert_eq!(proxy.send(&long).status, 414);
    for (len, status) in [(64, 200), (65, 431)] {
        let long = Request::get("/").with_method(&"M".repeat(len));
        assert_eq!(proxy.send(&long).status, status, "{len}");
    }
}

#[test]
fn large_bodies_pass_an_agent_that_looks_at_none() {
    let rules = "[[rule]]\non = 'request_headers'\npath = '/admin'\nblock = { status = 403 }\n";
    let proxy = Proxy::start(rules, &[]);
    for request in [
        Request::post("/", &"a".repeat(100_000)),
        Request::post("/", &"a".repeat(100_000)).chunked(),
    ] {
        assert_eq!(proxy.send(&request).status, 200);
    }
    assert_eq!(proxy.send(&Request::post("/admin", "a")).status, 403);
}

#[test]
fn part_of_a_body_is_judged_if_it_will_do() {
    let proxy = Proxy::start(RULES, &["--partial-bodies"]);
    for (body, status) in [
        (filler(5), 200),
        (filler(100_000), 200),
        (format!("attack{}", filler(100_000)), 403),
        (format!("{}attack", filler(40_000)), 403),
        (format!("{}attack", filler(100_000)), 200),
    ] {
        let request = Request::post("/upload", &body);
        let answer = proxy.send(&request);
        assert_eq!(answer.status, status, "{} bytes", body.len());
        let answer = proxy.send(&request.chunked());
        assert_eq!(answer.status, status, "{} bytes in chunks", body.len());
    }
}

#[test]
fn largest_head_leaves_room_for_a_part_of_the_body() {
    let path = format!("/{}", filler(8_000));
    let largest = |body: &str| Request::post(&path, body).with_header("x-long", &filler(16_000));
    let proxy = Proxy::start(RULES, &[]);
    assert_eq!(proxy.send(&largest(&filler(100_000))).status, 413);
    assert_eq!(proxy.send(&largest(&filler(100_000)).chunked()).status, 413);
    assert_eq!(proxy.send(&largest(&filler(30_000)).chunked()).status, 200);
    assert_eq!(proxy.send(&largest(&filler(37_000))).status, 200);
    let proxy = Proxy::start(RULES, &["--partial-bodies"]);
    assert_eq!(proxy.send(&largest(&filler(100_000))).status, 200);
    let attack = format!("attack{}", filler(100_000));
    assert_eq!(proxy.send(&largest(&attack)).status, 403);
    assert_eq!(proxy.send(&largest(&attack).chunked()).status, 403);
}

#[test]
fn body_in_many_pieces_is_never_taken_for_whole() {
    let proxy = Proxy::start(RULES, &[]);
    for (len, status) in [(20_000, 403), (60_000, 413)] {
        let body = format!("{}attack", filler(len));
        let request = Request::post("/upload", &body).chunked_by(1);
        assert_eq!(proxy.send(&request).status, status, "{len} bytes");
        // A length beside the chunks does not make them whole.
        let request = Request::post("/upload", &body).with_header("content-length", "5");
        let answer = proxy.send(&request.chunked());
        assert!(
            [403, 413].contains(&answer.status),
            "{len} bytes: {answer:?}"
        );
    }
}
