//! Addresses in printed configurations.

use std::net::IpAddr;
use tollgate_envoy::EnvoyEndpoint;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Name or IP address, without brackets.
    host: String,
    port: u16,
}

/// Parses the endpoint of an agent, which has to have a port.
pub(super) fn parse_agent(text: &str) -> Result<EnvoyEndpoint, String> {
    let endpoint: EnvoyEndpoint = text.parse().map_err(|error| format!("{error}"))?;
    if let EnvoyEndpoint::Tcp(host, port) | EnvoyEndpoint::Tls(host, port) = &endpoint {
        Address::new(host, *port)?;
    }
    Ok(endpoint)
}

/// Parses the address of a server: `host:port`, where an IPv6 address stands in brackets. A scheme
/// of plain TCP or HTTP may stand before it.
pub(super) fn parse_server(text: &str) -> Result<Address, String> {
    let address = ["tcp://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .unwrap_or(text);
    // The rules are those of the address of an agent.
    match format!("envoy://{address}").parse() {
        Ok(EnvoyEndpoint::Tcp(host, port)) => Address::new(&host, port),
        Ok(_) => Err("expected host:port".to_owned()),
        Err(error) => Err(format!("{error}")),
    }
}

/// Parses an address to listen on, for which Envoy takes no name.
pub(super) fn parse_listener(text: &str) -> Result<Address, String> {
    let address = parse_server(text)?;
    match address.is_ip() {
        true => Ok(address),
        false => Err("Envoy listens on an IP address, such as 0.0.0.0:10000".to_owned()),
    }
}

impl Address {
    pub(super) fn new(host: &str, port: u16) -> Result<Self, String> {
        if port == 0 {
            return Err(
                "port 0 stands for any free port; a configuration needs the port".to_owned(),
            );
        }
        let host = host.to_owned();
        Ok(Self { host, port })
    }

    /// Returns whether the host is an IP address.
    fn is_ip(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
    }

    /// Returns how Envoy finds the host: the type of a cluster, and what belongs to it.
    pub(super) fn discovery(&self) -> &'static str {
        match self.is_ip() {
            true => "STATIC",
            // Envoy prefers IPv6 by default, and does not try IPv4 if nothing listens there.
            false => "STRICT_DNS\n    dns_lookup_family: V4_PREFERRED",
        }
    }

    /// Returns Envoy's `SocketAddress`, in the flow style of YAML.
    pub(super) fn socket_address(&self) -> String {
        format!("{{address: \"{}\", port_value: {}}}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let address = |text| parse_server(text).map(|it| (it.host, it.port));
        let expected = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(address("127.0.0.1:8080"), expected("127.0.0.1", 8080));
        assert_eq!(address("http://a.example:80"), expected("a.example", 80));
        assert_eq!(address("[::1]:80"), expected("::1", 80));
        for wrong in ["", "a", "a:0", "a:70000", "a b:80", "a\":80", "127.1:80"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
        assert!(parse_listener("[::]:80").is_ok());
        assert!(parse_listener("localhost:80").is_err());
        assert!(parse_agent("envoy+unix:///run/a.sock").is_ok());
        assert!(parse_agent("envoys://agent:0").is_err());
    }
}
