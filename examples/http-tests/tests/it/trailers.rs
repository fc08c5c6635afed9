//! Trailers, which agents do not see.

use crate::rig::{AgentSpec, Body, Case, Via, agent, get, post};
use crate::{HEADS, REQUESTS, RESPONSES};

/// Trailers that a receiver could take for headers, and one that it may.
const SENT: [(&str, &str); 6] = [
    ("x-sum", "5"),
    ("content-length", "50"),
    ("host", "other.test"),
    ("authorization", "Basic YTpi"),
    ("cookie", "a=b"),
    ("x-forwarded-for", "192.0.2.1"),
];

fn passed() -> [(String, String); 1] {
    [("x-sum".to_owned(), "5".to_owned())]
}

/// Agents that see the body, and agents that do not.
fn agents(watching: fn() -> AgentSpec) -> [(&'static str, AgentSpec); 2] {
    [
        ("nobody sees the body", agent(HEADS)),
        ("an agent sees the body", watching()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_of_requests_bring_no_headers_in() {
    let names = SENT.map(|(name, _)| name).join(", ");
    let rows = agents(|| agent(REQUESTS)).map(|(name, agent)| {
        let body = Body::chunked(["hello"]);
        let body = SENT
            .iter()
            .fold(body, |body, (name, value)| body.trailer(name, value));
        Case::new(name, post("/", body).header("trailer", names.clone()))
            .agents([agent])
            .expect(|outcome| {
                outcome
                    .status(200)
                    .upstream_body("hello")
                    .both("cookie", "");
                assert_eq!(outcome.received().trailers[..], passed());
            })
            .pingora("Pingora drops trailers", |outcome| {
                outcome
                    .status(200)
                    .upstream_body("hello")
                    .both("cookie", "");
                assert!(outcome.received().trailers.is_empty());
            })
    });
    crate::rig::run(rows.into()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_of_responses_bring_no_headers_in() {
    let names = SENT.map(|(name, _)| name).join(", ");
    let trailers = SENT
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .concat();
    let response = format!(
        "HTTP/1.1 200 OK\r\ntrailer: {names}\r\ntransfer-encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n{trailers}\r\n"
    );
    let rows = agents(|| agent(RESPONSES)).map(|(name, agent)| {
        Case::new(name, get("/").header("te", "trailers"))
            .agents([agent])
            .responds(response.clone())
            .clients(&[Via::Bytes11, Via::H2])
            .expect(|outcome| {
                let reply = outcome.status(200).client_body("hello").reply();
                assert_eq!(reply.trailers[..], passed());
            })
            .pingora("Pingora drops trailers", |outcome| {
                let reply = outcome.status(200).client_body("hello").reply();
                assert!(reply.trailers.is_empty(), "{reply:?}");
            })
    });
    crate::rig::run(rows.into()).await;
}
