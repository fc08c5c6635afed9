//! The events for the heads of requests and responses.

use crate::protocol::headers::{HeaderSource, to_map};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The head of an HTTP request, owned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestHeadersEvent {
    /// Origin and destination of the request.
    pub metadata: RequestMetadata,
    /// HTTP method.
    pub method: String,
    /// Path and query of the request.
    pub uri: String,
    /// Header values by name.
    pub headers: HashMap<String, Vec<String>>,
}

impl RequestHeadersEvent {
    /// Returns the borrowed form of this event.
    pub fn borrowed(&self) -> RequestHeaders<'_, &HashMap<String, Vec<String>>> {
        RequestHeaders {
            metadata: self.metadata.borrowed(),
            method: &self.method,
            uri: &self.uri,
            headers: &self.headers,
        }
    }
}

/// Origin and destination of a request, owned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestMetadata {
    /// Id that joins all events of one HTTP request.
    pub correlation_id: String,
    /// Id that the proxy gives the request.
    pub request_id: String,
    /// IP address of the client.
    pub client_ip: String,
    /// Port of the client.
    pub client_port: u16,
    /// Server name that the client asked for.
    pub server_name: Option<String>,
    /// HTTP version of the client, such as `HTTP/1.1`.
    pub protocol: String,
    /// TLS version of the client's connection.
    pub tls_version: Option<String>,
    /// TLS cipher suite of the client's connection.
    pub tls_cipher: Option<String>,
    /// Id of the proxy's route.
    pub route_id: Option<String>,
    /// Id of the upstream, once it is chosen.
    pub upstream_id: Option<String>,
    /// Time at which the request began, in RFC 3339 format.
    pub timestamp: String,
    /// W3C trace context (`traceparent`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

impl RequestMetadata {
    /// Returns the borrowed form of this metadata.
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

/// The head of an HTTP request, borrowed. `headers` is any [`HeaderSource`].
#[derive(Debug, Clone, Copy)]
pub struct RequestHeaders<'a, H> {
    /// Origin and destination of the request.
    pub metadata: Metadata<'a>,
    /// HTTP method.
    pub method: &'a str,
    /// Path and query of the request.
    pub uri: &'a str,
    /// Source of the headers.
    pub headers: H,
}

impl<H: HeaderSource> RequestHeaders<'_, H> {
    /// Copies this to its owned form.
    pub fn to_event(&self) -> RequestHeadersEvent {
        RequestHeadersEvent {
            metadata: self.metadata.to_event(),
            method: self.method.to_owned(),
            uri: self.uri.to_owned(),
            headers: to_map(&self.headers),
        }
    }
}

/// Origin and destination of a request, borrowed. See [`RequestMetadata`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metadata<'a> {
    /// Id that joins all events of one HTTP request.
    pub correlation_id: &'a str,
    /// Id that the proxy gives the request.
    pub request_id: &'a str,
    /// IP address of the client; [`IpText`](crate::events::IpText) converts it to text.
    pub client_ip: &'a str,
    /// Port of the client.
    pub client_port: u16,
    /// Server name that the client asked for.
    pub server_name: Option<&'a str>,
    /// HTTP version of the client, such as `HTTP/1.1`.
    pub protocol: &'a str,
    /// TLS version of the client's connection.
    pub tls_version: Option<&'a str>,
    /// TLS cipher suite of the client's connection.
    pub tls_cipher: Option<&'a str>,
    /// Id of the proxy's route.
    pub route_id: Option<&'a str>,
    /// Id of the upstream, once it is chosen.
    pub upstream_id: Option<&'a str>,
    /// Time at which the request began, in RFC 3339 format;
    /// [`Timestamp`](crate::events::Timestamp) converts it to text.
    pub timestamp: &'a str,
    /// W3C trace context (`traceparent`).
    pub traceparent: Option<&'a str>,
}

impl Metadata<'_> {
    /// Copies this to its owned form.
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

/// The head of the upstream's response, owned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseHeadersEvent {
    /// Id that joins all events of one HTTP request.
    pub correlation_id: String,
    /// HTTP status of the response.
    pub status: u16,
    /// Header values by name.
    pub headers: HashMap<String, Vec<String>>,
}

impl ResponseHeadersEvent {
    /// Returns the borrowed form of this event.
    pub fn borrowed(&self) -> ResponseHeaders<'_, &HashMap<String, Vec<String>>> {
        ResponseHeaders {
            correlation_id: &self.correlation_id,
            status: self.status,
            headers: &self.headers,
        }
    }
}

/// The head of the upstream's response, borrowed. `headers` is any [`HeaderSource`].
#[derive(Debug, Clone, Copy)]
pub struct ResponseHeaders<'a, H> {
    /// Id that joins all events of one HTTP request.
    pub correlation_id: &'a str,
    /// HTTP status of the response.
    pub status: u16,
    /// Source of the headers.
    pub headers: H,
}

impl<H: HeaderSource> ResponseHeaders<'_, H> {
    /// Copies this to its owned form.
    pub fn to_event(&self) -> ResponseHeadersEvent {
        ResponseHeadersEvent {
            correlation_id: self.correlation_id.to_owned(),
            status: self.status,
            headers: to_map(&self.headers),
        }
    }
}
