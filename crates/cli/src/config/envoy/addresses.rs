//! The addresses of the bootstrap, as Envoy reads them.

use crate::config::address::{Address, parse_address};
use tollgate_envoy::EnvoyEndpoint;

/// Parses the endpoint of an agent, which has to have a port.
pub(super) fn parse_agent(text: &str) -> Result<EnvoyEndpoint, String> {
    let endpoint: EnvoyEndpoint = text.parse().map_err(|error| format!("{error}"))?;
    if let EnvoyEndpoint::Tcp(host, port) | EnvoyEndpoint::Tls(host, port) = &endpoint {
        Address::new(host, *port)?;
    }
    Ok(endpoint)
}

/// Parses an address to listen on, for which Envoy takes no name.
pub(super) fn parse_listener(text: &str) -> Result<Address, String> {
    let address = parse_address(text)?;
    if address.ip().is_none() {
        return Err("Envoy listens on an IP address, such as 0.0.0.0:10000".to_owned());
    }
    Ok(address)
}

/// Returns how Envoy finds a host: the type of a cluster, and what belongs to it.
pub(super) fn discovery(address: &Address) -> &'static str {
    match address.ip() {
        Some(_) => "STATIC",
        // Envoy prefers IPv6 by default, and does not try IPv4 if nothing listens there.
        None => "STRICT_DNS\n    dns_lookup_family: V4_PREFERRED",
    }
}

/// Returns Envoy's `SocketAddress`, in the flow style of YAML.
pub(super) fn socket_address(address: &Address) -> String {
    let Address { host, port } = address;
    format!("{{address: \"{host}\", port_value: {port}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert!(parse_listener("[::]:80").is_ok());
        assert!(parse_listener("localhost:80").is_err());
        assert!(parse_agent("envoy+unix:///run/a.sock").is_ok());
        assert!(parse_agent("envoys://agent:0").is_err());
    }
}
