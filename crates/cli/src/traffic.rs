//! The requests that a run sends. They are built before the run starts, so that sending them adds
//! as little cost of its own as possible.

use crate::browsers;
use bytes::Bytes;
use std::borrow::Cow;
use tollgate::{BodyChunk, Metadata, RequestBodyChunk, RequestHeaders, events::Timestamp};

/// Default chunk size of bodies.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// Text of a request, known at compile time or read from a capture.
pub(crate) type Text = Cow<'static, str>;

/// Header names and values, in the client's order.
pub(crate) type Headers = Vec<(Text, Text)>;

/// Requests to be sent in order, repeatedly. Invariant: there is at least one.
pub(crate) struct RequestList {
    requests: Vec<Request>,
    timestamp: Timestamp,
}

/// One HTTP request as a proxy sees it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    method: Text,
    uri: Text,
    protocol: Text,
    server_name: Option<Text>,
    headers: Headers,
    /// Chunks of the body, without a correlation id, which differs each time the request is sent.
    chunks: Vec<BodyChunk<'static>>,
}

impl RequestList {
    /// Creates a list, or returns `None` if there are no requests.
    pub(crate) fn new(requests: Vec<Request>) -> Option<Self> {
        let timestamp = Timestamp::now();
        (!requests.is_empty()).then_some(Self {
            requests,
            timestamp,
        })
    }

    /// Creates a list of one browser request, with a body of `body_bytes` if that is not 0.
    pub(crate) fn browsing(body_bytes: usize) -> Self {
        let get = Request::new("GET", "/products/1843?ref=home", browsers::FIREFOX);
        let request = if body_bytes == 0 {
            get
        } else {
            let post = Request::new("POST", "/products/1843/reviews", browsers::FIREFOX);
            post.with_body("text/plain", filler(body_bytes), CHUNK_BYTES)
        };
        Self::new(vec![request]).expect("there is one request")
    }

    /// Returns the request with this number. Numbers start at 0 and continue over repetitions.
    pub(crate) fn request(&self, number: u64) -> &Request {
        &self.requests[(number % self.requests.len() as u64) as usize]
    }

    /// Returns the start time that all requests carry.
    pub(crate) fn timestamp(&self) -> &str {
        &self.timestamp
    }

    #[cfg(any(test, feature = "haproxy"))]
    pub(crate) fn requests(&self) -> &[Request] {
        &self.requests
    }
}

impl Request {
    /// Creates a request without a body to the generated traffic's host.
    pub(crate) fn new(
        method: impl Into<Text>,
        uri: impl Into<Text>,
        headers: &[(&'static str, &'static str)],
    ) -> Self {
        Self {
            method: method.into(),
            uri: uri.into(),
            protocol: "HTTP/2".into(),
            server_name: Some(browsers::SITE.into()),
            headers: headers
                .iter()
                .map(|&(name, value)| (name.into(), value.into()))
                .collect(),
            chunks: Vec::new(),
        }
    }

    /// Creates a request without a body from a capture.
    pub(crate) fn captured(
        method: String,
        uri: String,
        protocol: String,
        server_name: Option<String>,
        headers: Headers,
    ) -> Self {
        Self {
            method: method.into(),
            uri: uri.into(),
            protocol: protocol.into(),
            server_name: server_name.map(Text::from),
            headers,
            chunks: Vec::new(),
        }
    }

    /// Adds a body and the headers `content-type` and `content-length`.
    #[must_use]
    pub(crate) fn with_body(
        mut self,
        content_type: &'static str,
        body: impl Into<Bytes>,
        chunk_bytes: usize,
    ) -> Self {
        let body = body.into();
        self.headers
            .push(("content-type".into(), content_type.into()));
        self.headers
            .push(("content-length".into(), body.len().to_string().into()));
        self.with_body_only(body, chunk_bytes)
    }

    /// Adds a body to a request that has the headers for it.
    #[must_use]
    pub(crate) fn with_body_only(mut self, body: Bytes, chunk_bytes: usize) -> Self {
        self.chunks = chunks(&body, chunk_bytes);
        self
    }

    #[cfg(any(feature = "envoy", feature = "haproxy"))]
    pub(crate) fn method(&self) -> &str {
        &self.method
    }

