//! Bodies of responses on their way through agents to the client.

use crate::rig::{Case, Event, Outcome, Via, agent, get, run};
use crate::{RESPONSES, allow, is_text, needs_more, replace_responses, set};
use tollgate::AgentResponse;
use tollgate_example_settings::BodyMode;

const MODES: [BodyMode; 4] = [
    BodyMode::Stream,
    BodyMode::Hybrid,
    BodyMode::Buffer,
    BodyMode::InspectFirst,
];

const DESCRIPTION: &str = "etag: \"1\"\r\ncontent-digest: sha-256=:x:\r\n";

const HEAD_GOES_ON: &str = "Pingora sends the head of a response before its body is judged";

fn framings() -> [String; 2] {
    [
        format!("HTTP/1.1 200 OK\r\n{DESCRIPTION}content-length: 11\r\n\r\nhello world"),
        format!(
            "HTTP/1.1 200 OK\r\n{DESCRIPTION}transfer-encoding: chunked\r\n\r\n\
             5\r\nhello\r\n4\r\n wor\r\n2\r\nld\r\n0\r\n\r\n"
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_pass_in_every_mode() {
    let mut rows = Vec::new();
    for mode in MODES {
        for response in framings() {
            let watching = || agent(RESPONSES).response_body(mode);
            rows.push(
                Case::new("agent that decides", get("/"))
                    .agents([watching()])
                    .responds(response.clone())
                    .expect(|outcome| {
                        let reply = outcome.status(200).client_body("hello world").reply();
                        assert!(is_text(&outcome.seen_response(0), "hello world"));
                        assert_eq!(reply.header("etag"), "\"1\"");
                    }),
            );
            rows.push(
                Case::new("agent that may change, and does not", get("/"))
                    .agents([watching().changes()])
                    .responds(response.clone())
                    .expect(|outcome| {
                        outcome.status(200).client_body("hello world");
                        assert!(is_text(&outcome.seen_response(0), "hello world"));
                    }),
            );
            for (name, new) in [("replaced", "bye"), ("dropped", "")] {
                rows.push(
                    Case::new(name, get("/").header("range", "bytes=0-10"))
                        .agents([
                            watching().changes().answers(replace_responses(new)),
                            agent(RESPONSES),
                        ])
                        .responds(response.clone())
                        .expect(move |outcome| {
                            let reply = outcome.status(200).client_body(new).reply();
                            assert!(is_text(&outcome.seen_response(1), new), "second agent");
                            for name in ["etag", "content-digest"] {
                                assert_eq!(reply.header(name), "", "{name}");
                            }
                            assert_eq!(outcome.forwarded("range"), "");
                        }),
                );
            }
        }
    }
    rows.push(
        Case::new("nobody sees the body", get("/"))
            .responds(framings()[1].clone())
            .clients(Via::ALL)
            .expect(|outcome| {
                outcome.status(200).client_body("hello world");
            }),
    );
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_bodies_do_not_reach_the_client_whole() {
    let mut rows = Vec::new();
    for (mode, holds_head) in MODES.into_iter().zip([false, true, true, true]) {
        for response in framings() {
            let blocks = |event: &Event| {
                Some(match event {
                    Event::ResponseChunk(chunk) if chunk.is_last => {
                        AgentResponse::block(403, Some("blocked\n".to_owned()))
                    }
                    _ => allow(),
                })
            };
            for (name, agent, status) in [
                ("blocked at the end", agent(RESPONSES).answers(blocks), 403),
                (
                    "agent that decides changes",
                    agent(RESPONSES).answers(replace_responses("bye")),
                    502,
                ),
                (
                    "needs more of a body that is over",
                    agent(RESPONSES).answers(|event| {
                        Some(match event {
                            Event::ResponseChunk(_) => needs_more(),
                            _ => allow(),
                        })
                    }),
                    502,
                ),
            ] {
                rows.push(
                    Case::new(name, get("/"))
                        .agents([agent.response_body(mode)])
                        .responds(response.clone())
                        .expect(move |outcome| {
                            if holds_head {
                                outcome.status(status);
                            } else {
                                outcome.rejected_or_broken(status);
                            }
                        })
                        .pingora(HEAD_GOES_ON, move |outcome| {
                            outcome.rejected_or_broken(status);
                        }),
                );
            }
        }
    }
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_change_on_the_body_while_the_head_waits() {
    let mut rows = Vec::new();
    for mode in [BodyMode::Hybrid, BodyMode::Buffer, BodyMode::InspectFirst] {
        for response in framings() {
            rows.push(
                Case::new("header set on the body", get("/"))
                    .agents([agent(RESPONSES).response_body(mode).answers(|event| {
                        Some(match event {
                            Event::ResponseChunk(_) => {
                                allow().add_response_header(set("x-late", "1"))
                            }
                            _ => allow(),
                        })
                    })])
                    .responds(response)
                    .expect(|outcome| {
                        let reply = outcome.status(200).client_body("hello world").reply();
                        assert!(reply.header("x-late").starts_with('1'));
                    })
                    .pingora(HEAD_GOES_ON, |outcome| outcome.rejected_or_broken(502)),
            );
        }
    }
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_are_held_within_the_limit() {
    // Ten times as much as may be held.
    let large = || "a".repeat(1_000_000);
    let passed = move |outcome: &Outcome| {
        outcome.status(200).client_body(large());
        assert!(is_text(&outcome.seen_response(0), &large()));
    };
    let mut rows = Vec::new();
    for (mode, is_refused) in MODES.into_iter().zip([false, false, true, true]) {
        rows.push(
            Case::new("beyond the limit", get("/"))
                .agents([agent(RESPONSES).response_body(mode)])
                .settings(|settings| settings.max_held_body = 100_000)
                .responds(format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{}",
                    large().len(),
                    large()
                ))
                .expect(move |outcome| {
                    if is_refused {
                        outcome.status(502);
                    } else {
                        passed(outcome);
                    }
                })
                .pingora(HEAD_GOES_ON, move |outcome| {
                    if is_refused {
                        outcome.rejected_or_broken(502);
                    } else {
                        passed(outcome);
                    }
                }),
        );
    }
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_of_responses_pass() {
    let rows = MODES.map(|mode| {
        Case::new("trailers", get("/").header("te", "trailers"))
            .agents([agent(RESPONSES).response_body(mode)])
            .responds(
                "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n\
                 5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n",
            )
            .clients(&[Via::Bytes11, Via::H2])
            .expect(|outcome| {
                let reply = outcome.status(200).client_body("hello").reply();
                assert_eq!(reply.trailers[..], [("x-sum".to_owned(), "5".to_owned())]);
            })
            .pingora("Pingora drops trailers", |outcome| {
                outcome.status(200).client_body("hello");
            })
    });
    run(rows.into()).await;
}
