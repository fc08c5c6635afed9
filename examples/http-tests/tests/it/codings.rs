//! Bodies with a content coding.

use crate::rig::{AgentSpec, Body, Case, Outcome, Request, agent, get, post, run};
use crate::{REQUESTS, RESPONSES, is_text, replace_requests, replace_responses};
use std::io::Write;
use tollgate_example_settings::{BodyMode, Codings};

const TEXT: &str = "hello hello hello hello hello hello hello";
const CODINGS: [&str; 4] = ["gzip", "deflate", "br", "zstd"];
const MODES: [BodyMode; 2] = [BodyMode::Stream, BodyMode::Buffer];

fn encode(coding: &str, data: &[u8]) -> Vec<u8> {
    let level = flate2::Compression::default();
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut encoded = Vec::new();
            let mut encoder = brotli::CompressorWriter::new(&mut encoded, 4096, 5, 22);
            encoder.write_all(data).unwrap();
            drop(encoder);
            encoded
        }
        _ => zstd::encode_all(data, 3).unwrap(),
    }
}

fn upload(coding: &'static str, body: &[u8]) -> Request {
    post("/", Body::whole(body.to_vec())).header("content-encoding", coding)
}

fn download(coding: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: {coding}\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn sees_requests(mode: BodyMode) -> AgentSpec {
    agent(REQUESTS).request_body(mode)
}

fn sees_responses(mode: BodyMode) -> AgentSpec {
    agent(RESPONSES).response_body(mode)
}

/// Checks that a request was refused, and nothing of it reached the upstream whole.
fn refused(outcome: &Outcome, status: u16) {
    outcome.status(status);
    let is_whole = outcome.upstream.iter().any(|received| received.is_whole);
    assert!(!is_whole, "{:?}", outcome.upstream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_decoded_for_agents() {
    let mut rows = Vec::new();
    for coding in CODINGS {
        let encoded = encode(coding, TEXT.as_bytes());
        for mode in MODES {
            let original = encoded.clone();
            rows.push(
                Case::new("request goes on as it came", upload(coding, &encoded))
                    .agents([sees_requests(mode)])
                    .expect(move |outcome| {
                        outcome.status(200).upstream_body(&original);
                        assert!(is_text(&outcome.seen_request(0), TEXT));
                        assert_eq!(outcome.forwarded("content-encoding"), coding);
                    }),
            );
            rows.push(
                Case::new("changed request has no coding", upload(coding, &encoded))
                    .agents([sees_requests(mode)
                        .changes()
                        .answers(replace_requests("bye"))])
                    .expect(|outcome| {
                        outcome.status(200).upstream_body("bye");
                        assert_eq!(outcome.forwarded("content-encoding"), "");
                    }),
            );
        }
        let original = encoded.clone();
        rows.push(
            Case::new("request passes", upload(coding, &encoded))
                .agents([sees_requests(BodyMode::Stream).codings(Codings::Pass)])
                .expect(move |outcome| {
                    outcome.status(200).upstream_body(&original);
                    outcome.both("content-encoding", coding);
                    assert_eq!(outcome.seen_request(0), original);
                }),
        );
        rows.push(
            Case::new("request is refused", upload(coding, &encoded))
                .agents([sees_requests(BodyMode::Stream).codings(Codings::Refuse)])
                .expect(|outcome| {
                    outcome.status(415).not_forwarded();
                    assert!(outcome.request_chunks(0).is_empty());
                }),
        );
    }
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_are_decoded_for_agents() {
    let mut rows = Vec::new();
    for coding in CODINGS {
        let encoded = encode(coding, TEXT.as_bytes());
        for mode in MODES {
            let original = encoded.clone();
            rows.push(
                Case::new("response goes on as it came", get("/"))
                    .agents([sees_responses(mode)])
                    .responds(download(coding, &encoded))
                    .expect(move |outcome| {
                        let reply = outcome.status(200).client_body(&original).reply();
                        assert!(is_text(&outcome.seen_response(0), TEXT));
                        assert_eq!(reply.header("content-encoding"), coding);
                    }),
            );
            rows.push(
                Case::new("changed response has no coding", get("/"))
                    .agents([sees_responses(mode)
                        .changes()
                        .answers(replace_responses("bye"))])
                    .responds(download(coding, &encoded))
                    .expect(|outcome| {
                        let reply = outcome.status(200).client_body("bye").reply();
                        assert_eq!(reply.header("content-encoding"), "");
                    }),
            );
        }
        let original = encoded.clone();
        rows.push(
            Case::new("response passes", get("/"))
                .agents([sees_responses(BodyMode::Stream).codings(Codings::Pass)])
                .responds(download(coding, &encoded))
                .expect(move |outcome| {
                    outcome.status(200).client_body(&original);
                    assert_eq!(outcome.seen_response(0), original);
                }),
        );
        rows.push(
            Case::new("response is refused", get("/"))
                .agents([sees_responses(BodyMode::Stream).codings(Codings::Refuse)])
                .responds(download(coding, &encoded))
                .expect(|outcome| {
                    outcome.status(502);
                }),
        );
    }
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_not_what_they_say_are_refused() {
    let gzip = encode("gzip", TEXT.as_bytes());
    let truncated = gzip[..gzip.len() - 3].to_vec();
    let trailing = [&gzip[..], b"more"].concat();
    let zeros = vec![0; 16 << 20];
    let bomb = encode("gzip", &zeros);
    assert!(zeros.len() > 10 * 100 * bomb.len(), "ten times the ratio");
    let mut rows = Vec::new();
    for (name, coding, body, of_request) in [
        ("unknown", "x-unknown", gzip.clone(), 415),
        ("doubled", "gzip, gzip", gzip.clone(), 415),
        ("truncated", "gzip", truncated, 400),
        ("trailing bytes", "gzip", trailing, 400),
        ("lying", "gzip", TEXT.as_bytes().to_vec(), 400),
        ("another coding", "zstd", gzip.clone(), 400),
        ("bomb", "gzip", bomb, 413),
    ] {
        for mode in MODES {
            rows.push(
                Case::new(name, upload(coding, &body))
                    .agents([sees_requests(mode)])
                    .expect(move |outcome| refused(outcome, of_request)),
            );
        }
        rows.push(
            Case::new(name, get("/"))
                .agents([sees_responses(BodyMode::Buffer)])
                .responds(download(coding, &body))
                .expect(|outcome| {
                    outcome.status(502);
                }),
        );
        let expected = body.clone();
        rows.push(
            Case::new(name, upload(coding, &body)).expect(move |outcome| {
                outcome.status(200).upstream_body(&expected);
            }),
        );
    }
    run(rows).await;
}

/// Returns bytes that become smaller by a coding, but far less than the limit of the ratio says.
fn compressible(len: usize) -> Vec<u8> {
    let mut random = 1_u32;
    let bytes = (0..len).map(|at| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if at % 16 == 0 {
            (random >> 24) as u8
        } else {
            0
        }
    });
    bytes.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_are_decoded_within_the_limit() {
    const LIMIT: usize = 20_000;
    let large = compressible(10 * LIMIT);
    let mut rows = Vec::new();
    for coding in CODINGS {
        let encoded = encode(coding, &large);
        assert!(
            encoded.len() > large.len() / 50,
            "{coding}: not by the ratio"
        );
        for mode in MODES {
            let request = || Case::new("request", upload(coding, &encoded));
            let response = || Case::new("response", get("/")).responds(download(coding, &encoded));
            rows.extend([
                request()
                    .agents([sees_requests(mode)])
                    .settings(|settings| settings.max_decoded_body = LIMIT)
                    .expect(|outcome| refused(outcome, 413)),
                response()
                    .agents([sees_responses(mode)])
                    .settings(|settings| settings.max_decoded_body = LIMIT)
                    .expect(move |outcome| {
                        if mode == BodyMode::Stream {
                            return outcome.rejected_or_broken(502);
                        }
                        outcome.status(502);
                    })
                    .pingora("Pingora sends the head first", |outcome| {
                        outcome.rejected_or_broken(502);
                    }),
            ]);
            let whole = large.clone();
            rows.push(
                request()
                    .agents([sees_requests(mode)])
                    .expect(move |outcome| {
                        outcome.status(200);
                        assert!(outcome.seen_request(0) == whole, "what the agent sees");
                    }),
            );
        }
    }
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstreams_are_asked_for_codings_that_agents_see_through() {
    let request = || get("/").header("accept-encoding", "x-unknown, gzip, br;q=0.5");
    let asks = |name, agents: Vec<AgentSpec>, expected: &'static str| {
        Case::new(name, request())
            .agents(agents)
            .expect(move |outcome| {
                assert_eq!(outcome.status(200).forwarded("accept-encoding"), expected);
            })
    };
    let all = "x-unknown, gzip, br;q=0.5";
    let watching = || sees_responses(BodyMode::Stream);
    run(vec![
        asks("nobody sees the body", vec![agent(REQUESTS)], all),
        asks("decode", vec![watching()], "gzip, br;q=0.5"),
        asks("pass", vec![watching().codings(Codings::Pass)], all),
        asks("refuse", vec![watching().codings(Codings::Refuse)], ""),
        asks(
            "the most conservative mode counts",
            vec![
                watching().codings(Codings::Pass),
                watching().codings(Codings::Refuse),
            ],
            "",
        ),
    ])
    .await;
}
