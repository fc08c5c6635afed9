//! Conversions between Pingora's messages and tollgate's.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use tollgate::proxy::{HeaderTarget, HeadersFull};

/// Headers of a Pingora message. Changes go through Pingora's methods, which keep the original
/// case of header names.
pub(crate) struct Headers<'a, H>(pub(crate) &'a mut H);

macro_rules! header_target {
    ($($header:ty),*) => {$(
        impl HeaderTarget for Headers<'_, $header> {
            fn set(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeadersFull> {
                self.0.insert_header(name, value).map_err(|_| HeadersFull)
            }

            fn add(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), HeadersFull> {
                let added = self.0.append_header(name, value);
                added.map(drop).map_err(|_| HeadersFull)
            }

            fn remove(&mut self, name: &HeaderName) {
                self.0.remove_header(name);
            }
        }
    )*};
}

header_target!(RequestHeader, ResponseHeader);

/// Answers the client instead of the upstream.
pub(crate) async fn respond(
    session: &mut Session,
    answer: http::Response<Bytes>,
) -> pingora::Result<()> {
    let (parts, body) = answer.into_parts();
    let mut head = ResponseHeader::build(parts.status, Some(parts.headers.len()))?;
    for (name, value) in &parts.headers {
        head.append_header(name.clone(), value.clone())?;
    }
    let has_body = !body.is_empty() && session.req_header().method != http::Method::HEAD;
    session
        .write_response_header(Box::new(head), !has_body)
        .await?;
    if has_body {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

/// Returns the name of an HTTP version for event metadata.
pub(crate) const fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "HTTP/0.9",
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2.0",
        http::Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}
