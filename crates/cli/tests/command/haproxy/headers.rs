//! Headers that agents set: of requests, of responses and of denials.

use super::proxy::{Proxy, takes_header_lists};

#[test]
fn repeated_headers_come_through() {
    let rules = r#"
[[rule]]
on = "request_headers"
path = "/admin"
block = { status = 403, headers = [["set-cookie", "a=1"], ["Set-Cookie", "b=2"], ["x-a", "c"]] }

[[rule]]
on = "request_headers"
set_request_headers = [["x-tag", "a"]]
add_request_headers = [["x-tag", "b"], ["x-tag", "c"]]
add_response_headers = [["x-rule", "1"], ["x-rule", "2"]]

[[rule]]
on = "response_headers"
path = "/hidden"
block = { status = 404, headers = [["set-cookie", "c=3"], ["set-cookie", "d=4"]] }

[[rule]]
on = "response_headers"
add_response_headers = [["x-rule", "3"]]
"#;
    let proxy = Proxy::start(rules, &[]);
    let denied = proxy.get("/admin");
    assert_eq!(denied.status, 403);
    assert_eq!(denied.headers("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(denied.headers("x-a"), ["c"]);
    let denied = proxy.get("/hidden");
    assert_eq!(denied.status, 404);
    assert_eq!(denied.headers("set-cookie"), ["c=3", "d=4"]);
    let allowed = proxy.get("/ok");
    assert_eq!(allowed.status, 200);
    let tags = allowed.body.lines();
    let tags: Vec<&str> = tags
        .filter_map(|line| line.strip_prefix("x-tag: "))
        .collect();
    assert_eq!(tags, ["a", "b", "c"]);
    assert_eq!(allowed.headers("x-rule"), ["1", "2", "3"]);
}

/// Checks that a request with changed headers has these lines where HAProxy can make any change,
/// and is refused elsewhere.
fn is_changed_or_refused(proxy: &Proxy, lines: &[&str]) {
    let answer = proxy.get("/");
    if !takes_header_lists() {
        let refused = (500, "unknown header change");
        return assert_eq!((answer.status, &*answer.body), refused);
    }
    assert_eq!(answer.status, 200);
    for line in lines {
        assert!(answer.body.contains(&format!("{line}\r\n")), "{answer:?}");
    }
}

#[test]
fn more_values_than_the_configuration_knows_are_refused() {
    let rules = "[[rule]]\non = 'request_headers'\nadd_request_headers = [['x-tag', '1'], \
                 ['x-tag', '2'], ['x-tag', '3'], ['x-tag', '4'], ['x-tag', '5']]\n";
    let proxy = Proxy::start(rules, &[]);
    is_changed_or_refused(&proxy, &["x-tag: 1", "x-tag: 5"]);
}

#[test]
fn header_that_the_configuration_does_not_know_is_refused() {
    let proxy = Proxy::start("", &["--set-request-header", "x-other=1"]);
    is_changed_or_refused(&proxy, &["x-other: 1"]);
}

#[test]
fn headers_that_share_their_variables_are_refused() {
    let rules = "[[rule]]\non = 'request_headers'\nset_request_headers = [['x-user', '1'], \
                 ['x_user', '2']]\n";
    let proxy = Proxy::start(rules, &[]);
    is_changed_or_refused(&proxy, &["x-user: 1", "x_user: 2"]);
}
