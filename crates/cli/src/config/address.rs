//! Addresses in printed configurations.

use std::net::IpAddr;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Name or IP address, without brackets.
    pub(super) host: String,
    pub(super) port: u16,
}

/// Parses `host:port`, where an IPv6 address stands in brackets. A scheme of plain TCP or HTTP may
/// stand before it.
pub(super) fn parse_address(text: &str) -> Result<Address, String> {
    let expected = || format!("{text:?} is no address; expected host:port, such as 127.0.0.1:8080");
    let address = ["tcp://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .unwrap_or(text);
    let (host, port) = address.rsplit_once(':').ok_or_else(expected)?;
    let port = port.parse().map_err(|_| expected())?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(expected)?,
        None => host,
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_valid = host.parse::<IpAddr>().is_ok() || host.bytes().all(is_name);
    if host.is_empty() || !is_valid {
        return Err(expected());
    }
    Ok(Address {
        host: host.to_owned(),
        port,
    })
}

impl Address {
    /// Returns whether the host is an IP address.
    pub(super) fn is_ip(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok()
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
        let address = |text| parse_address(text).map(|it| (it.host, it.port));
        let expected = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(address("127.0.0.1:8080"), expected("127.0.0.1", 8080));
        assert_eq!(address("http://a.example:80"), expected("a.example", 80));
        assert_eq!(address("[::1]:80"), expected("::1", 80));
        for wrong in [
            "", "a", ":80", "a:70000", "[::1:80", "a b:80", "a\":80", "a/b:80",
        ] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