    #[cfg(any(feature = "envoy", feature = "haproxy"))]
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    #[cfg(any(feature = "envoy", feature = "haproxy"))]
    pub(crate) fn headers(&self) -> &[(Text, Text)] {
        &self.headers
    }

    /// Returns the request headers event.
    pub(crate) fn head<'a>(
        &'a self,
        correlation_id: &'a str,
        timestamp: &'a str,
    ) -> RequestHeaders<'a, &'a [(Text, Text)]> {
        RequestHeaders {
            metadata: Metadata {
                correlation_id,
                request_id: correlation_id,
                client_ip: "203.0.113.7",
                client_port: 52_814,
                server_name: self.server_name.as_deref(),
                protocol: &self.protocol,
                tls_version: Some("TLSv1.3"),
                tls_cipher: Some("TLS_AES_128_GCM_SHA256"),
                route_id: Some("default"),
                upstream_id: None,
                timestamp,
                traceparent: None,
                body_follows: None,
            },
            method: &self.method,
            uri: &self.uri,
            headers: &self.headers,
        }
    }

    /// Returns the events of the body. Creating them does not allocate.
    pub(crate) fn body_events<'a>(
        &'a self,
        correlation_id: &'a str,
    ) -> impl Iterator<Item = RequestBodyChunk<'a>> {
        self.chunks.iter().map(move |chunk| {
            RequestBodyChunk(BodyChunk {
                correlation_id,
                ..chunk.clone()
            })
        })
    }

    #[cfg(any(test, feature = "envoy", feature = "haproxy"))]
    pub(crate) fn chunks(&self) -> &[BodyChunk<'static>] {
        &self.chunks
    }
}

/// Cuts a body into chunks without copying it. An empty body has no chunks.
fn chunks(body: &Bytes, chunk_bytes: usize) -> Vec<BodyChunk<'static>> {
    let starts = (0..body.len()).step_by(chunk_bytes);
    starts
        .zip(0..)
        .map(|(start, index)| {
            let end = body.len().min(start + chunk_bytes);
            let data = body.slice(start..end);
            BodyChunk {
                correlation_id: "",
                data,
                is_last: end == body.len(),
                total_size: Some(body.len()),
                chunk_index: index,
                bytes_so_far: end,
            }
        })
        .collect()
}

/// Returns harmless text of exactly this size.
pub(crate) fn filler(bytes: usize) -> String {
    const SENTENCE: &str = "All work and no play makes a proxy a dull box. ";
    SENTENCE.chars().cycle().take(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsing_sends_ten_headers_of_about_700_bytes() {
        let request_list = RequestList::browsing(0);
        let request = request_list.request(0);
        let bytes: usize = request
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        assert_eq!(request.headers.len(), 10);
        assert!((650..=750).contains(&bytes), "{bytes}");
        assert!(request.chunks().is_empty());
        assert_eq!(request.method, "GET");
    }

    #[test]
    fn bodies_are_cut_into_numbered_chunks() {
        let request_list = RequestList::browsing(200_000);
        let request = request_list.request(7);
        let chunks = request.chunks();
        assert_eq!(request.method, "POST");
        assert_eq!(chunks.len(), 4);
        assert_eq!(chunks[3].data.len(), 200_000 - 3 * CHUNK_BYTES);
        assert_eq!(chunks[2].bytes_so_far, 3 * CHUNK_BYTES);
        let ids: Vec<_> = request
            .body_events("id")
            .map(|event| event.0.correlation_id)
            .collect();
        assert_eq!(ids, ["id"; 4]);
        assert_eq!(
            chunks.iter().map(|chunk| chunk.is_last).collect::<Vec<_>>(),
            [false, false, false, true]
        );
        assert!(
            chunks.iter().zip(0..).all(|(chunk, at)| {
                chunk.chunk_index == at && chunk.total_size == Some(200_000)
            })
        );
    }

    #[test]
    fn requests_repeat_in_order() {
        let requests = ["/a", "/b"].map(|uri| Request::new("GET", uri, &[]));
        let request_list = RequestList::new(requests.to_vec()).unwrap();
        let uris: Vec<&str> = (0..3)
            .map(|n| request_list.request(n).uri.as_ref())
            .collect();
        assert_eq!(uris, ["/a", "/b", "/a"]);
    }

    #[test]
    fn empty_list_is_rejected() {
        assert!(RequestList::new(Vec::new()).is_none());
    }
}
