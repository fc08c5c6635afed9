//! Reads a browser's HAR capture, whose requests become the traffic of a run.

use crate::exit::UsageError;
use crate::traffic::{CHUNK_BYTES, Headers, Request, RequestList};
use bytes::Bytes;
use serde::Deserialize;
use std::fmt::Display;
use std::path::Path;
use tollgate::response::BodyMutation;

/// Reads the requests of the capture in `file`.
pub(crate) fn read(file: &Path) -> Result<RequestList, UsageError> {
    let unusable =
        |cause: &dyn Display| UsageError(format!("HAR file {}: {cause}", file.display()));
    let text = std::fs::read(file).map_err(|error| unusable(&error))?;
    let requests = requests(&text).map_err(|cause| unusable(&cause))?;
    RequestList::new(requests).ok_or_else(|| unusable(&"it contains no HTTP request"))
}

fn requests(text: &[u8]) -> Result<Vec<Request>, String> {
    let capture: Capture = serde_json::from_slice(without_byte_order_mark(text))
        .map_err(|error| format!("not a HAR capture: {error}"))?;
    let entries = capture.log.entries.into_iter().enumerate();
    entries
        .filter_map(|(index, entry)| {
            let request = entry.request.into_request().transpose()?;
            Some(request.map_err(|cause| format!("request {}: {cause}", index + 1)))
        })
        .collect()
}

/// Removes the byte order mark that some tools write, which JSON does not allow.
fn without_byte_order_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

#[derive(Deserialize)]
struct Capture {
    log: Log,
}

