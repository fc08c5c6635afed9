//! Bodies of requests on their way through agents to the upstream.

use crate::rig::{Body, Case, Event, Outcome, Via, agent, post, run};
use crate::{HEADS, REQUESTS, allow, is_text, needs_more, replace_requests, set};
use tollgate::AgentResponse;
use tollgate_example_settings::BodyMode;

const MODES: [BodyMode; 4] = [
    BodyMode::Stream,
    BodyMode::Hybrid,
    BodyMode::Buffer,
    BodyMode::InspectFirst,
];

fn framings() -> [Body; 2] {
    [
        Body::whole("hello world"),
        Body::chunked(["hello", " wor", "ld"]),
    ]
}

fn blocked() -> AgentResponse {
    AgentResponse::block(403, Some("blocked\n".to_owned()))
}

/// Checks that a request was answered in the upstream's place, which has got no whole request.
fn rejected(outcome: &Outcome, status: u16) {
    outcome.status(status);
    let is_whole = outcome.upstream.iter().any(|received| received.is_whole);
    assert!(!is_whole, "forwarded: {:?}", outcome.upstream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_pass_in_every_mode() {
    let mut rows = Vec::new();
    for mode in MODES {
        for body in framings() {
            let has_length = !body.is_chunked;
            let request = || post("/", body.clone()).header("etag", "\"1\"");
            rows.push(
                Case::new("agent that decides", request())
                    .agents([agent(REQUESTS).request_body(mode)])
                    .expect(move |outcome| {
                        outcome.status(200).upstream_body("hello world");
                        assert!(is_text(&outcome.seen_request(0), "hello world"));
                        assert_eq!(outcome.forwarded("etag"), "\"1\"");
                        if has_length && !outcome.via.is_http2() {
                            assert_eq!(outcome.forwarded("content-length"), "11");
                        }
                    }),
            );
            rows.push(
                Case::new("agent that may change, and does not", request())
                    .agents([agent(REQUESTS).changes().request_body(mode)])
                    .expect(|outcome| {
                        outcome.status(200).upstream_body("hello world");
                        assert!(is_text(&outcome.seen_request(0), "hello world"));
                    }),
            );
        }
    }
    rows.push(
        Case::new(
            "nobody sees the body",
            post("/", Body::whole("hello world")),
        )
        .agents([agent(HEADS)])
        .clients(Via::ALL)
        .expect(|outcome| {
            outcome.status(200).upstream_body("hello world");
        }),
    );
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undecided_agents_hold_the_body() {
    let mut rows = Vec::new();
    for (mode, body) in MODES.into_iter().zip(framings().into_iter().cycle()) {
        let undecided = |last: fn() -> AgentResponse| {
            agent(REQUESTS).request_body(mode).answers(move |event| {
                Some(match event {
                    Event::RequestChunk(chunk) if chunk.is_last => last(),
                    Event::Request(_) | Event::RequestChunk(_) => needs_more(),
                    _ => allow(),
                })
            })
        };
        for body in framings().into_iter().chain([body]) {
            rows.push(
                Case::new("needs more, then allows", post("/", body.clone()))
                    .agents([undecided(allow)])
                    .expect(|outcome| {
                        outcome.status(200).upstream_body("hello world");
                        assert!(is_text(&outcome.seen_request(0), "hello world"));
                    }),
            );
            rows.push(
                Case::new("needs more, then denies", post("/", body.clone()))
                    .agents([undecided(blocked)])
                    .expect(|outcome| {
                        rejected(outcome, 403);
                        outcome.client_body("blocked\n");
                    }),
            );
            rows.push(
                Case::new("needs more of a body that is over", post("/", body))
                    .agents([undecided(needs_more)])
                    .expect(|outcome| rejected(outcome, 502)),
            );
        }
        for (name, last, status) in [
            ("no body, allows", allow as fn() -> AgentResponse, 200),
            ("no body, denies", blocked, 403),
            ("no body, needs more", needs_more, 502),
        ] {
            rows.push(
                Case::new(name, crate::rig::get("/"))
                    .agents([undecided(last)])
                    .expect(move |outcome| {
                        outcome.status(status);
                        assert_eq!(outcome.upstream.is_empty(), status != 200);
                        let chunks = outcome.request_chunks(0);
                        assert_eq!(chunks.len(), 1, "{chunks:?}");
                        assert!(chunks[0].is_last && chunks[0].data.is_empty());
                    }),
            );
        }
    }
    rows.push(
        Case::new(
            "needs more without a subscription",
            post("/", Body::whole("hello world")),
        )
        .agents([agent(HEADS).on_head(needs_more)])
        .expect(|outcome| rejected(outcome, 502)),
    );
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_bodies_are_described_right() {
    let mut rows = Vec::new();
    for mode in MODES {
        for body in framings() {
            for (name, new) in [("replaced", "bye"), ("dropped", "")] {
                let request = post("/", body.clone())
                    .header("etag", "\"1\"")
                    .header("content-range", "bytes 0-10/11")
                    .header("content-digest", "sha-256=:x:")
                    .header("content-md5", "x");
                rows.push(
                    Case::new(name, request)
                        .agents([
                            agent(REQUESTS)
                                .changes()
                                .request_body(mode)
                                .answers(replace_requests(new)),
                            agent(REQUESTS),
                        ])
                        .expect(move |outcome| {
                            outcome.status(200).upstream_body(new);
                            assert!(is_text(&outcome.seen_request(1), new), "second agent");
                            for name in ["etag", "content-range", "content-digest", "content-md5"] {
                                assert_eq!(outcome.forwarded(name), "", "{name}");
                            }
                        }),
                );
            }
            rows.push(
                Case::new("agent that decides changes", post("/", body.clone()))
                    .agents([agent(REQUESTS)
                        .request_body(mode)
                        .answers(replace_requests("bye"))])
                    .expect(|outcome| rejected(outcome, 502)),
            );
        }
    }
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_change_on_the_body_while_the_head_waits() {
    let mut rows = Vec::new();
    for (mode, is_waiting) in MODES.into_iter().zip([false, true, true, true]) {
        for body in framings() {
            let has_no_length = body.is_chunked;
            let row = Case::new("header set on the body", post("/", body))
                .agents([agent(REQUESTS).request_body(mode).answers(|event| {
                    Some(match event {
                        Event::RequestChunk(_) => allow().add_request_header(set("x-late", "1")),
                        _ => allow(),
                    })
                })])
                .expect(move |outcome| {
                    if !is_waiting {
                        return rejected(outcome, 502);
                    }
                    outcome.status(200).upstream_body("hello world");
                    assert_eq!(outcome.forwarded("x-late"), "1");
                });
            rows.push(if has_no_length && mode == BodyMode::Hybrid {
                row.pingora(
                    "Pingora sends the head of a request before a body without a length",
                    |outcome| rejected(outcome, 502),
                )
            } else {
                row
            });
        }
    }
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hybrid_bodies_go_on_after_a_number_of_bytes() {
    let blocks_at = |blocked_byte: u8| {
        agent(REQUESTS).hybrid(1_000).answers(move |event| {
            Some(match event {
                Event::RequestChunk(chunk) if chunk.data.contains(&blocked_byte) => blocked(),
                _ => allow(),
            })
        })
    };
    let body = || Body::chunked([vec![b'a'; 600], vec![b'b'; 600], vec![b'c'; 200_000]]);
    let whole = body().chunks.concat();
    run(vec![
        Case::new("allowed", post("/", body()))
            .agents([blocks_at(b'x')])
            .expect(move |outcome| {
                outcome.status(200).upstream_body(&whole);
            }),
        Case::new("blocked before", post("/", body()))
            .agents([blocks_at(b'a')])
            .expect(|outcome| {
                rejected(outcome, 403);
                let mut bodies = outcome.upstream.iter().map(|received| &received.body);
                assert!(bodies.all(Vec::is_empty), "{:?}", outcome.upstream);
            }),
        Case::new("blocked behind", post("/", body()))
            .agents([blocks_at(b'c')])
            .expect(|outcome| {
                rejected(outcome, 403);
                let mut bodies = outcome.upstream.iter().map(|received| &received.body);
                assert!(bodies.all(|body| !body.contains(&b'c')), "a blocked chunk");
            }),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_are_held_within_the_limit() {
    // Ten times as much as may be held.
    let large = || vec![b'a'; 1_000_000];
    let mut rows = Vec::new();
    for (mode, is_refused) in MODES.into_iter().zip([false, false, true, true]) {
        for body in [Body::whole(large()), Body::chunked(large().chunks(10_000))] {
            rows.push(
                Case::new("beyond the limit", post("/", body))
                    .agents([agent(REQUESTS).request_body(mode)])
                    .settings(|settings| settings.max_held_body = 100_000)
                    .expect(move |outcome| {
                        if is_refused {
                            return rejected(outcome, 413);
                        }
                        outcome.status(200).upstream_body(large());
                        assert_eq!(outcome.seen_request(0), large());
                    }),
            );
        }
    }
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_chunks_are_gathered_and_trailers_pass() {
    let bytes = || (0..65_536_u32).map(|at| [at as u8]).collect::<Vec<_>>();
    let small = Case::new("chunks of one byte", post("/", Body::chunked(bytes())))
        .agents([agent(REQUESTS)])
        .clients(&[Via::Bytes11])
        .expect(move |outcome| {
            outcome.status(200).upstream_body(bytes().concat());
            let events = outcome.request_chunks(0).len();
            assert!(events < 6_554, "{events} events");
        })
        .not_with_pingora("Pingora judges each chunk as it is sent");
    let mut rows = vec![small];
    for mode in MODES {
        let body = Body::chunked(["hello"]).trailer("x-sum", "5");
        rows.push(
            Case::new("trailers", post("/", body).header("trailer", "x-sum"))
                .agents([agent(REQUESTS).request_body(mode)])
                .expect(|outcome| {
                    outcome.status(200).upstream_body("hello");
                    assert!(is_text(&outcome.seen_request(0), "hello"));
                    let trailers = &outcome.received().trailers;
                    assert_eq!(trailers[..], [("x-sum".to_owned(), "5".to_owned())]);
                })
                .pingora("Pingora drops trailers", |outcome| {
                    outcome.status(200).upstream_body("hello");
                }),
        );
    }
    run(rows).await;
}
