//! HTTP responses that decisions and failures give the client.

use http::Response;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tollgate::proxy::{answer_of, status_of};
use tollgate::{Bytes, CallError, Decision};

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn blocked(
    status: u16,
    body: Option<&str>,
    headers: Option<HashMap<String, String>>,
) -> Response<Bytes> {
    answer_of(&Decision::Block {
        status,
        body: body.map(str::to_owned),
        headers,
    })
    .unwrap()
}

#[test]
fn block_has_status_body_and_valid_headers() {
    let headers = map(&[
        ("X-Rule", "7"),
        ("content-type", "application/json"),
        ("Content-Length", "1000"),
        ("bad name", "x"),
        ("x-split", "a\r\nb: c"),
    ]);
    let answer = blocked(451, Some("{}"), Some(headers));
    assert_eq!(answer.status(), 451);
    assert_eq!(answer.body(), "{}");
    assert_eq!(answer.headers()["x-rule"], "7");
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["content-length"], "2");
    assert_eq!(answer.headers().len(), 3);
}

#[test]
fn block_with_invalid_status_is_403() {
    for status in [0, 99, 101, 103, 204, 205, 304, 600, 999, u16::MAX] {
        let answer = blocked(status, Some("no"), None);
        assert_eq!(answer.status(), 403, "{status}");
        assert_eq!(
            answer.headers()["content-type"],
            "text/plain; charset=utf-8"
        );
    }
    let bare = blocked(429, None, None);
    assert_eq!(bare.headers()["content-length"], "0");
    assert_eq!(bare.headers().len(), 1);
}

#[test]
fn redirect_with_invalid_url_is_502() {
    let redirected = |url: &str, status| {
        answer_of(&Decision::Redirect {
            url: url.to_owned(),
            status,
        })
        .unwrap()
    };
    assert_eq!(redirected("/login", 307).status(), 307);
    assert_eq!(redirected("/login", 200).status(), 302);
    assert_eq!(redirected("/login", 304).status(), 302);
    let split = redirected("/\r\nset-cookie: a=b", 302);
    assert_eq!(split.status(), 502);
    assert!(!split.headers().contains_key("location"));
}

#[test]
fn challenge_is_www_authenticate_or_403() {
    let challenged = |kind: &str, params: &[(&str, &str)]| {
        answer_of(&Decision::Challenge {
            challenge_type: kind.to_owned(),
            params: map(params),
        })
        .unwrap()
    };
    let answer = challenged("Bearer", &[("scope", "a \"b\" \\"), ("realm", "x")]);
    assert_eq!(answer.status(), 401);
    assert_eq!(
        answer.headers()["www-authenticate"],
        r#"Bearer realm="x", scope="a \"b\" \\""#
    );
    assert_eq!(
        challenged("captcha", &[]).headers()["www-authenticate"],
        "captcha"
    );
    for answer in [
        challenged("two words", &[]),
        challenged("x", &[("a b", "c")]),
        challenged("x", &[("a", "\n")]),
    ] {
        assert_eq!(answer.status(), 403);
    }
}

#[test]
fn errors_map_to_http_status() {
    let agent_id: Arc<str> = "waf".into();
    let agent = || Arc::clone(&agent_id);
    let unavailable = CallError::Unavailable { agent_id: agent() };
    let paused = CallError::FlowControlPaused { agent_id: agent() };
    let closed = CallError::ConnectionClosed { agent_id: agent() };
    let removed = CallError::Removed { agent_id: agent() };
    let late = CallError::Timeout {
        agent_id: agent(),
        after: Duration::from_secs(1),
    };
    let large = CallError::MessageTooLarge {
        agent_id: agent(),
        size: 2,
        max: 1,
    };
    let statuses =
        [unavailable, paused, closed, removed, late, large].map(|error| status_of(&error).as_u16());
    assert_eq!(statuses, [503, 503, 503, 500, 504, 413]);
}