#[derive(Deserialize)]
struct Log {
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    request: CapturedRequest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CapturedRequest {
    method: String,
    url: String,
    http_version: Option<String>,
    #[serde(default)]
    headers: Vec<CapturedHeader>,
    post_data: Option<PostData>,
}

#[derive(Deserialize)]
struct CapturedHeader {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct PostData {
    text: Option<String>,
    encoding: Option<String>,
}

impl CapturedRequest {
    /// Converts the request. Returns `None` if it did not go over the network, such as one for a
    /// `data:` URL.
    fn into_request(self) -> Result<Option<Request>, String> {
        let Some((authority, uri)) = split_url(&self.url) else {
            return Ok(None);
        };
        let body = self.post_data.map_or(Ok(Bytes::new()), PostData::decode)?;
        let request = Request::captured(
            self.method,
            uri,
            protocol(self.http_version.as_deref()),
            Some(host_of(authority).to_owned()),
            headers(self.headers, authority),
        );
        Ok(Some(request.with_body_only(body, CHUNK_BYTES)))
    }
}

impl PostData {
    fn decode(self) -> Result<Bytes, String> {
        let text = self.text.unwrap_or_default();
        match self.encoding.as_deref() {
            None | Some("") => Ok(text.into()),
            Some("base64") => decode_base64(&text),
            Some(other) => Err(format!("its body has the unknown encoding {other:?}")),
        }
    }
}

/// Decodes base64 text by the protocol's codec, which reads bodies in the same form.
fn decode_base64(text: &str) -> Result<Bytes, String> {
    let body = BodyMutation::from_text(0, text);
    let is_base64 = !body.is_plain_text();
    body.data
        .filter(|_| is_base64)
        .ok_or_else(|| "its body is not base64 text".to_owned())
}

/// Splits a URL into its authority and its path with query. Returns `None` if it is not an HTTP or
/// WebSocket URL.
fn split_url(url: &str) -> Option<(&str, String)> {
    let (scheme, rest) = url.split_once("://")?;
    if !matches!(scheme, "http" | "https" | "ws" | "wss") {
        return None;
    }
    let rest = rest.split('#').next().unwrap_or(rest);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let uri = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    Some((authority, uri))
}

fn host_of(authority: &str) -> &str {
    let host = authority.rsplit('@').next().unwrap_or(authority);
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Returns the protocol in the form `HTTP/2`. Browsers write `h2`, `HTTP/2.0` or `http/2.0`.
fn protocol(version: Option<&str>) -> String {
    match version.map(str::to_ascii_lowercase).as_deref() {
        Some("h3" | "http/3" | "http/3.0") => "HTTP/3",
        Some("h2" | "http/2" | "http/2.0") => "HTTP/2",
        Some("http/1.0") => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
    .to_owned()
}

/// Returns the headers as a proxy sees them: without the pseudo-header fields of HTTP/2 that
/// captures list, and with a `host` header.
fn headers(captured: Vec<CapturedHeader>, authority: &str) -> Headers {
    let mut headers: Headers = captured
        .into_iter()
        .filter(|header| !header.name.starts_with(':'))
        .map(|header| (header.name.into(), header.value.into()))
        .collect();
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        headers.push(("host".into(), authority.to_owned().into()));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read_entries(entries: serde_json::Value) -> Result<Vec<Request>, String> {
        requests(
            json!({ "log": { "entries": entries } })
                .to_string()
                .as_bytes(),
        )
    }

    #[test]
    fn requests_keep_method_path_headers_and_body() {
        let requests = read_entries(json!([{ "time": 12.5, "request": {
            "method": "POST", "url": "https://shop.example.com:8443/cart?item=7#top", "httpVersion": "h2",
            "headers": [{ "name": ":path", "value": "/cart" }, { "name": "Accept", "value": "*/*" }],
            "postData": { "mimeType": "text/plain", "text": "hello" }
        }}]))
        .unwrap();
        let head = requests[0].head("id", "now");
        assert_eq!((head.method, head.uri), ("POST", "/cart?item=7"));
        assert_eq!(head.metadata.protocol, "HTTP/2");
        assert_eq!(head.metadata.server_name, Some("shop.example.com"));
        let headers: Vec<(&str, &str)> = head
            .headers
            .iter()
            .map(|(name, value)| (name.as_ref(), value.as_ref()))
            .collect();
        assert_eq!(
            headers,
            [("Accept", "*/*"), ("host", "shop.example.com:8443")]
        );
        assert_eq!(requests[0].chunks()[0].data, "hello");
        assert!(requests[0].chunks()[0].is_last);
    }

    #[test]
    fn bodies_in_base64_are_decoded() {
        let entry = |text: &str, encoding: &str| {
            json!([{ "request": { "method": "POST", "url": "http://a/",
                "postData": { "text": text, "encoding": encoding } } }])
        };
        let requests = read_entries(entry("AP8Q", "base64")).unwrap();
        assert_eq!(requests[0].chunks()[0].data, [0, 255, 16].as_slice());
        let cause = read_entries(entry("%%%", "base64")).unwrap_err();
        assert_eq!(cause, "request 1: its body is not base64 text");
        assert!(
            read_entries(entry("", "zip"))
                .unwrap_err()
                .contains("\"zip\"")
        );
    }

    #[test]
    fn urls_are_split_into_authority_and_path() {
        assert_eq!(split_url("https://a"), Some(("a", "/".to_owned())));
        assert_eq!(
            split_url("https://a?x=/y"),
            Some(("a", "/?x=/y".to_owned()))
        );
        assert_eq!(split_url("wss://a/b#c"), Some(("a", "/b".to_owned())));
        assert_eq!(split_url("data:text/plain,x"), None);
        assert_eq!(host_of("user@[::1]:80"), "[::1]");
        assert_eq!(host_of("a.example"), "a.example");
    }

    #[test]
    fn requests_without_network_access_are_skipped() {
        let requests = read_entries(json!([
            { "request": { "method": "GET", "url": "data:image/png;base64,AAAA" } },
            { "request": { "method": "GET", "url": "http://a/b" } }
        ]))
        .unwrap();
        assert_eq!(requests.len(), 1);
        assert!(requests[0].chunks().is_empty());
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert!(requests(b"\xef\xbb\xbf{\"log\":{\"entries\":[]}}").is_ok());
    }

    #[test]
    fn invalid_capture_names_the_missing_field() {
        let cause = requests(b"{\"log\":{}}").unwrap_err();
        assert!(
            cause.contains("not a HAR capture") && cause.contains("entries"),
            "{cause}"
        );
    }
}
