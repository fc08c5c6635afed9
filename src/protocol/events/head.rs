//! The events for the heads of requests and responses.

use super::forms::owned_and_borrowed;
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

macro_rules! request_metadata {
    ($define:ident) => {
        $define! {
            /// Origin and destination of a request
            #[derive(Copy, Default)]
            Metadata, RequestMetadata {
                /// Id that joins all events of one HTTP request.
                correlation_id: str,
                /// Id that the proxy gives the request.
                request_id: str,
                /// IP address of the client; [`IpText`](crate::events::IpText) converts it to text.
                client_ip: str,
                /// Port of the client.
                client_port: u16,
                /// Server name that the client asked for.
                #[serde(default)]
                server_name: (Option<str>),
                /// HTTP version of the client, such as `HTTP/1.1`.
                protocol: str,
                /// TLS version of the client's connection.
                #[serde(default)]
                tls_version: (Option<str>),
                /// TLS cipher suite of the client's connection.
                #[serde(default)]
                tls_cipher: (Option<str>),
                /// Id of the proxy's route.
                #[serde(default)]
                route_id: (Option<str>),
                /// Id of the upstream, once it is chosen.
                #[serde(default)]
                upstream_id: (Option<str>),
                /// Time at which the request began, in RFC 3339 format;
                /// [`Timestamp`](crate::events::Timestamp) converts it to text.
                timestamp: str,
                /// W3C trace context (`traceparent`).
                #[serde(default, skip_serializing_if = "Option::is_none")]
                traceparent: (Option<str>),
            }
        }
    };
}

request_metadata!(owned_and_borrowed);

pub(crate) use request_metadata;

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
