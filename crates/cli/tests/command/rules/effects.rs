//! The effects of rules on heads: verdicts, changes of headers, delays, panics and audit.

use super::client::{Client, Head, Side};
use super::{blocking, status};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tollgate::AgentResponse;

/// Returns an answer as it is written in JSON, without what it leaves open.
fn written(answer: &AgentResponse) -> Value {
    let Value::Object(mut fields) = serde_json::to_value(answer).expect("JSON") else {
        panic!("not an object");
    };
    let Value::Object(defaults) =
        serde_json::to_value(AgentResponse::default_allow()).expect("JSON")
    else {
        panic!("not an object");
    };
    fields.retain(|name, value| defaults.get(name) != Some(value));
    if let Some(audit) = fields.get_mut("audit").and_then(Value::as_object_mut) {
        audit.retain(|_, value| ![json!([]), json!({}), json!(null)].contains(value));
    }
    Value::Object(fields)
}

async fn answer_to(on: &str, rule: &str) -> Value {
    let client = Client::new(&format!("[[rule]]\non = '{on}'\n{rule}\n")).await;
    written(&match on {
        "request_headers" => client.request("a", Head::default()).await,
        "request_body" => client.chunk(Side::Request, "a", 0, "x", true).await,
        "response_headers" => client.response("a", &[]).await,
        _ => client.chunk(Side::Response, "a", 0, "x", true).await,
    })
}

const PHASES: [&str; 4] = [
    "request_headers",
    "request_body",
    "response_headers",
    "response_body",
];

#[tokio::test]
async fn every_effect_is_in_the_answer() {
    let set =
        json!([{"set": {"name": "x-a", "value": "1"}}, {"set": {"name": "x-b", "value": ""}}]);
    let mixed = json!([
        {"set": {"name": "s", "value": "1"}},
        {"add": {"name": "a", "value": "2"}},
        {"remove": {"name": "r"}},
    ]);
    let lists = |message: &str| {
        format!(
            "remove_{message}_headers = ['r']\nadd_{message}_headers = [['a', '2']]\n\
             set_{message}_headers = [['s', '1']]"
        )
    };
    let cases = [
        (
            "block = { status = 429, body = 'slow down', headers = [['retry-after', '5']] }"
                .to_owned(),
            json!({"decision": {"block": {
                "status": 429, "body": "slow down", "headers": {"retry-after": "5"}}}}),
        ),
        (
            "block = {}".to_owned(),
            json!({"decision": {"block": {"status": 403, "body": null, "headers": null}}}),
        ),
        (
            "redirect = { url = '/login', status = 307 }".to_owned(),
            json!({"decision": {"redirect": {"url": "/login", "status": 307}}}),
        ),
        (
            "redirect = { url = '/login' }".to_owned(),
            json!({"decision": {"redirect": {"url": "/login", "status": 302}}}),
        ),
        (
            "challenge = { type = 'captcha', params = { site = 'k' } }".to_owned(),
            json!({"decision": {"challenge": {
                "challenge_type": "captcha", "params": {"site": "k"}}}}),
        ),
        (
            "challenge = { type = 'captcha' }".to_owned(),
            json!({"decision": {"challenge": {"challenge_type": "captcha", "params": {}}}}),
        ),
        (
            "set_request_headers = [['x-a', '1'], ['x-b', '']]".to_owned(),
            json!({"request_headers": set}),
        ),
        (
            "set_response_headers = [['x-a', '1'], ['x-b', '']]".to_owned(),
            json!({"response_headers": set}),
        ),
        (lists("request"), json!({"request_headers": mixed})),
        (lists("response"), json!({"response_headers": mixed})),
        (
            "tags = ['t', 'u']\nrule_ids = ['942100']".to_owned(),
            json!({"audit": {"tags": ["t", "u"], "rule_ids": ["942100"]}}),
        ),
    ];
    for on in PHASES {
        for (rule, expected) in &cases {
            assert_eq!(answer_to(on, rule).await, *expected, "{on}: {rule}");
        }
    }
}

#[tokio::test]
async fn operations_keep_their_order_and_go_to_the_message_of_the_phase() {
    let rule = "operations = [['add', 'x', '1'], ['remove', 'x'], ['set', 'x', '2']]\n\
                set_request_headers = [['q', '1']]\nset_response_headers = [['p', '1']]";
    let operations = [
        json!({"add": {"name": "x", "value": "1"}}),
        json!({"remove": {"name": "x"}}),
        json!({"set": {"name": "x", "value": "2"}}),
    ];
    for on in PHASES {
        let answer = answer_to(on, rule).await;
        let with = |name: &str, has_operations: bool| {
            let mut ops = vec![json!({"set": {"name": name, "value": "1"}})];
            if has_operations {
                ops.extend(operations.iter().cloned());
            }
            Value::from(ops)
        };
        let is_request = on.starts_with("request");
        let expected = json!({
            "request_headers": with("q", is_request),
            "response_headers": with("p", !is_request),
        });
        assert_eq!(answer, expected, "{on}");
    }
}

