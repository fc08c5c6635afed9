//! Header changes that agents ask for, applied to an `http::HeaderMap`.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use tollgate::HeaderOp;
use tollgate::proxy::{HeaderOpError, HeadersFull, apply_header_ops};

fn set(name: &str, value: &str) -> HeaderOp {
    HeaderOp::Set {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

fn add(name: &str, value: &str) -> HeaderOp {
    HeaderOp::Add {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

fn remove(name: &str) -> HeaderOp {
    HeaderOp::Remove {
        name: name.to_owned(),
    }
}

fn headers() -> HeaderMap {
    let pairs = [("accept", "text/html"), ("accept", "*/*"), ("x-old", "1")];
    pairs
        .into_iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values
        .map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap())
        .collect()
}

#[test]
fn changes_apply_in_order() {
    let mut headers = headers();
    let ops = [
        set("Accept", "a"),
        add("accept", "b"),
        remove("X-Old"),
        add("x-new", "caf\u{e9}"),
        remove("x-absent"),
    ];
    apply_header_ops(&mut headers, &ops).unwrap();
    assert_eq!(values(&headers, "accept"), ["a", "b"]);
    assert_eq!(values(&headers, "x-new"), ["caf\u{e9}"]);
    assert!(!headers.contains_key("x-old"));
}

#[test]
fn too_many_headers_are_an_error() {
    let many: Vec<_> = (0..40_000).map(|n| add(&format!("x-{n}"), "")).collect();
    let rejected = apply_header_ops(&mut headers(), &many);
    assert_eq!(rejected, Err(HeaderOpError::Full(HeadersFull)));
}

#[test]
fn invalid_or_reserved_change_is_rejected_and_none_applied() {
    let rejected = [
        (
            add("x y", "1"),
            HeaderOpError::InvalidName("x y".to_owned()),
        ),
        (remove(""), HeaderOpError::InvalidName(String::new())),
        (
            add("x-a", "1\r\nx-b: 2"),
            HeaderOpError::InvalidValue(HeaderName::from_static("x-a")),
        ),
        (
            set("Content-Length", "3"),
            HeaderOpError::Reserved(header::CONTENT_LENGTH),
        ),
        (
            remove("transfer-encoding"),
            HeaderOpError::Reserved(header::TRANSFER_ENCODING),
        ),
        (
            add("connection", "x-api-key"),
            HeaderOpError::Reserved(header::CONNECTION),
        ),
        (remove("Host"), HeaderOpError::Reserved(header::HOST)),
        (add("host", "b"), HeaderOpError::Reserved(header::HOST)),
    ];
    for (op, error) in rejected {
        let mut changed = headers();
        assert_eq!(
            apply_header_ops(&mut changed, &[set("accept", "a"), op]),
            Err(error)
        );
        assert_eq!(changed, headers());
    }
}
