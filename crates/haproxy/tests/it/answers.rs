//! Decisions of agents as variables, and messages as events.

use crate::peer::{Server, ask_path, header_list};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tollgate::response::{AuditMetadata, BodyMutation};
use tollgate::{
    AgentCapabilities, AgentHandler, AgentResponse, BodyChunk, Decision, EventType, HeaderOp,
    RequestComplete, RequestHeadersView, ResponseHeadersView,
};
use tollgate_haproxy::client::{Answer, Question, Variable};
use tollgate_haproxy::wire::Value;
use tollgate_haproxy::{Dialect, Needed, PartialBodies, SpopSettings};

/// An agent that records its events, and answers those of each kind in the same way.
#[derive(Clone, Default)]
struct Recorder {
    events: Arc<Mutex<Vec<String>>>,
    head: Option<AgentResponse>,
    chunk: Option<AgentResponse>,
    response: Option<AgentResponse>,
    subscribes_to: Vec<EventType>,
}

impl Recorder {
    fn new(subscribes_to: &[EventType]) -> Self {
        Self {
            subscribes_to: subscribes_to.to_vec(),
            ..Self::default()
        }
    }

    fn record(&self, event: String) {
        self.events.lock().unwrap().push(event);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.events.lock().unwrap())
    }
}

impl AgentHandler for Recorder {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities {
            supported_events: self.subscribes_to.clone(),
            ..AgentCapabilities::new("recorder", "Recorder", "1")
        }
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        let headers: Vec<_> = event.headers.iter().collect();
        let of = &event.metadata;
        self.record(format!(
            "head {} {} {} {}:{} {} {:?} {headers:?}",
            of.correlation_id,
            event.method,
            event.uri,
            of.client_ip,
            of.client_port,
            of.protocol,
            of.body_follows,
        ));
        self.head.clone().unwrap_or_default()
    }

    async fn on_request_body_chunk(&self, chunk: BodyChunk<'_>) -> AgentResponse {
        let (data, last) = (String::from_utf8_lossy(&chunk.data), chunk.is_last);
        self.record(format!("chunk {data} {last} {:?}", chunk.total_size));
        self.chunk.clone().unwrap_or_default()
    }

    async fn on_response_headers(&self, event: ResponseHeadersView<'_>) -> AgentResponse {
        self.record(format!(
            "response {} {}",
            event.correlation_id, event.status
        ));
        self.response.clone().unwrap_or_default()
    }

    fn on_request_recalled(&self, event: RequestHeadersView<'_>) {
        self.record(format!("recalled {} {}", event.method, event.uri));
    }

    async fn on_request_complete(&self, event: RequestComplete<'_>) -> AgentResponse {
        self.record(format!(
            "complete {} {}",
            event.correlation_id, event.status
        ));
        AgentResponse::default_allow()
    }
}

const HEAD: [EventType; 1] = [EventType::RequestHeaders];
const BODY: [EventType; 2] = [EventType::RequestHeaders, EventType::RequestBodyChunk];

/// Returns the answer of an agent that answers the head of a request with `response`.
async fn answer_for(response: AgentResponse) -> Answer {
    let agent = Recorder {
        head: Some(response),
        ..Recorder::new(&HEAD)
    };
    let server = Server::start(agent).await;
    let answer = ask_path(&mut server.connect().await, "/").await;
    server.stopped().await;
    answer
}

fn is_denied(answer: &Answer, status: i64, reason: &str) {
    assert_eq!(answer.text("action"), Some("deny"), "{answer:?}");
    assert_eq!(answer.number("status"), Some(status), "{answer:?}");
    assert_eq!(answer.text("reason"), Some(reason), "{answer:?}");
}

