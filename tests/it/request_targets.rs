//! Paths, queries and hosts of requests: all spellings of a resource have one path.

use crate::common::request;
use proptest::prelude::*;
use std::borrow::Cow;
use tollgate::events::normal_path;
use tollgate::{HeaderSource, Metadata, RequestHeaders};

fn head<'a>(
    method: &'a str,
    uri: &'a str,
    headers: &'a [(&'a str, &'a str)],
) -> RequestHeaders<'a, &'a [(&'a str, &'a str)]> {
    RequestHeaders {
        metadata: Metadata::default(),
        method,
        uri,
        headers,
    }
}

fn get(uri: &str) -> RequestHeaders<'_, &[(&str, &str)]> {
    head("GET", uri, &[])
}

fn host_of(event: &RequestHeaders<'_, impl HeaderSource>) -> Option<String> {
    event.host().map(Cow::into_owned)
}

#[test]
fn spellings_of_a_path_are_equal() {
    for spelling in [
        "/admin",
        "//admin",
        "///admin",
        "/./admin",
        "/x/../admin",
        "/x/y/../../admin",
        "/../../admin",
        "/%61dmin",
        "/%61%64%6D%69%6e",
        "/x/%2e%2e/admin",
        "/x/.%2E/admin",
        "/x//../admin",
        "http://a.test/admin",
        "HTTP://a.test/admin",
        "http://user:pass@a.test:80/x/../admin",
        "http://a.test//admin",
        "/admin?x=/../y",
        "/admin#x",
        "admin",
    ] {
        assert_eq!(get(spelling).path(), "/admin", "{spelling}");
        assert_eq!(request("c-1", spelling).path(), "/admin", "{spelling}");
    }
}

#[test]
fn every_part_of_a_path_is_treated_as_documented() {
    for (spelling, path) in [
        ("/a%2fb", "/a%2Fb"),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%5cb", "/a%5Cb"),
        ("/a\\b", "/a%5Cb"),
        ("/a%00b", "/a%00b"),
        ("/a b", "/a%20b"),
        ("/é", "/%C3%A9"),
        ("/%c3%a9", "/%C3%A9"),
        ("/100%", "/100%25"),
        ("/%g1", "/%25g1"),
        ("/%4", "/%254"),
        ("/%é", "/%25%C3%A9"),
        ("/%2561", "/%2561"),
        ("/%%361", "/%2561"),
        ("/a;x=1", "/a;x=1"),
        ("/..;/admin", "/..;/admin"),
        ("/%3a", "/%3A"),
        ("/:", "/:"),
        ("/%7euser", "/~user"),
        ("/a/", "/a/"),
        ("/a//", "/a/"),
        ("/a/.", "/a/"),
        ("/a/b/..", "/a/"),
        ("/a/..", "/"),
        ("/..", "/"),
        ("/...", "/..."),
        ("/.a", "/.a"),
        ("/Admin", "/Admin"),
        ("http://a.test", "/"),
        ("http://a.test?x", "/"),
        ("http://a.test#x", "/"),
        ("a+b.c-1://a.test/x", "/x"),
        ("1a://x", "/1a:/x"),
        ("?x", ""),
        ("", ""),
        ("*", "*"),
    ] {
        assert_eq!(get(spelling).path(), path, "{spelling}");
    }
}

#[test]
fn connect_has_a_host_and_no_path() {
    let event = head("CONNECT", "A.test:443", &[("host", "other")]);
    assert_eq!(event.path(), "");
    assert_eq!(event.query(), None);
    assert_eq!(host_of(&event).as_deref(), Some("a.test"));
    let websocket = head("CONNECT", "/%63hat?room=1", &[("host", "a.test")]);
    assert_eq!(websocket.path(), "/chat");
    assert_eq!(websocket.query(), Some("room=1"));
    assert_eq!(host_of(&websocket).as_deref(), Some("a.test"));
}

#[test]
fn query_stays_as_it_is_spelled() {
    for (uri, query) in [
        ("/a?b=%61?c#d", Some("b=%61?c")),
        ("/a?", Some("")),
        ("/a#b?c", None),
        ("http://a.test?x=1", Some("x=1")),
        ("/a", None),
    ] {
        assert_eq!(get(uri).query(), query, "{uri}");
        assert_eq!(request("c-1", uri).query(), query, "{uri}");
    }
}

