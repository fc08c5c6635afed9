use super::*;
use http::Request;

fn parts(method: &str, target: &str, version: Version, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .version(version);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn normal(target: &str, version: Version, headers: &[(&str, &str)]) -> Result<Parts, BadRequest> {
    let mut head = parts("GET", target, version, headers);
    normalise(&mut head, PathForm::Normal).map(|()| head)
}

fn all<'a>(head: &'a Parts, name: &str) -> Vec<&'a str> {
    let values = head.headers.get_all(name).iter();
    values.map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn host_is_that_of_the_target() {
    let h2 = normal("http://a.test/x", Version::HTTP_2, &[]).unwrap();
    assert_eq!(
        (all(&h2, "host"), h2.uri.to_string()),
        (vec!["a.test"], "/x".to_owned())
    );
    let same = normal("http://a.test/", Version::HTTP_2, &[("host", "A.test")]).unwrap();
    assert_eq!(all(&same, "host"), ["a.test"]);
    let absolute = normal("http://a.test?q", Version::HTTP_11, &[("host", "b.test")]).unwrap();
    assert_eq!(
        (all(&absolute, "host"), absolute.uri.to_string()),
        (vec!["a.test"], "/?q".to_owned())
    );
    assert!(normal("/", Version::HTTP_10, &[]).is_ok());
}

#[test]
fn hosts_that_servers_take_for_different_ones_are_refused() {
    for (target, version, hosts) in [
        ("/", Version::HTTP_11, &[][..]),
        ("/", Version::HTTP_11, &["a.test", "b.test"]),
        ("/", Version::HTTP_11, &["a.test", "a.test"]),
        ("/", Version::HTTP_11, &["a.test, b.test"]),
        ("/", Version::HTTP_11, &["a.test/x"]),
        ("/", Version::HTTP_11, &["user@a.test"]),
        ("/", Version::HTTP_11, &[""]),
        ("http://a.test/", Version::HTTP_2, &["b.test"]),
        ("http://user@a.test/", Version::HTTP_2, &[]),
    ] {
        let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        let refused = normal(target, version, &headers).map(drop);
        assert_eq!(refused, Err(BadRequest::Host), "{target} {hosts:?}");
    }
}

#[test]
fn path_has_one_spelling_unless_another_form_is_chosen() {
    let host = [("host", "a.test")];
    for spelling in ["//admin?a=//", "/./admin?a=//", "/x/%2e%2e/%61dmin?a=//"] {
        let head = normal(spelling, Version::HTTP_11, &host).unwrap();
        assert_eq!(head.uri.to_string(), "/admin?a=//");
    }
    let mut head = parts("GET", "http://a.test//x/../y", Version::HTTP_11, &host);
    normalise(&mut head, PathForm::AsReceived).unwrap();
    assert_eq!(head.uri.to_string(), "//x/../y");
    let mut head = parts("OPTIONS", "*", Version::HTTP_11, &host);
    normalise(&mut head, PathForm::Normal).unwrap();
    assert_eq!(head.uri.to_string(), "*");
}