#[tokio::test]
async fn message_becomes_an_event() {
    let agent = Recorder::new(&HEAD);
    let server = Server::start(agent.clone()).await;
    let mut peer = server.connect().await;
    let headers = header_list(&[("accept", "a"), ("host", "a.test"), ("accept", "b")]);
    let arguments = [
        ("unknown", Value::Bool(true)),
        ("", Value::from("unnamed")),
        ("sni", Value::Null),
        ("headers", Value::Binary(&headers)),
        ("query", Value::from("x=1")),
        ("path", Value::from("/a")),
        ("version", Value::from("1.1")),
        ("src-port", Value::Int64(4711)),
        ("src-ip", Value::Ipv4([192, 0, 2, 7].into())),
        ("method", Value::from("PUT")),
        ("id", Value::from("r-7")),
        ("body-len", Value::Int64(0)),
        ("body-size", Value::Int64(0)),
    ];
    let answer = peer.ask("tollgate-req", &arguments).await;
    let allowed = HashMap::from([("action".to_owned(), Variable::Bytes(b"allow".to_vec()))]);
    assert_eq!(answer.0, allowed);
    let headers = r#"[("accept", "a"), ("accept", "b"), ("host", "a.test")]"#;
    let expected = format!("head r-7 PUT /a?x=1 192.0.2.7:4711 HTTP/1.1 Some(false) {headers}");
    assert_eq!(agent.take(), [expected]);

    let text = Value::from("host: b.test\r\n\r\n");
    peer.ask(
        "tollgate-req",
        &[("url", Value::from("/b?c")), ("headers", text)],
    )
    .await;
    let event = agent.take().remove(0);
    assert!(event.contains(" /b?c "), "{event}");
    assert!(event.ends_with(r#"[("host", "b.test")]"#), "{event}");
    assert!(event.starts_with("head spop-"), "{event}");
}

#[tokio::test]
async fn text_that_is_not_utf8_is_judged() {
    let agent = Recorder::new(&HEAD);
    let server = Server::start(agent.clone()).await;
    let mut peer = server.connect().await;
    let headers = b"\x01a\x02\xff\xe9\x00\x00";
    let arguments = [
        ("path", Value::String(b"/caf\xe9")),
        ("headers", Value::Binary(headers)),
    ];
    let answer = peer.ask("tollgate-req", &arguments).await;
    assert_eq!(answer.text("action"), Some("allow"));
    let event = agent.take().remove(0);
    assert!(event.contains(" /caf%E9 "), "{event}");
    assert!(event.ends_with("[(\"a\", \"\u{ff}\u{e9}\")]"), "{event}");
}

#[tokio::test]
async fn denials_become_variables() {
    let block = Decision::Block {
        status: 429,
        body: Some("later".to_owned()),
        headers: Some(HashMap::from([("Retry-After".to_owned(), "7".to_owned())])),
    };
    let audit = AuditMetadata {
        rule_ids: vec!["r1".to_owned(), "r2".to_owned()],
        tags: vec!["t".to_owned()],
        reason_codes: vec!["a".to_owned(), "b".to_owned()],
        confidence: Some(0.5),
        ..AuditMetadata::default()
    };
    let answer = answer_for(AgentResponse::decided(block).with_audit(audit)).await;
    is_denied(&answer, 429, "a,b");
    for (name, value) in [
        ("body", "later"),
        ("ruleid", "r1"),
        ("rules", "r1,r2"),
        ("tags", "t"),
        ("confidence", "0.5"),
        ("deny_set_retry_after", "7"),
    ] {
        assert_eq!(answer.text(name), Some(value), "{name}");
    }
    assert_eq!(
        answer.bytes("deny_set"),
        Some(&b"\x0bretry-after\x017\0\0"[..])
    );

    let redirect = answer_for(AgentResponse::redirect("/login".to_owned(), 307)).await;
    assert_eq!(redirect.text("action"), Some("redirect"));
    assert_eq!(redirect.number("status"), Some(307));
    assert_eq!(redirect.text("data"), Some("/login"));

    let challenge = answer_for(AgentResponse::decided(Decision::Challenge {
        challenge_type: "Bearer".to_owned(),
        params: HashMap::from([("realm".to_owned(), "x".to_owned())]),
    }))
    .await;
    assert_eq!(challenge.number("status"), Some(401));
    assert_eq!(challenge.text("authenticate"), Some("Bearer realm=\"x\""));

    let cookie = |value: &str| HeaderOp::Add {
        name: "Set-Cookie".to_owned(),
        value: value.to_owned(),
    };
    let mut repeated = AgentResponse::block(401, None);
    repeated.response_headers = ["a", "b"].map(cookie).to_vec();
    for scheme in ["Basic", "Bearer"] {
        repeated.response_headers.push(HeaderOp::Add {
            name: "www-authenticate".to_owned(),
            value: scheme.to_owned(),
        });
    }
    let repeated = answer_for(repeated).await;
    for (name, value) in [
        ("deny_set_set_cookie", "a"),
        ("deny_add2_set_cookie", "b"),
        ("authenticate", "Basic"),
        ("deny_add2_www_authenticate", "Bearer"),
        ("deny_set", "\nset-cookie\u{1}a\0\0"),
    ] {
        assert_eq!(repeated.text(name), Some(value), "{name}");
    }
    let added = repeated.bytes("deny_add").expect("list");
    for pair in [
        &b"\x0aset-cookie\x01b"[..],
        b"\x10www-authenticate\x06Bearer",
    ] {
        assert!(added.windows(pair.len()).any(|it| it == pair), "{added:?}");
    }
    assert!(added.ends_with(b"\0\0"));

    // A status that no response with a body has.
    let odd = answer_for(AgentResponse::block(204, None)).await;
    assert_eq!(odd.number("status"), Some(403));
    let split = answer_for(AgentResponse::redirect("/\r\nx: y".to_owned(), 302)).await;
    assert_eq!(
        (split.text("action"), split.number("status")),
        (Some("deny"), Some(502))
    );
}

#[tokio::test]
async fn header_changes_are_lists_and_named_variables() {
    let op = |name: &str, value: &str| HeaderOp::Set {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let response = AgentResponse::default_allow()
        .add_request_header(op("X-User", "7"))
        .add_request_header(HeaderOp::Remove {
            name: "authorization".to_owned(),
        })
        .add_response_header(HeaderOp::Add {
            name: "x-rule".to_owned(),
            value: "a".to_owned(),
        });
    let answer = answer_for(response).await;
    assert_eq!(answer.text("action"), Some("allow"));
    assert_eq!(answer.bytes("req_set"), Some(&b"\x06x-user\x017\0\0"[..]));
    assert_eq!(answer.bytes("req_del"), Some(&b"\x0dauthorization\0"[..]));
    assert_eq!(answer.bytes("req_add"), None);
    assert_eq!(answer.text("req_set_x_user"), Some("7"));
    assert_eq!(
        answer.0.get("req_del_authorization"),
        Some(&Variable::Bool(true))
    );
    assert_eq!(answer.text("req_ops"), Some("set x-user,del authorization"));
    assert_eq!(answer.bytes("res_add"), Some(&b"\x06x-rule\x01a\0\0"[..]));
    assert_eq!(answer.text("res_add_x_rule"), Some("a"));

    let add = |value: usize| HeaderOp::Add {
        name: "x-tag".to_owned(),
        value: value.to_string(),
    };
    for (count, ops) in [(4, "add4 x-tag"), (5, "add-all x-tag")] {
        let mut response = AgentResponse::default_allow();
        response.request_headers = (1..=count).map(add).collect();
        let answer = answer_for(response).await;
        assert_eq!(answer.text("req_ops"), Some(ops));
        for (name, value) in [("req_add_x_tag", "1"), ("req_add4_x_tag", "4")] {
            assert_eq!(answer.text(name), Some(value), "{name}");
        }
    }

    for name in ["content-length", "expect", "a b"] {
        let response = AgentResponse::default_allow().add_request_header(op(name, "1"));
        is_denied(&answer_for(response).await, 500, "invalid_header_change");
    }
}

#[tokio::test]
async fn bodies_are_judged_if_all_of_them_is_shown() {
    let agent = Recorder::new(&BODY);
    let server = Server::start(agent.clone()).await;
    let mut peer = server.connect().await;
    let large = vec![b'x'; 60_000];
    let whole = [
        ("id", Value::from("r-1")),
        ("body", Value::Binary(&large)),
        ("body-len", Value::Int64(60_000)),
        ("body-size", Value::Int64(60_000)),
    ];
    let answer = peer.ask("tollgate-req-body", &whole).await;
    assert_eq!(answer.text("action"), Some("allow"));
    assert!(agent.take()[1].ends_with("x true Some(60000)"));

    for (len, size) in [(3, 4), (4, 4), (3, 1 << 40)] {
        let cut = [
            ("body", Value::Binary(b"abc")),
            ("body-len", Value::Int64(len)),
            ("body-size", Value::Int64(size)),
        ];
        is_denied(
            &peer.ask("tollgate-req-body", &cut).await,
            413,
            "partial_body",
        );
        assert_eq!(agent.take().len(), 1);
    }
    let hidden = [
        ("body-len", Value::Int64(9)),
        ("body-size", Value::Int64(9)),
    ];
    is_denied(
        &peer.ask("tollgate-req", &hidden).await,
        413,
        "partial_body",
    );
    server.stopped().await;

    // An agent that does not look at bodies is not asked about them.
    let server = Server::start(Recorder::new(&HEAD)).await;
    let answer = server.connect().await.ask("tollgate-req", &hidden).await;
    assert_eq!(answer.text("action"), Some("allow"));
}

#[tokio::test]
async fn part_of_a_body_will_do_if_the_agent_says_so() {
    let agent = Recorder::new(&BODY);
    let settings = SpopSettings::default().partial_bodies(PartialBodies::Judge);
    let server = Server::with(agent.clone(), settings, |server| server).await;
    let mut peer = server.connect().await;
    let cut = [
        ("body", Value::Binary(b"abc")),
        ("body-len", Value::Int64(3)),
        ("body-size", Value::Int64(9)),
    ];
    let answer = peer.ask("tollgate-req-body", &cut).await;
    assert_eq!(answer.text("action"), Some("allow"));
    assert_eq!(agent.take()[1], "chunk abc false Some(9)");
}

#[tokio::test]
async fn what_haproxy_cannot_do_denies() {
    let whole = [
        ("body", Value::Binary(b"abc")),
        ("body-len", Value::Int64(3)),
        ("body-size", Value::Int64(3)),
    ];
    let more = AgentResponse::needs_more_data();
    let changed = |mutation| AgentResponse::default_allow().with_request_body_mutation(mutation);
    for (chunk, reason) in [
        (more.clone(), "needs_more_impossible"),
        (
            changed(BodyMutation::replace(0, "x")),
            "body_change_impossible",
        ),
        (
            changed(BodyMutation::drop_chunk(0)),
            "body_change_impossible",
        ),
    ] {
        let agent = Recorder {
            head: Some(more.clone()),
            chunk: Some(chunk),
            ..Recorder::new(&BODY)
        };
        let server = Server::start(agent).await;
        let answer = server
            .connect()
            .await
            .ask("tollgate-req-body", &whole)
            .await;
        is_denied(&answer, 500, reason);
    }
    let agent = Recorder {
        head: Some(more),
        chunk: Some(changed(BodyMutation::pass_through(0))),
        ..Recorder::new(&BODY)
    };
    let server = Server::start(agent.clone()).await;
    let mut peer = server.connect().await;
    let answer = peer.ask("tollgate-req-body", &whole).await;
    assert_eq!(answer.text("action"), Some("allow"));
    agent.take();
    // An agent that wants a body is told that there is none.
    let answer = peer
        .ask("tollgate-req", &[("body-size", Value::Int64(0))])
        .await;
    assert_eq!(answer.text("action"), Some("allow"));
    assert_eq!(agent.take()[1], "chunk  true None");
}

#[tokio::test]
async fn response_is_judged_and_the_exchange_completed_once() {
    let events = [
        EventType::RequestHeaders,
        EventType::ResponseHeaders,
        EventType::RequestComplete,
    ];
    let agent = Recorder {
        response: Some(AgentResponse::block(404, Some("hidden".to_owned()))),
        ..Recorder::new(&events)
    };
    let server = Server::start(agent.clone()).await;
    let mut peer = server.connect().await;
    assert_eq!(ask_path(&mut peer, "/").await.text("action"), Some("allow"));
    assert_eq!(agent.take().len(), 1);
    let arguments = [
        ("id", Value::from("r-1")),
        ("status", Value::Int64(200)),
        ("method", Value::from("GET")),
        ("path", Value::from("/a")),
    ];
    let answer = peer.ask("tollgate-res", &arguments).await;
    assert_eq!(answer.text("res_action"), Some("deny"));
    assert_eq!(answer.number("res_status"), Some(404));
    assert_eq!(answer.text("body"), Some("hidden"));
    assert_eq!(answer.text("action"), None);
    // The next answer comes after the end of this exchange was told.
    ask_path(&mut peer, "/").await;
    let events = agent.take();
    let expected = ["recalled GET /a", "response r-1 200", "complete r-1 404"];
    assert_eq!(events[..3], expected);
    let missing = peer
        .ask("tollgate-res", &[("id", Value::from("r-1"))])
        .await;
    assert_eq!(missing.text("res_action"), Some("deny"));
    assert_eq!(missing.number("res_status"), Some(500));
}

#[tokio::test]
async fn denied_request_is_complete() {
    let agent = Recorder {
        head: Some(AgentResponse::block(403, None)),
        ..Recorder::new(&[EventType::RequestHeaders, EventType::RequestComplete])
    };
    let server = Server::start(agent.clone()).await;
    let mut peer = server.connect().await;
    ask_path(&mut peer, "/").await;
    ask_path(&mut peer, "/").await;
    let events = agent.take();
    assert_eq!(events[1], "complete r-1 403");
    let completed = events.iter().filter(|event| event.starts_with("complete"));
    assert!((1..=2).contains(&completed.count()), "{events:?}");
}

#[tokio::test]
async fn messages_that_lack_what_is_needed_are_denied() {
    let settings = SpopSettings::default()
        .require(Needed::RequestHeaders)
        .require(Needed::RequestBody);
    let server = Server::with(Recorder::new(&BODY), settings, |server| server).await;
    let mut peer = server.connect().await;
    let path = ("path", Value::from("/"));
    is_denied(
        &peer.ask("tollgate-req", &[path]).await,
        500,
        "missing_argument",
    );
    let null = [path, ("headers", Value::Null)];
    is_denied(
        &peer.ask("tollgate-req", &null).await,
        500,
        "missing_argument",
    );
    // The headers say that there is no body.
    let answer = ask_path(&mut peer, "/").await;
    assert_eq!(answer.text("action"), Some("allow"));
}

#[tokio::test]
async fn denying_message_outweighs_the_others() {
    let agent = Recorder::new(&HEAD);
    let settings = SpopSettings::default().request_message("mine");
    let server = Server::with(agent.clone(), settings, |server| server).await;
    let mut peer = server.connect().await;
    let good = [("path", Value::from("/a"))];
    let bad = [("path", Value::Int64(1))];
    let question = |name, arguments| Question { name, arguments };
    let both = [
        question("mine", &good[..]),
        question("tollgate-req", &good[..]),
    ];
    assert_eq!(peer.ask_all(&both).await.text("action"), Some("allow"));
    assert_eq!(agent.take().len(), 2);
    for messages in [
        [
            question("mine", &good[..]),
            question("tollgate-req", &bad[..]),
        ],
        [
            question("mine", &bad[..]),
            question("tollgate-req", &good[..]),
        ],
    ] {
        is_denied(&peer.ask_all(&messages).await, 500, "invalid_argument");
    }
    let unknown = [question("mine", &good[..]), question("other", &good[..])];
    is_denied(&peer.ask_all(&unknown).await, 500, "unknown_message");
}

#[tokio::test]
async fn other_agents_names_are_understood() {
    let agent = Recorder {
        head: Some(AgentResponse::block(403, None)),
        response: Some(AgentResponse::block(404, None)),
        ..Recorder::new(&[EventType::RequestHeaders, EventType::ResponseHeaders])
    };
    let settings = SpopSettings::default().dialect(Dialect::Coraza);
    let server = Server::with(agent.clone(), settings, |server| server).await;
    let mut peer = server.connect().await;
    let headers = Value::from("host: a.test\r\n\r\n");
    let request = [
        ("app", Value::from("sample_app")),
        ("path", Value::from("/")),
        ("headers", headers),
        ("body", Value::Binary(b"")),
    ];
    let answer = peer.ask("coraza-req", &request).await;
    assert_eq!(
        (answer.text("action"), answer.number("status")),
        (Some("deny"), Some(403))
    );
    let response = [("status", Value::Int64(200)), ("headers", headers)];
    let answer = peer.ask("coraza-res", &response).await;
    assert_eq!(
        (answer.text("action"), answer.number("status")),
        (Some("deny"), Some(404))
    );
    assert_eq!(answer.text("res_action"), Some("deny"));

    for (head, remediation) in [(agent.head.clone(), "ban"), (None, "allow")] {
        let agent = Recorder {
            head,
            ..Recorder::new(&HEAD)
        };
        let settings = SpopSettings::default().dialect(Dialect::Crowdsec);
        let server = Server::with(agent, settings, |server| server).await;
        let answer = server
            .connect()
            .await
            .ask("crowdsec-http-no-body", &request)
            .await;
        assert_eq!(answer.text("remediation"), Some(remediation));
    }
}
