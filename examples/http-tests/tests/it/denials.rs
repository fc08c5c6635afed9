//! Answers that agents give clients in the upstream's place.

use crate::rig::{Body, Case, Event, Step, Via, agent, get, post, run};
use crate::{HEADS, REQUESTS, RESPONSES, allow, set};
use std::collections::HashMap;
use tollgate::{AgentResponse, Decision};

fn block() -> AgentResponse {
    AgentResponse::block(403, Some("blocked\n".to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denials_reach_the_client_alone() {
    run(vec![
        Case::new("block", get("/"))
            .agents([agent(HEADS).on_head(block)])
            .clients(Via::ALL)
            .expect(|outcome| {
                outcome.status(403).not_forwarded().client_body("blocked\n");
                assert_eq!(outcome.completed(0).status, 403);
            }),
        Case::new("block of HEAD", get("/").method("HEAD"))
            .agents([agent(HEADS).on_head(block)])
            .expect(|outcome| {
                outcome.status(403).not_forwarded().client_body("");
            }),
        Case::new(
            "block of a request with a body",
            post("/", Body::whole("abc")),
        )
        .agents([agent(REQUESTS).on_head(block)])
        .clients(Via::ALL)
        .expect(|outcome| {
            outcome.status(403).not_forwarded().client_body("blocked\n");
        })
        .pingora(
            "Pingora resets a stream of HTTP/2 with an unread body, and curl may drop the answer",
            |outcome| {
                outcome.not_forwarded();
                if outcome.via != Via::Curl2 || outcome.reply.is_some() {
                    outcome.status(403).client_body("blocked\n");
                }
            },
        ),
        Case::new("redirect", get("/"))
            .agents([agent(HEADS).on_head(|| AgentResponse::redirect("/login".to_owned(), 307))])
            .expect(|outcome| {
                outcome.status(307).not_forwarded();
                assert_eq!(outcome.reply().header("location"), "/login");
            }),
        Case::new("challenge", get("/"))
            .agents([agent(HEADS).on_head(|| {
                AgentResponse::decided(Decision::Challenge {
                    challenge_type: "Bearer".to_owned(),
                    params: HashMap::from([("realm".to_owned(), "members".to_owned())]),
                })
            })])
            .expect(|outcome| {
                outcome.status(401).not_forwarded();
                let challenge = outcome.reply().header("www-authenticate");
                assert_eq!(challenge, "Bearer realm=\"members\"");
            }),
        Case::new("response headers of an earlier agent", get("/"))
            .agents([
                agent(HEADS)
                    .changes()
                    .on_head(|| allow().add_response_header(set("x-tag", "1"))),
                agent(HEADS).on_head(|| block().add_response_header(set("x-own", "2"))),
                agent(HEADS).changes(),
            ])
            .expect(|outcome| {
                let reply = outcome.status(403).not_forwarded().reply();
                assert_eq!(
                    (reply.header("x-tag"), reply.header("x-own")),
                    ("1".into(), "2".into())
                );
                let events = &outcome.agents[2];
                assert!(
                    !events
                        .iter()
                        .any(|event| matches!(event, Event::Request(_))),
                    "{events:?}"
                );
            }),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denied_responses_do_not_reach_the_client() {
    let on_response = |event: &Event| {
        Some(match event {
            Event::Response(..) => block(),
            _ => allow(),
        })
    };
    let early = Step::Send(
        b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n\
          HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret"
            .to_vec(),
    );
    run(vec![
        Case::new("denied by its head", get("/"))
            .agents([agent(RESPONSES).answers(on_response)])
            .responds("HTTP/1.1 200 OK\r\nx-secret: 1\r\ncontent-length: 6\r\n\r\nsecret")
            .clients(Via::ALL)
            .expect(|outcome| {
                outcome.status(403).client_body("blocked\n");
                assert_eq!(outcome.reply().header("x-secret"), "");
                assert_eq!(outcome.completed(0).status, 403);
            }),
        Case::new("early hints, then denied", get("/"))
            .agents([agent(RESPONSES).answers(on_response)])
            .upstream(vec![Step::ReadBody, early])
            .expect(|outcome| {
                outcome.status(403).client_body("blocked\n");
                let heads = outcome.agents[0].len();
                assert_eq!(
                    heads, 2,
                    "interim responses are not judged: {:?}",
                    outcome.agents[0]
                );
                for interim in &outcome.reply().interim {
                    assert_eq!(interim.status(), 103);
                }
            }),
    ])
    .await;
}