#[test]
fn host_is_that_of_the_target_then_of_the_header_then_of_the_server() {
    let host = |uri: &str, headers: &[(&str, &str)]| {
        let mut event = head("GET", uri, headers);
        event.metadata.server_name = Some("Server.test");
        host_of(&event)
    };
    let some = |host: &str| Some(host.to_owned());
    let header = [("Host", "Header.test:80")];
    assert_eq!(
        host("http://u:p@Target.test:80/", &header),
        some("target.test")
    );
    assert_eq!(host("/", &header), some("header.test"));
    assert_eq!(host("/", &[]), some("server.test"));
    assert_eq!(host("/", &[("host", "[::1]:80")]), some("[::1]"));
    assert_eq!(host("/", &[("host", "a.test.")]), some("a.test"));
    assert_eq!(host("/", &[("host", "")]), None);
    assert_eq!(host("/", &[("host", "a"), ("HOST", "b")]), None);
    assert_eq!(host("http:///x", &header), None);
    assert_eq!(host_of(&get("/")), None);

    let mut owned = request("c-1", "/");
    owned.headers = [("HOST".to_owned(), vec!["A.test:1".to_owned()])].into();
    assert_eq!(owned.host().as_deref(), Some("a.test"));
}

#[cfg(feature = "http")]
#[test]
fn host_of_bytes_that_are_not_text_is_none() {
    let mut headers = http::HeaderMap::new();
    let value = http::HeaderValue::from_bytes(b"caf\xe9").unwrap();
    headers.insert(http::header::HOST, value);
    let event = RequestHeaders {
        metadata: Metadata::default(),
        method: "GET",
        uri: "/",
        headers: &headers,
    };
    assert_eq!(event.host(), None);
}

/// Pieces of which hostile paths are made.
fn path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "/", "//", ".", "..", "%2e", "%2E", "%2f", "%25", "%", "%4", "%41", "%00", "a", "B",
            ";", ":", "\\", " ", "é", "~", "%%36", "1",
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,3}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// Spells a normal path otherwise: `choices` say how each of its parts is written.
fn respelled(path: &str, choices: &[u8]) -> String {
    let mut choices = choices.iter().copied().cycle();
    let mut spelled = String::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let length = if first == '%' { "%2F".len() } else { 1 };
        let (part, after) = rest.split_at(length);
        rest = after;
        match (first, choices.next().unwrap_or_default() % 4) {
            ('/', 1) => spelled.push_str("//"),
            ('/', 2) => spelled.push_str("/./"),
            ('/', 3) => spelled.push_str("/x/%2e./"),
            ('%', 1) => spelled.push_str(&part.to_ascii_lowercase()),
            ('a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '~', 1) => {
                spelled.push_str(&format!("%{:02x}", u32::from(first)));
            }
            _ => spelled.push_str(part),
        }
    }
    spelled
}

proptest! {
    #[test]
    fn normal_paths_are_normal(path in path()) {
        let normal = normal_path(&path).into_owned();
        prop_assert_eq!(&normal_path(&normal), &normal);
        prop_assert!(matches!(normal_path(&normal), Cow::Borrowed(_)));
        prop_assert!(normal.starts_with('/') && normal.is_ascii());
        let segments: Vec<&str> = normal[1..].split('/').collect();
        let (_, folders) = segments.split_last().unwrap();
        prop_assert!(!folders.contains(&""), "{}", normal);
        for dots in [".", "..", "%2E", "%2e"] {
            prop_assert!(!segments.contains(&dots), "{}", normal);
        }
    }

    #[test]
    fn paths_never_leave_the_root(path in path()) {
        // More folders than the path can leave, so that one is always left.
        let folders = "/folder".repeat(path.matches('/').count() + 1);
        let below = format!("{folders}{path}");
        let normal = normal_path(&below);
        prop_assert!(normal.starts_with("/folder/") || normal == "/folder", "{}", normal);
    }

    #[test]
    fn equal_spellings_are_equal(path in path(), choices in prop::collection::vec(any::<u8>(), 1..8)) {
        let normal = normal_path(&path).into_owned();
        let spelling = respelled(&normal, &choices);
        prop_assert_eq!(&normal_path(&spelling), &normal);
        let absolute = format!("http://a.test{path}");
        if !path.contains(['?', '#']) {
            prop_assert_eq!(&get(&absolute).path(), &normal);
        }
    }

    #[test]
    fn any_target_is_taken_apart(method in "GET|CONNECT|OPTIONS", uri: String) {
        let event = head(&method, &uri, &[]);
        let path = event.path();
        prop_assert!(path.is_empty() || path == "*" || path.starts_with('/'));
        prop_assert!(path.is_ascii());
        let _ = (event.query(), event.host());
    }
}
