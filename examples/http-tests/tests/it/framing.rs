//! The end of a request's body, about which no two servers may disagree.

use crate::REQUESTS;
use crate::rig::{Case, Request, agent, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ambiguous_ends_are_refused() {
    let mut rows = Vec::new();
    for (name, version, headers) in [
        (
            "two lengths",
            "1.1",
            "content-length: 5\r\ncontent-length: 6",
        ),
        ("list of lengths", "1.1", "content-length: 5, 6"),
        ("negative length", "1.1", "content-length: -5"),
        ("signed length", "1.1", "content-length: +5"),
        ("hexadecimal length", "1.1", "content-length: 0x5"),
        ("huge length", "1.1", "content-length: 99999999999999999999"),
        ("unknown coding", "1.1", "transfer-encoding: gzip"),
        ("two codings", "1.1", "transfer-encoding: gzip, chunked"),
        (
            "chunked twice",
            "1.1",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        ),
        (
            "chunked in a list",
            "1.1",
            "transfer-encoding: chunked, identity",
        ),
        ("vertical tab", "1.1", "transfer-encoding: \x0bchunked"),
        ("HTTP/1.0", "1.0", "transfer-encoding: chunked"),
    ] {
        let request =
            format!("POST / HTTP/{version}\r\nhost: example.test\r\n{headers}\r\n\r\n0\r\n\r\n");
        rows.push(
            Case::new(name, Request::raw(request))
                .agents([agent(REQUESTS)])
                .expect(|outcome| {
                    outcome.not_forwarded().not_asked();
                    let status = outcome.reply().status;
                    assert!(matches!(status, 400 | 501), "{status}");
                }),
        );
    }
    // Both servers drop the length themselves, as RFC 9112, section 6.3, permits.
    for (name, headers) in [
        (
            "length and coding",
            "content-length: 5\r\ntransfer-encoding: chunked",
        ),
        (
            "coding and length",
            "transfer-encoding: chunked\r\ncontent-length: 5",
        ),
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nhost: example.test\r\n{headers}\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        );
        rows.push(
            Case::new(name, Request::raw(request))
                .agents([agent(REQUESTS)])
                .expect(|outcome| {
                    outcome
                        .status(200)
                        .upstream_body("abc")
                        .both("content-length", "");
                    assert_eq!(outcome.seen_request(0), b"abc");
                }),
        );
    }
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_chunks_never_become_a_whole_body() {
    let head = "POST / HTTP/1.1\r\nhost: example.test\r\ntransfer-encoding: chunked\r\n\r\n";
    let mut rows = Vec::new();
    for (name, chunks) in [
        ("letters", "xyz\r\nabc\r\n0\r\n\r\n"),
        ("negative", "-3\r\nabc\r\n0\r\n\r\n"),
        (
            "length beyond 64 bits",
            "ffffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        ),
        ("wrong end of a chunk", "3\r\nabcXX0\r\n\r\n"),
        ("line feed alone", "3\nabc\n0\n\n"),
    ] {
        rows.push(
            Case::new(name, Request::raw(format!("{head}{chunks}")))
                .agents([agent(REQUESTS)])
                .expect(|outcome| {
                    let is_whole = outcome.upstream.iter().any(|received| received.is_whole);
                    assert!(!is_whole, "{:?}", outcome.upstream);
                    if let Some(reply) = &outcome.reply {
                        assert!(matches!(reply.status, 400 | 502), "{reply:?}");
                    }
                }),
        );
    }
    rows.push(
        Case::new(
            "no length of a chunk",
            Request::raw(format!("{head}\r\nabc\r\n0\r\n\r\n")),
        )
        .agents([agent(REQUESTS)])
        .expect(|outcome| {
            let is_whole = outcome.upstream.iter().any(|received| received.is_whole);
            assert!(!is_whole, "{:?}", outcome.upstream);
        })
        .pingora(
            "Pingora takes an empty line for the last chunk",
            |outcome| {
                outcome.upstream_body("");
                assert_eq!(outcome.seen_request(0), b"");
            },
        ),
    );
    rows.push(
        Case::new(
            "extension of a chunk is not forwarded",
            Request::raw(format!("{head}3;a=b\r\nabc\r\n0\r\n\r\n")),
        )
        .agents([agent(REQUESTS)])
        .expect(|outcome| {
            outcome.status(200).upstream_body("abc");
        }),
    );
    run(rows).await;
}
