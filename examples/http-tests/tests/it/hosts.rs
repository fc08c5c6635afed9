//! The host of a request, wherever the client names it.

use crate::HEADS;
use crate::rig::{Case, Request, Via, agent, get, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_host_reaches_agents_and_upstream() {
    let mut rows = vec![
        Case::new("host of every version", get("/x"))
            .agents([agent(HEADS)])
            .clients(Via::ALL)
            .expect(|outcome| {
                outcome.status(200).both("host", "example.test");
                let head = outcome.asked(0);
                assert_eq!((&*head.method, &*head.uri), ("GET", "/x"));
                assert_eq!(head.protocol, outcome.via.protocol());
                assert_eq!(outcome.received().head.first_line, "GET /x HTTP/1.1");
            }),
        Case::new(
            "absolute URI overrides the header",
            Request::raw("GET http://other.test/x?y HTTP/1.1\r\nhost: example.test\r\n\r\n"),
        )
        .agents([agent(HEADS)])
        .expect(|outcome| {
            outcome.status(200).both("host", "other.test");
            assert_eq!(outcome.asked(0).uri, "/x?y");
            assert_eq!(outcome.received().head.first_line, "GET /x?y HTTP/1.1");
        })
        .pingora("Pingora refuses two hosts that differ", |outcome| {
            outcome.refused(400);
        }),
        Case::new(
            "absolute URI without a path",
            Request::raw("GET http://other.test HTTP/1.1\r\nhost: other.test\r\n\r\n"),
        )
        .agents([agent(HEADS)])
        .expect(|outcome| {
            outcome.status(200).both("host", "other.test");
            assert_eq!(outcome.asked(0).uri, "/");
        }),
        Case::new(
            "HTTP/1.0 without a host",
            Request {
                host: None,
                ..get("/x")
            },
        )
        .agents([agent(HEADS)])
        .clients(&[Via::Bytes10])
        .expect(|outcome| {
            let host = outcome.status(200).forwarded("host");
            assert_eq!(outcome.seen("host"), host);
        }),
    ];
    let host = "GET / HTTP/1.1\r\nhost: example.test\r\n";
    for (name, bytes) in [
        ("no host", "GET / HTTP/1.1\r\n".to_owned()),
        ("two hosts", format!("{host}host: other.test\r\n")),
        (
            "the same host twice",
            format!("{host}Host: example.test\r\n"),
        ),
        ("empty host", "GET / HTTP/1.1\r\nhost:\r\n".to_owned()),
        (
            "space in the host",
            "GET / HTTP/1.1\r\nhost: a b\r\n".to_owned(),
        ),
        (
            "path in the host",
            "GET / HTTP/1.1\r\nhost: a/b\r\n".to_owned(),
        ),
        (
            "list of hosts",
            "GET / HTTP/1.1\r\nhost: a, b\r\n".to_owned(),
        ),
        (
            "user in the host",
            "GET / HTTP/1.1\r\nhost: u@a\r\n".to_owned(),
        ),
        (
            "user in an absolute URI",
            "GET http://u@a/ HTTP/1.1\r\nhost: a\r\n".to_owned(),
        ),
    ] {
        let row = Case::new(name, Request::raw(bytes + "\r\n"));
        let row = row.agents([agent(HEADS)]);
        rows.push(row.expect(|outcome| outcome.refused(400)));
    }
    rows.push(
        Case::new(
            "header that contradicts :authority",
            get("/").header("host", "other.test"),
        )
        .agents([agent(HEADS)])
        .clients(&[Via::H2])
        .expect(|outcome| outcome.refused(400)),
    );
    run(rows).await;
}
