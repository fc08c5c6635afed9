//! The client of a request, and what events say about it.

use crate::wire::{Attributes, Head, parse_socket_address};
use std::net::IpAddr;
use tollgate::Metadata;
use tollgate::events::{IpText, Timestamp};

/// Address of the client, and the time of the request.
pub(crate) struct Client {
    ip: Option<IpText>,
    port: u16,
    now: Option<Timestamp>,
}

impl Client {
    /// Finds the client's address: where Envoy's connection is from, or else what Envoy noted as
    /// the edge proxy, or else the entry of `x-forwarded-for` that a trusted proxy has added.
    pub(crate) fn of(attributes: &Attributes<'_>, head: &Head<'_>, trusted_hops: usize) -> Self {
        let now = attributes.time.is_empty().then(Timestamp::now);
        if let Some(address) = parse_socket_address(attributes.source_address) {
            return Self {
                ip: Some(address.ip().into()),
                port: attributes.source_port.unwrap_or_else(|| address.port()),
                now,
            };
        }
        if let Some(ip) = parse_ip(attributes.source_address) {
            return Self {
                ip: Some(ip.into()),
                port: attributes.source_port.unwrap_or_default(),
                now,
            };
        }
        let external = head.field("x-envoy-external-address").and_then(parse_ip);
        let ip = external.or_else(|| forwarded_for(head, trusted_hops));
        Self {
            ip: ip.map(IpText::from),
            port: attributes.source_port.unwrap_or_default(),
            now,
        }
    }

    /// The client of a request whose connection is known.
    pub(crate) fn at(address: &str, port: u16) -> Self {
        Self {
            ip: parse_ip(address).map(IpText::from),
            port,
            now: Some(Timestamp::now()),
        }
    }

    fn ip(&self) -> &str {
        self.ip.as_ref().map(IpText::as_str).unwrap_or_default()
    }
}

/// Returns the address that the first of the trusted proxies added to `x-forwarded-for`.
fn forwarded_for(head: &Head<'_>, trusted_hops: usize) -> Option<IpAddr> {
    let fields = head.fields.iter().rev();
    let values = fields.filter(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-for"));
    let mut entries = values
        .flat_map(|(_, value)| value.rsplit(','))
        .map(str::trim);
    let entry = entries.nth(trusted_hops.checked_sub(1)?)?;
    parse_ip(entry).or_else(|| parse_socket_address(entry).map(|address| address.ip()))
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    let text = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    text.parse().ok()
}

/// Returns what an event says about the origin of a request, apart from its correlation id.
pub(crate) fn request_metadata<'a>(
    attributes: &Attributes<'a>,
    head: &'a Head<'_>,
    client: &'a Client,
) -> Metadata<'a> {
    let request_id = match attributes.request_id {
        "" => head.field("x-request-id").unwrap_or_default(),
        id => id,
    };
    Metadata {
        request_id,
        client_ip: client.ip(),
        client_port: client.port,
        server_name: attributes.server_name,
        protocol: attributes.protocol,
        tls_version: attributes.tls_version,
        route_id: attributes.route_name,
        upstream_id: attributes.cluster_name,
        timestamp: match &client.now {
            Some(now) => now.as_str(),
            None => attributes.time,
        },
        traceparent: head.field("traceparent"),
        ..Metadata::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_of(attributes: &Attributes<'_>, fields: &[(&'static str, &'static str)]) -> String {
        client_behind(2, attributes, fields)
    }

    fn client_behind(
        hops: usize,
        attributes: &Attributes<'_>,
        fields: &[(&'static str, &'static str)],
    ) -> String {
        let mut head = Head::default();
        for (name, value) in fields {
            head.fields.push((name, (*value).into()));
        }
        Client::of(attributes, &head, hops).ip().to_owned()
    }

    #[test]
    fn clients_are_named_by_envoy_and_trusted_proxies() {
        let none = Attributes::default();
        let forwarded = ("x-forwarded-for", "192.0.2.1, 192.0.2.2,192.0.2.3");
        assert_eq!(client_of(&none, &[forwarded]), "192.0.2.2");
        assert_eq!(client_of(&none, &[("x-forwarded-for", "192.0.2.1")]), "");
        let more = ("x-forwarded-for", "10.0.0.1");
        assert_eq!(client_of(&none, &[forwarded, more]), "192.0.2.3");
        let external = ("x-envoy-external-address", "198.51.100.1");
        assert_eq!(client_of(&none, &[forwarded, external]), "198.51.100.1");
        assert_eq!(client_behind(0, &none, &[forwarded]), "");
        assert_eq!(client_behind(0, &none, &[external]), "198.51.100.1");
        let without_port = Attributes {
            source_address: "203.0.113.2",
            ..none
        };
        assert_eq!(client_of(&without_port, &[forwarded]), "203.0.113.2");
        let attributes = Attributes {
            source_address: "[::ffff:203.0.113.1]:7",
            ..none
        };
        assert_eq!(
            client_of(&attributes, &[forwarded, external]),
            "203.0.113.1"
        );
    }
}