#[test]
fn cookies_are_one_header() {
    let crumbs = [
        ("host", "a"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("cookie", "c=3"),
    ];
    let head = normal("/", Version::HTTP_11, &crumbs).unwrap();
    assert_eq!(all(&head, "cookie"), ["a=1; b=2; c=3"]);
}

#[test]
fn headers_of_the_connection_end_here() {
    let sent = [
        ("host", "a"),
        ("connection", "close, X-User"),
        ("connection", "host, content-length, keep-alive"),
        ("x-user", "root"),
        ("content-length", "0"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
    ];
    let head = normal("/", Version::HTTP_11, &sent).unwrap();
    let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["connection", "content-length", "host"]);
    assert_eq!(all(&head, "connection"), ["close"]);
    let odd = normal(
        "/",
        Version::HTTP_11,
        &[("host", "a"), ("connection", "a b")],
    );
    assert_eq!(odd.map(drop), Err(BadRequest::Connection));
}

#[test]
fn only_websocket_may_be_upgraded_to() {
    let offer = [
        ("host", "a"),
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];
    let head = normal("/", Version::HTTP_11, &offer).unwrap();
    assert_eq!(
        (all(&head, "connection"), all(&head, "upgrade")),
        (vec!["upgrade"], vec!["websocket"])
    );
    assert!(is_websocket(&head));
    assert!(!is_websocket(
        &normal("/", Version::HTTP_10, &offer).unwrap()
    ));
}

#[test]
fn offers_beside_websocket_are_dropped() {
    let offer = [
        ("host", "a"),
        ("connection", "upgrade, http2-settings"),
        ("http2-settings", "AAMAAABkAAQAAP__"),
        ("upgrade", "websocket, h2c"),
        ("upgrade", "foo/2"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];
    let head = normal("/", Version::HTTP_11, &offer).unwrap();
    assert_eq!(all(&head, "upgrade"), ["websocket"]);
    assert!(is_websocket(&head));
}

#[test]
fn request_without_the_headers_of_websocket_is_not_upgraded() {
    for named in ["sec-websocket-version", "Sec-WebSocket-Key"] {
        let connection = format!("upgrade, {named}");
        let offer = [
            ("host", "a"),
            ("connection", &*connection),
            ("upgrade", "websocket"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ];
        let head = normal("/", Version::HTTP_11, &offer).unwrap();
        assert!(!head.headers.contains_key(UPGRADE), "{named}");
        assert!(!head.headers.contains_key(CONNECTION), "{named}");
    }
}

#[test]
fn response_has_no_headers_of_the_connection() {
    let mut head = HeaderMap::new();
    for (name, value) in [
        ("keep-alive", "timeout=5"),
        ("upgrade", "h2c"),
        ("x-a", "1"),
    ] {
        head.insert(name, HeaderValue::from_static(value));
    }
    normalise_response(&mut head).unwrap();
    let names: Vec<_> = head.keys().map(HeaderName::as_str).collect();
    assert_eq!(names, ["x-a"]);
}

#[test]
fn response_has_one_length() {
    let normal = |sent: &[(&'static str, &'static str)]| {
        let mut head = HeaderMap::new();
        for (name, value) in sent {
            head.append(*name, HeaderValue::from_static(value));
        }
        normalise_response(&mut head)?;
        let length = head.get("content-length").cloned();
        Ok::<_, BadRequest>(length.map(|length| length.to_str().unwrap().to_owned()))
    };
    let both = [("content-length", "3"), ("transfer-encoding", "chunked")];
    assert_eq!(normal(&both), Ok(None));
    let twice = [("content-length", "5"), ("content-length", "5")];
    assert_eq!(normal(&twice), Ok(Some("5".to_owned())));
    for refused in [
        ("content-length", "5, 5"),
        ("transfer-encoding", "gzip, chunked"),
        ("transfer-encoding", "identity"),
    ] {
        assert_eq!(normal(&[refused]), Err(BadRequest::Framing), "{refused:?}");
    }
}

#[test]
fn authority_alone_is_no_target() {
    let host = [("host", "a.test")];
    let refused = normal("b.test:80", Version::HTTP_11, &host).map(drop);
    assert_eq!(refused, Err(BadRequest::Target));
    let mut connect = parts("CONNECT", "b.test:80", Version::HTTP_11, &host);
    assert_eq!(normalise(&mut connect, PathForm::Normal), Ok(()));
}

#[test]
fn length_is_one_number() {
    for (sent, forwarded) in [
        (&["7"][..], "7"),
        (&["0"], "0"),
        (&["7", "7"], "7"),
        (&["007"], "7"),
        (&["00"], "0"),
    ] {
        let lengths = sent.iter().map(|length| ("content-length", *length));
        let headers: Vec<_> = [("host", "a")].into_iter().chain(lengths).collect();
        let head = normal("/", Version::HTTP_11, &headers).unwrap();
        assert_eq!(all(&head, "content-length"), [forwarded], "{sent:?}");
    }
    for sent in [
        &["7", "8"][..],
        &["7", "07"],
        &["7, 7"],
        &["+7"],
        &[""],
        &["0x7"],
    ] {
        let lengths = sent.iter().map(|length| ("content-length", *length));
        let headers: Vec<_> = [("host", "a")].into_iter().chain(lengths).collect();
        let refused = normal("/", Version::HTTP_11, &headers).map(drop);
        assert_eq!(refused, Err(BadRequest::Framing), "{sent:?}");
    }
    let long = [("host", "a"), ("content-length", "099999999999999999999")];
    let refused = normal("/", Version::HTTP_11, &long).map(drop);
    assert_eq!(refused, Err(BadRequest::Framing));
}

#[test]
fn framing_is_unambiguous() {
    for sent in [
        &[("transfer-encoding", "chunked"), ("content-length", "1")][..],
        &[("transfer-encoding", "gzip, chunked")],
        &[
            ("transfer-encoding", "chunked"),
            ("transfer-encoding", "chunked"),
        ],
        &[("transfer-encoding", "xchunked")],
    ] {
        let headers = [&[("host", "a")], sent].concat();
        let refused = normal("/", Version::HTTP_11, &headers).map(drop);
        assert_eq!(refused, Err(BadRequest::Framing), "{sent:?}");
    }
    let old = [("host", "a"), ("transfer-encoding", "chunked")];
    assert_eq!(
        normal("/", Version::HTTP_10, &old).map(drop),
        Err(BadRequest::Framing)
    );
}
