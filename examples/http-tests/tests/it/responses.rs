//! Responses without a body, and their headers.

use crate::rig::{Case, Connection, Event, Kind, Rig, Step, Via, agent, get, reply, run};
use crate::{EVERYTHING, HEADS, RESPONSES, allow, needs_more, set};
use tollgate::AgentResponse;
use tollgate_example_settings::BodyMode;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_without_a_body_are_complete() {
    let mut rows = Vec::new();
    for mode in [BodyMode::Stream, BodyMode::Hybrid, BodyMode::Buffer] {
        for is_changing in [false, true] {
            let watching = || {
                let agent = agent(EVERYTHING).response_body(mode);
                if is_changing { agent.changes() } else { agent }
            };
            rows.push(
                Case::new("HEAD", get("/").method("HEAD"))
                    .agents([watching()])
                    .responds("HTTP/1.1 200 OK\r\ncontent-length: 6\r\netag: \"1\"\r\n\r\n")
                    .expect(|outcome| {
                        let reply = outcome.status(200).client_body("").reply();
                        assert_eq!(reply.header("content-length"), "6");
                        assert!(outcome.response_chunks(0).is_empty());
                    }),
            );
            for (name, status, head) in [
                ("204", 204, "HTTP/1.1 204 No Content\r\n\r\n"),
                (
                    "304",
                    304,
                    "HTTP/1.1 304 Not Modified\r\netag: \"1\"\r\n\r\n",
                ),
                (
                    "304 with a length",
                    304,
                    "HTTP/1.1 304 Not Modified\r\ncontent-length: 6\r\n\r\n",
                ),
                (
                    "length of 0",
                    200,
                    "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                ),
            ] {
                rows.push(
                    Case::new(name, get("/"))
                        .agents([watching()])
                        .responds(head)
                        .expect(move |outcome| {
                            outcome.status(status).client_body("");
                            assert!(outcome.response_chunks(0).is_empty());
                            assert_eq!(outcome.seen_status(), status);
                            assert_eq!(outcome.completed(0).status, status);
                        }),
                );
            }
        }
    }
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undecided_agents_get_the_end_of_a_body_that_is_not_there() {
    let undecided = |last: fn() -> AgentResponse| {
        agent(RESPONSES).answers(move |event| {
            Some(match event {
                Event::Response(..) => needs_more(),
                Event::ResponseChunk(_) => last(),
                _ => allow(),
            })
        })
    };
    let mut rows = Vec::new();
    for (name, last, status) in [
        ("allows", allow as fn() -> AgentResponse, 204),
        ("denies", || AgentResponse::block(403, None), 403),
        ("needs more", needs_more, 502),
    ] {
        rows.push(
            Case::new(name, get("/"))
                .agents([undecided(last)])
                .responds("HTTP/1.1 204 No Content\r\n\r\n")
                .expect(move |outcome| {
                    let chunks = outcome.status(status).response_chunks(0);
                    assert_eq!(chunks.len(), 1, "{chunks:?}");
                    assert!(chunks[0].is_last && chunks[0].data.is_empty());
                }),
        );
    }
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_go_on_behind_answers() {
    for kind in Kind::ALL {
        let blocks = agent(HEADS).answers(|event| {
            Some(match event {
                Event::Request(head) if head.uri == "/blocked" => {
                    AgentResponse::block(403, Some("blocked\n".to_owned()))
                }
                _ => allow(),
            })
        });
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let rig = Rig::start(kind, &[blocks], reply(ok), |_| {}).await;
        let rig = rig.unwrap();
        let mut client = Connection::open(rig.address).await;
        for (path, status) in [
            ("/a", 200),
            ("/blocked", 403),
            ("/b", 200),
            ("/blocked", 403),
        ] {
            client.send(get(path).bytes("HTTP/1.1")).await;
            let reply = client.reply().await.unwrap();
            assert_eq!(reply.status, status, "{kind:?} {path}");
        }
        assert_eq!(rig.received().all().len(), 2, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_of_responses_are_normal_and_changed() {
    run(vec![
        Case::new("headers of the upstream's connection", get("/"))
            .agents([agent(RESPONSES)])
            .responds(
                "HTTP/1.1 200 OK\r\nconnection: x-named\r\nx-named: 1\r\nkeep-alive: timeout=5\r\n\
                 x-other: 2\r\ncontent-length: 2\r\n\r\nok",
            )
            .expect(|outcome| {
                let reply = outcome.status(200).client_body("ok").reply();
                for name in ["x-named", "keep-alive"] {
                    assert_eq!(outcome.seen_in_response(name), "", "{name}");
                    assert_eq!(reply.header(name), "", "{name}");
                }
                assert_eq!(reply.header("x-other"), "2");
            }),
        Case::new("keep-alive alone", get("/"))
            .agents([agent(RESPONSES)])
            .responds(
                "HTTP/1.1 200 OK\r\nkeep-alive: timeout=5\r\nproxy-connection: close\r\n\
                 upgrade: h2c\r\ncontent-length: 2\r\n\r\nok",
            )
            .expect(|outcome| {
                let reply = outcome.status(200).client_body("ok").reply();
                for name in ["keep-alive", "proxy-connection", "upgrade"] {
                    assert_eq!(outcome.seen_in_response(name), "", "{name}");
                    assert_eq!(reply.header(name), "", "{name}");
                }
            }),
        Case::new("agents set headers at both events", get("/"))
            .agents([agent(EVERYTHING).answers(|event| {
                Some(match event {
                    Event::Request(_) => allow().add_response_header(set("x-one", "1")),
                    Event::Response(..) => allow().add_response_header(set("x-two", "2")),
                    _ => allow(),
                })
            })])
            .clients(Via::ALL)
            .expect(|outcome| {
                let reply = outcome.status(200).client_body("hello\n").reply();
                assert_eq!(outcome.seen_in_response("x-one"), "1");
                assert_eq!(
                    (reply.header("x-one"), reply.header("x-two")),
                    ("1".into(), "2".into())
                );
            }),
        Case::new("body until the connection ends", get("/"))
            .agents([agent(RESPONSES)])
            .upstream(vec![
                Step::ReadBody,
                Step::Send(b"HTTP/1.1 200 OK\r\n\r\nabc".to_vec()),
                Step::Close,
            ])
            .expect(|outcome| {
                outcome.status(200).client_body("abc");
                assert_eq!(outcome.seen_response(0), b"abc");
            }),
    ])
    .await;
}
