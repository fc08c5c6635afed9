//! Headers of requests: what of them reaches agents and the upstream.

use crate::rig::{Body, Case, Request, Via, agent, get, post, run};
use crate::{HEADS, allow, set};

const CONNECTION_ALLOWED: &[Via] = &[Via::Bytes10, Via::Bytes11, Via::Hyper11];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_are_normal_before_agents_are_asked() {
    run(vec![
        Case::new(
            "cookie crumbs",
            get("/")
                .header("cookie", "a=1")
                .header("cookie", "b=2; c=3")
                .header("cookie", "d=4"),
        )
        .agents([agent(HEADS)])
        .expect(|outcome| {
            outcome.status(200).both("cookie", "a=1; b=2; c=3; d=4");
        }),
        Case::new(
            "headers of the connection",
            get("/")
                .header("connection", "x-Named, keep-alive")
                .header("x-named", "1")
                .header("x-other", "2")
                .header("keep-alive", "timeout=9")
                .header("proxy-connection", "keep-alive")
                .header("te", "gzip"),
        )
        .agents([agent(HEADS)])
        .clients(CONNECTION_ALLOWED)
        .expect(|outcome| {
            outcome.status(200).both("x-other", "2");
            for name in ["x-named", "keep-alive", "proxy-connection", "te"] {
                outcome.both(name, "");
            }
        }),
        Case::new(
            "agent sets a header that the client names in connection",
            get("/")
                .header("connection", "x-user, host, content-length")
                .header("x-user", "forged"),
        )
        .agents([agent(HEADS).on_head(|| allow().add_request_header(set("x-user", "7")))])
        .clients(CONNECTION_ALLOWED)
        .expect(|outcome| {
            assert_eq!(outcome.status(200).seen("x-user"), "");
            assert_eq!(outcome.forwarded("x-user"), "7");
            outcome.both("host", "example.test");
        }),
        Case::new(
            "offer of HTTP/2",
            get("/")
                .header("connection", "upgrade, http2-settings")
                .header("upgrade", "h2c")
                .header("http2-settings", "AAMAAABkAAQAAP__"),
        )
        .agents([agent(HEADS)])
        .clients(&[Via::Bytes11, Via::Hyper11])
        .expect(|outcome| {
            outcome.status(200);
            for name in ["upgrade", "http2-settings"] {
                outcome.both(name, "");
            }
            assert!(!outcome.forwarded("connection").contains("upgrade"));
        }),
        Case::new(
            "invalid connection header",
            get("/").header("connection", "a b"),
        )
        .agents([agent(HEADS)])
        .clients(CONNECTION_ALLOWED)
        .expect(|outcome| outcome.refused(400)),
        Case::new(
            "bytes beyond ASCII",
            get("/").header("x-odd", b"a\xe4\x80z".to_vec()),
        )
        .agents([agent(HEADS)])
        .clients(&[Via::Bytes10, Via::Bytes11, Via::H2])
        .expect(|outcome| {
            outcome.status(200);
            let forwarded = outcome.forwarded("x-odd");
            assert!(
                forwarded.starts_with('a') && forwarded.ends_with('z'),
                "{forwarded}"
            );
        }),
        Case::new("tab in a value", get("/").header("x-odd", "a\tb"))
            .agents([agent(HEADS)])
            .clients(&[Via::Bytes10, Via::Bytes11, Via::H2])
            .expect(|outcome| {
                outcome.status(200).both("x-odd", "a\tb");
            }),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_say_whether_a_body_follows() {
    let follows = |name, request, expected| {
        Case::new(name, request)
            .agents([agent(HEADS)])
            .expect(move |outcome| {
                outcome.status(200);
                assert_eq!(outcome.asked(0).body_follows, Some(expected));
            })
    };
    run(vec![
        follows("no body", get("/"), false),
        follows("body with a length", post("/", Body::whole("abc")), true),
        follows("chunked body", post("/", Body::chunked(["abc"])), true),
        follows(
            "empty chunked body",
            post("/", Body::chunked([""; 0])),
            true,
        )
        .clients(&[Via::Bytes11]),
        follows("length of 0", post("/", Body::whole("")), false)
            .clients(&[Via::Bytes10, Via::Bytes11]),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_headers_are_refused() {
    let mut rows = Vec::new();
    for (name, line) in [
        ("NUL in a value", "x-odd: a\0b"),
        ("carriage return in a value", "x-odd: a\rb"),
        ("space before the colon", "x-odd : a"),
        ("no colon", "x-odd"),
        ("space in a name", "x odd: a"),
        ("continued line", "x-odd: a\r\n b"),
    ] {
        let request = format!("GET / HTTP/1.1\r\nhost: example.test\r\n{line}\r\n\r\n");
        rows.push(
            Case::new(name, Request::raw(request))
                .agents([agent(HEADS)])
                .expect(|outcome| outcome.refused(400)),
        );
    }
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_heads_are_refused() {
    let head = "GET / HTTP/1.1\r\nhost: example.test\r\n";
    let rows = [
        (
            "one long header",
            format!("{head}x-long: {}", "a".repeat(4 << 20)),
        ),
        (
            "many headers",
            format!("{head}{}", "x-many: a\r\n".repeat(100_000)),
        ),
        ("long target", format!("GET /{}", "a".repeat(4 << 20))),
    ];
    let rows = rows.map(|(name, bytes)| {
        Case::new(name, Request::raw(bytes))
            .agents([agent(HEADS)])
            .expect(|outcome| {
                outcome.not_asked().not_forwarded();
                // The proxy hangs up while bytes are unread, so the client may miss the response.
                if let Some(reply) = &outcome.reply {
                    assert!(matches!(reply.status, 400 | 414 | 431), "{reply:?}");
                }
            })
    });
    run(rows.into()).await;
}
