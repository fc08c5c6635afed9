use crate::protocol::headers::{HeaderSource, to_map};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The head of an HTTP request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestHeadersEvent {
    /// Where the request comes from.
    pub metadata: RequestMetadata,
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub uri: String,
    /// Values by header name.
    pub headers: HashMap<String, Vec<String>>,
}

impl RequestHeadersEvent {
    /// The same event, borrowed.
    pub fn borrowed(&self) -> RequestHeaders<'_, &HashMap<String, Vec<String>>> {
        RequestHeaders {
            metadata: self.metadata.borrowed(),
            method: &self.method,
            uri: &self.uri,
            headers: &self.headers,
        }
    }
}

/// Where a request comes from and where it is going.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestMetadata {
    /// Joins all events of one HTTP request.
    pub correlation_id: String,
    /// The proxy's own id of the request.
    pub request_id: String,
    /// Address of the client.
    pub client_ip: String,
    /// Port of the client.
    pub client_port: u16,
    /// Name the client asked for.
    pub server_name: Option<String>,
    /// Protocol of the client, such as `HTTP/1.1`.
    pub protocol: String,
    /// TLS version of the client.
    pub tls_version: Option<String>,
    /// TLS cipher suite of the client.
    pub tls_cipher: Option<String>,
    /// The proxy's route.
    pub route_id: Option<String>,
    /// The upstream, once chosen.
    pub upstream_id: Option<String>,
    /// When the request began, RFC 3339.
    pub timestamp: String,
    /// W3C trace context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl RequestMetadata {
    /// The same metadata, borrowed.
    pub fn borrowed(&self) -> Metadata<'_> {
        Metadata {
            correlation_id: &self.correlation_id,
            request_id: &self.request_id,
            client_ip: &self.client_ip,
            client_port: self.client_port,
            server_name: self.server_name.as_deref(),
            protocol: &self.protocol,
            tls_version: self.tls_version.as_deref(),
            tls_cipher: self.tls_cipher.as_deref(),
            route_id: self.route_id.as_deref(),
            upstream_id: self.upstream_id.as_deref(),
            timestamp: &self.timestamp,
            traceparent: self.traceparent.as_deref(),
        }
    }
}

/// The head of an HTTP request, borrowed; `headers` may come from anywhere.
#[derive(Debug, Clone, Copy)]
pub struct RequestHeaders<'a, H> {
    /// Where the request comes from.
    pub metadata: Metadata<'a>,
    /// HTTP method.
    pub method: &'a str,
    /// Path and query.
    pub uri: &'a str,
    /// The headers.
    pub headers: H,
}

impl<H: HeaderSource> RequestHeaders<'_, H> {
    /// A copy that borrows nothing.
    pub fn to_event(&self) -> RequestHeadersEvent {
        RequestHeadersEvent {
            metadata: self.metadata.to_event(),
            method: self.method.to_owned(),
            uri: self.uri.to_owned(),
            headers: to_map(&self.headers),
        }
    }
}

/// [`RequestMetadata`], borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metadata<'a> {
    /// Joins all events of one HTTP request.
    pub correlation_id: &'a str,
    /// The proxy's own id of the request.
    pub request_id: &'a str,
    /// Address of the client, which [`IpText`](crate::IpText) makes text.
    pub client_ip: &'a str,
    /// Port of the client.
    pub client_port: u16,
    /// Name the client asked for.
    pub server_name: Option<&'a str>,
    /// Protocol of the client, such as `HTTP/1.1`.
    pub protocol: &'a str,
    /// TLS version of the client.
    pub tls_version: Option<&'a str>,
    /// TLS cipher suite of the client.
    pub tls_cipher: Option<&'a str>,
    /// The proxy's route.
    pub route_id: Option<&'a str>,
    /// The upstream, once chosen.
    pub upstream_id: Option<&'a str>,
    /// When the request began, RFC 3339, which [`Timestamp`](crate::Timestamp) makes.
    pub timestamp: &'a str,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
}

impl Metadata<'_> {
    /// A copy that borrows nothing.
    pub fn to_event(&self) -> RequestMetadata {
        RequestMetadata {
            correlation_id: self.correlation_id.to_owned(),
            request_id: self.request_id.to_owned(),
            client_ip: self.client_ip.to_owned(),
            client_port: self.client_port,
            server_name: self.server_name.map(str::to_owned),
            protocol: self.protocol.to_owned(),
            tls_version: self.tls_version.map(str::to_owned),
            tls_cipher: self.tls_cipher.map(str::to_owned),
            route_id: self.route_id.map(str::to_owned),
            upstream_id: self.upstream_id.map(str::to_owned),
            timestamp: self.timestamp.to_owned(),
            traceparent: self.traceparent.map(str::to_owned),
        }
    }
}

/// The head of the upstream's response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseHeadersEvent {
    /// Joins all events of one HTTP request.
    pub correlation_id: String,
    /// HTTP status.
    pub status: u16,
    /// Values by header name.
    pub headers: HashMap<String, Vec<String>>,
}

impl ResponseHeadersEvent {
    /// The same event, borrowed.
    pub fn borrowed(&self) -> ResponseHeaders<'_, &HashMap<String, Vec<String>>> {
        ResponseHeaders {
            correlation_id: &self.correlation_id,
            status: self.status,
            headers: &self.headers,
        }
    }
}

/// The head of the upstream's response, borrowed; `headers` may come from anywhere.
#[derive(Debug, Clone, Copy)]
pub struct ResponseHeaders<'a, H> {
    /// Joins all events of one HTTP request.
    pub correlation_id: &'a str,
    /// HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: H,
}

impl<H: HeaderSource> ResponseHeaders<'_, H> {
    /// A copy that borrows nothing.
    pub fn to_event(&self) -> ResponseHeadersEvent {
        ResponseHeadersEvent {
            correlation_id: self.correlation_id.to_owned(),
            status: self.status,
            headers: to_map(&self.headers),
        }
    }
}