#[tokio::test]
async fn repeated_header_of_a_block_keeps_all_its_values() {
    let rule = "block = { status = 403, headers = [['set-cookie', 'a=1'], ['x', 'y'], \
                ['Set-Cookie', 'b=2'], ['set-cookie', 'c=3']] }";
    let expected = json!({
        "decision": {"block": {
            "status": 403, "body": null, "headers": {"set-cookie": "a=1", "x": "y"}}},
        "response_headers": [
            {"add": {"name": "Set-Cookie", "value": "b=2"}},
            {"add": {"name": "set-cookie", "value": "c=3"}},
        ],
    });
    assert_eq!(answer_to("request_headers", rule).await, expected);
}

#[tokio::test]
async fn changes_add_up_until_the_first_denial() {
    let rule = |lines: &str| format!("[[rule]]\non = 'request_headers'\n{lines}\n");
    let file = [
        rule("set_request_headers = [['a', '1']]\ntags = ['one']"),
        rule("set_response_headers = [['b', '2']]\nrule_ids = ['two']\ntags = ['two']"),
        rule("path = '/denied'\nblock = { status = 418 }\ntags = ['three']"),
        rule("path = '/denied'\nblock = { status = 419 }\ntags = ['four']"),
        rule("set_request_headers = [['a', '5']]\ntags = ['five']"),
    ]
    .concat();
    let client = Client::new(&file).await;
    assert_eq!(
        written(&client.request("a", Head::of("/")).await),
        json!({
            "request_headers": [
                {"set": {"name": "a", "value": "1"}}, {"set": {"name": "a", "value": "5"}}],
            "response_headers": [{"set": {"name": "b", "value": "2"}}],
            "audit": {"tags": ["one", "two", "five"], "rule_ids": ["two"]},
        })
    );
    assert_eq!(
        written(&client.request("b", Head::of("/denied")).await),
        json!({
            "decision": {"block": {"status": 418, "body": null, "headers": null}},
            "response_headers": [{"set": {"name": "b", "value": "2"}}],
            "audit": {"tags": ["one", "two", "three"], "rule_ids": ["two"]},
        })
    );
}

#[tokio::test]
async fn delays_of_rules_add_up_and_apply_only_where_they_hold() {
    let rule = "[[rule]]\non = 'request_headers'\npath = '/slow'\ndelay = '150ms'\n";
    let client = Client::new(&rule.repeat(2)).await;
    let started = Instant::now();
    client.request("a", Head::of("/slow")).await;
    assert!(started.elapsed() >= Duration::from_millis(300));
    // Answered while the other waits, so it does not wait itself.
    let slow = client.request("b", Head::of("/slow"));
    let fast = client.request("c", Head::of("/fast"));
    tokio::select! {
        biased;
        _ = slow => panic!("the fast request waited"),
        _ = fast => {}
    }
}

#[tokio::test]
async fn panic_fails_the_call_and_the_agent_lives_on() {
    let file = "[[rule]]\non = 'request_headers'\npath = '/panic'\npanic = true\n";
    let client = Client::new(file).await;
    let event = tollgate::RequestHeaders {
        metadata: tollgate::Metadata::default(),
        method: "GET",
        uri: "/panic",
        headers: &[("a", "b")][..],
    };
    assert!(client.try_send("a", &event).await.is_err());
    // The pool connects again.
    let deadline = Instant::now() + Duration::from_secs(10);
    let calm = tollgate::RequestHeaders { uri: "/", ..event };
    while client.try_send("b", &calm).await.is_err() {
        assert!(Instant::now() < deadline, "the agent does not answer");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn denied_exchange_is_forgotten() {
    let file = blocking("request_headers", "path = '/denied'")
        + &blocking("response_headers", "method = 'PUT'");
    let client = Client::new(&file).await;
    assert_eq!(status(&client.request("a", Head::of("/denied")).await), 418);
    assert_eq!(status(&client.response("a", &[]).await), 500);
    client.request("b", Head::of("/")).await;
    assert_eq!(status(&client.response("b", &[]).await), 200);
}
