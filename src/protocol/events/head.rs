//! The events for the heads of requests and responses.

use super::forms::owned_and_borrowed;
use super::target::Target;
use crate::protocol::headers::{HeaderSource, to_map};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;

/// The head of an HTTP request, owned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestHeadersEvent {
    /// Origin and destination of the request.
    pub metadata: RequestMetadata,
    /// HTTP method.
    pub method: String,
    /// Target of the request as the client spelled it, usually path and query. Decide by
    /// [`path`](Self::path), which is the same for all spellings.
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

    /// Returns the path of the request in its normal form, as [`RequestHeaders::path`] does.
    pub fn path(&self) -> Cow<'_, str> {
        Target::of(&self.method, &self.uri).path()
    }

    /// Returns the query of the request, as [`RequestHeaders::query`] does.
    pub fn query(&self) -> Option<&str> {
        Target::of(&self.method, &self.uri).query()
    }

    /// Returns the host that the request is for, as [`RequestHeaders::host`] does.
    pub fn host(&self) -> Option<Cow<'_, str>> {
        let server_name = self.metadata.server_name.as_deref();
        Target::of(&self.method, &self.uri).host(&self.headers, server_name)
    }
}

/// A fact that is not always known.
type Flag = Option<bool>;

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
            borrowed {
                /// `true` if the request has a body, which follows in events of its own for agents
                /// that subscribe to them; `None` if the proxy does not say. Not part of the owned
                /// form, which has the fields of `zentinel-agent-protocol`.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                body_follows: Flag,
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
    /// Target of the request as the client spelled it, usually path and query. Decide by
    /// [`path`](Self::path), which is the same for all spellings.
    pub uri: &'a str,
    /// Source of the headers.
    pub headers: H,
}

impl<'a, H> RequestHeaders<'a, H> {
    /// Returns the path of the request in its normal form, see
    /// [`normal_path`](crate::events::normal_path). Does not allocate if the client spelled it in
    /// this form.
    ///
    /// An absolute URI is reduced to its path. The path is `*` for a request about the server as a
    /// whole (`OPTIONS *`), and empty for a `CONNECT` to a host and port.
    ///
    /// ```
    /// use tollgate::{Metadata, RequestHeaders};
    ///
    /// let event = RequestHeaders {
    ///     metadata: Metadata::default(),
    ///     method: "GET",
    ///     uri: "http://Example.com:8080/x/../%61dmin?user=7",
    ///     headers: &[("host", "other.example")][..],
    /// };
    /// assert_eq!(event.path(), "/admin");
    /// assert_eq!(event.query(), Some("user=7"));
    /// assert_eq!(event.host().as_deref(), Some("example.com"));
    /// ```
    pub fn path(&self) -> Cow<'a, str> {
        Target::of(self.method, self.uri).path()
    }

    /// Returns the query of the request as the client spelled it, without the question mark.
    pub fn query(&self) -> Option<&'a str> {
        Target::of(self.method, self.uri).query()
    }
}

impl<H: HeaderSource> RequestHeaders<'_, H> {
    /// Returns the host that the request is for, in lower case and without port: that of an
    /// absolute URI or of `CONNECT`, else that of the header `host`, else `server_name`.
    ///
    /// `None` if there is none, or several `host` headers, among which servers choose differently.
    /// Does not allocate if the host is in lower case.
    pub fn host(&self) -> Option<Cow<'_, str>> {
        Target::of(self.method, self.uri).host(&self.headers, self.metadata.server_name)
    }

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
