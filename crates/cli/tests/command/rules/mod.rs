//! `tollgate agent --rules`: each key of a rule, as its answers are seen by a proxy.

mod bodies;
mod client;
mod effects;
mod refusals;

use client::{Client, Head, Side};
use tollgate::{AgentResponse, EventType};

/// Returns a rule that blocks with status 418, with these further lines.
fn blocking(on: &str, lines: &str) -> String {
    format!("[[rule]]\non = \"{on}\"\nblock = {{ status = 418 }}\n{lines}\n")
}

fn status(answer: &AgentResponse) -> u16 {
    match answer.decision {
        tollgate::Decision::Allow => 200,
        tollgate::Decision::Block { status, .. } => status,
        ref other => panic!("{other:?}"),
    }
}

/// Checks the statuses of requests under a rule with this condition. 500 is a rule that lacks what
/// it needs.
async fn expect(condition: &str, requests: &[(Head<'_>, u16)]) {
    let client = Client::new(&blocking("request_headers", condition)).await;
    for (index, (head, expected)) in requests.iter().enumerate() {
        let answer = client.request(&format!("r-{index}"), *head).await;
        let uri = head.uri;
        assert_eq!(status(&answer), *expected, "{condition}: {uri}: {answer:?}");
    }
}

#[tokio::test]
async fn path_is_a_prefix_of_the_normal_path() {
    for prefix in ["/admin", "/%61dmin", "//x/../admin"] {
        expect(
            &format!("path = '{prefix}'"),
            &[
                (Head::of("/admin"), 418),
                (Head::of("/admin/users?page=2"), 418),
                (Head::of("/administrator"), 418),
                (Head::of("http://a.test/admin"), 418),
                (Head::of("HTTP://a.test/admin"), 418),
                (Head::of("//admin"), 418),
                (Head::of("/./admin"), 418),
                (Head::of("/x/../admin"), 418),
                (Head::of("/%61dmin"), 418),
                (Head::of("/x/%2e%2e/admin"), 418),
                (Head::of("/"), 200),
                (Head::of("/Admin"), 200),
                (Head::of("/x?/admin"), 200),
                (Head::of("http://admin/"), 200),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn request_without_a_path_fails_where_a_rule_needs_one() {
    let connect = Head {
        method: "CONNECT",
        uri: "a.test:443",
        ..Head::default()
    };
    let options = Head {
        method: "OPTIONS",
        uri: "*",
        ..Head::default()
    };
    let requests = [(connect, 500), (options, 500), (Head::of(""), 500)];
    expect("path = '/admin'", &requests).await;
    // The path is not needed if another condition fails.
    expect("path = '/admin'\nmethod = 'PUT'", &[(connect, 200)]).await;
    expect("method = 'CONNECT'", &[(connect, 418), (options, 200)]).await;
}

#[tokio::test]
async fn method_is_equal() {
    let with = |method| Head {
        method,
        ..Head::default()
    };
    let requests = [(with("POST"), 418), (with("GET"), 200), (with("post"), 200)];
    expect("method = 'POST'", &requests).await;
}

#[tokio::test]
async fn client_is_an_address_or_in_a_network() {
    let from = |client_ip| Head {
        client_ip,
        ..Head::default()
    };
    let mapped = [
        (from("192.0.2.7"), 418),
        (from("::ffff:192.0.2.7"), 418),
        (from("::ffff:c000:207"), 418),
        (from("192.0.3.7"), 200),
        (from("::ffff:192.0.3.7"), 200),
        (from("2001:db8::1"), 200),
        (from(""), 500),
        (from("unknown"), 500),
        (from("192.0.2.7:80"), 500),
    ];
    for network in [
        "192.0.2.7",
        "192.0.2.0/24",
        "192.0.2.7/32",
        "::ffff:192.0.2.7",
        "::ffff:192.0.2.0/120",
    ] {
        expect(&format!("client_ip = '{network}'"), &mapped).await;
    }
    for network in ["2001:db8::1", "2001:db8::/32"] {
        let requests = [
            (from("2001:db8::1"), 418),
            (from("2001:0DB8:0::1"), 418),
            (from("2001:db9::1"), 200),
            (from("192.0.2.7"), 200),
        ];
        expect(&format!("client_ip = '{network}'"), &requests).await;
    }
}

#[tokio::test]
async fn header_is_searched_in_every_value_and_in_any_case() {
    let with = |headers| Head {
        headers,
        ..Head::default()
    };
    expect(
        "header = { name = 'User-Agent', contains = 'sqlMap é' }",
        &[
            (with(&[("user-agent", "sqlmap é")]), 418),
            (with(&[("USER-AGENT", "x SQLMAP É/1.0")]), 418),
            (
                with(&[("user-agent", "curl"), ("User-agent", "sqlmap é")]),
                418,
            ),
            (with(&[("user-agent", "curl")]), 200),
            (with(&[("x-user-agent", "sqlmap é")]), 200),
            (with(&[]), 200),
        ],
    )
    .await;
    let any = "header = { name = 'x', contains = '' }";
    expect(any, &[(with(&[("X", "")]), 418), (with(&[]), 200)]).await;
}

#[tokio::test]
async fn conditions_on_the_request_hold_in_its_later_phases() {
    let conditions = "path = '/a'\nmethod = 'POST'\nclient_ip = '192.0.2.0/24'";
    let post = Head {
        method: "POST",
        ..Head::of("/a")
    };
    for on in ["request_body", "response_headers", "response_body"] {
        let client = Client::new(&blocking(on, conditions)).await;
        let later = async |id: &str| match on {
            "request_body" => client.chunk(Side::Request, id, 0, "x", true).await,
            "response_headers" => client.response(id, &[]).await,
            _ => client.chunk(Side::Response, id, 0, "x", true).await,
        };
        for (id, head, expected) in [
            ("a", post, 418),
            ("b", Head::of("/a"), 200),
            ("c", Head { uri: "/b", ..post }, 200),
            (
                "d",
                Head {
                    client_ip: "",
                    ..post
                },
                500,
            ),
        ] {
            assert_eq!(status(&client.request(id, head).await), 200, "{on} {id}");
            assert_eq!(status(&later(id).await), expected, "{on} {id}");
        }
        let unknown = later("never seen").await;
        assert_eq!(status(&unknown), 500, "{on}");
        let codes = &unknown.audit.reason_codes;
        assert_eq!(*codes, ["agent_error", "unknown_request_headers"]);
    }
}

#[tokio::test]
async fn exchanges_keep_their_own_state() {
    let client = Client::new(&blocking("response_headers", "path = '/a'")).await;
    for id in 0..100 {
        let uri = if id % 3 == 0 { "/a" } else { "/b" };
        client.request(&id.to_string(), Head::of(uri)).await;
    }
    for id in (0..100).rev() {
        let expected = if id % 3 == 0 { 418 } else { 200 };
        let answer = client.response(&id.to_string(), &[]).await;
        assert_eq!(status(&answer), expected, "{id}");
    }
    // An id that is used again stands for another exchange.
    client.request("0", Head::of("/b")).await;
    assert_eq!(status(&client.response("0", &[]).await), 200);
}

#[tokio::test]
async fn header_of_a_response_rule_is_that_of_the_response() {
    let condition = "header = { name = 'x', contains = 'leak' }";
    let head = Head {
        headers: &[("x", "leak")],
        ..Head::default()
    };
    let client = Client::new(&blocking("response_headers", condition)).await;
    client.request("a", head).await;
    assert_eq!(status(&client.response("a", &[("X", "ok")]).await), 200);
    assert_eq!(status(&client.response("b", &[("X", "LEAK")]).await), 418);

    let client = Client::new(&blocking("response_body", condition)).await;
    for (id, value, expected) in [("a", "no", 200), ("b", "a leak", 418)] {
        client.response(id, &[("x", value)]).await;
        let answer = client.chunk(Side::Response, id, 0, "", true).await;
        assert_eq!(status(&answer), expected);
    }
    let unknown = client.chunk(Side::Response, "c", 0, "", true).await;
    assert_eq!(status(&unknown), 500);

    let client = Client::new(&blocking("request_body", condition)).await;
    client.request("a", head).await;
    let answer = client.chunk(Side::Request, "a", 0, "", true).await;
    assert_eq!(status(&answer), 418);
}

#[tokio::test]
async fn agent_subscribes_to_what_its_rules_look_at() {
    use EventType::{RequestBodyChunk, RequestHeaders, ResponseBodyChunk, ResponseHeaders};
    let rule = |on: &str, more: &str| format!("[[rule]]\non = '{on}'\n{more}\n");
    let header = "header = { name = 'a', contains = 'b' }";
    let cases: [(String, &[EventType]); 13] = [
        (String::new(), &[]),
        (rule("request_headers", ""), &[RequestHeaders]),
        (rule("request_body", ""), &[RequestBodyChunk]),
        (rule("response_headers", ""), &[ResponseHeaders]),
        (rule("response_body", ""), &[ResponseBodyChunk]),
        (
            rule("request_body", "path = '/a'"),
            &[RequestHeaders, RequestBodyChunk],
        ),
        (
            rule("request_body", header),
            &[RequestHeaders, RequestBodyChunk],
        ),
        (rule("response_headers", header), &[ResponseHeaders]),
        (
            rule("response_headers", "method = 'GET'"),
            &[RequestHeaders, ResponseHeaders],
        ),
        (
            rule("response_body", "client_ip = '::1'"),
            &[RequestHeaders, ResponseBodyChunk],
        ),
        (
            rule("response_body", header),
            &[ResponseHeaders, ResponseBodyChunk],
        ),
        (
            rule("request_headers", "hold = true"),
            &[RequestHeaders, RequestBodyChunk],
        ),
        (
            rule("response_headers", "") + &rule("request_body", ""),
            &[RequestBodyChunk, ResponseHeaders],
        ),
    ];
    for (rules, events) in cases {
        assert_eq!(Client::new(&rules).await.events(), events, "{rules}");
    }
    let client = Client::with_options("", &["--block-body", "x"]).await;
    assert_eq!(client.events(), [RequestBodyChunk, ResponseBodyChunk]);
}

#[tokio::test]
async fn short_forms_stand_around_the_file() {
    let file = "[[rule]]\non = 'request_headers'\nadd_request_headers = [['a', '1']]\n";
    let options = ["--block-path", "/admin", "--set-request-header", "b=2"];
    let client = Client::with_options(file, &options).await;
    let denied = client.request("a", Head::of("//admin")).await;
    assert_eq!(status(&denied), 403);
    assert_eq!(denied.audit.reason_codes, ["blocked_path"]);
    assert_eq!(denied.request_headers, []);
    let allowed = client.request("b", Head::of("/")).await;
    let names: Vec<String> = allowed
        .request_headers
        .iter()
        .map(|op| format!("{op:?}"))
        .collect();
    assert!(
        names[0].contains("Add") && names[1].contains("Set"),
        "{names:?}"
    );
}

#[tokio::test]
async fn documented_file_works() {
    let file = include_str!("../../../../../examples/rules.toml");
    let documented = include_str!("../../../../../docs/command.md");
    assert!(documented.contains(&format!("```toml\n{file}```")));
    let client = Client::new(file).await;
    assert_eq!(client.events(), EventType::ALL[..4]);
    let denied = client.request("a", Head::of("/x/../%61dmin")).await;
    assert_eq!(
        (status(&denied), &*denied.audit.rule_ids),
        (403, &["admin".to_owned()][..])
    );
    let moved = client.request("b", Head::of("/old")).await;
    assert_eq!(moved.decision.as_str(), "redirect");
    client.request("c", Head::of("/upload")).await;
    let answers = client.body(Side::Request, "c", &["x' OR '1'", "='1"]).await;
    assert_eq!((answers[0].needs_more, status(&answers[1])), (true, 403));
    client.request("d", Head::of("/static/app.js")).await;
    let changed = client.response("d", &[("x-test", "")]).await;
    assert_eq!(changed.response_headers.len(), 6);
    let answers = client.body(Side::Response, "d", &["hello"]).await;
    assert_eq!(answers[0].response_body_mutation, None);
}

#[cfg(feature = "grpc")]
#[tokio::test]
async fn rules_are_the_same_over_every_listener() {
    let file = blocking("request_headers", "path = '/admin'")
        + &blocking("response_body", "body_contains = 'secret'\npath = '/'");
    for endpoint in ["grpc://127.0.0.1:0", "tcp://127.0.0.1:0"] {
        let client = Client::at(endpoint, &file).await;
        assert_eq!(status(&client.request("a", Head::of("//admin")).await), 418);
        client.request("b", Head::of("/")).await;
        let answers = client.body(Side::Response, "b", &["a sec", "ret"]).await;
        let statuses: Vec<u16> = answers.iter().map(status).collect();
        assert_eq!(statuses, [200, 418], "{endpoint}");
    }
}
