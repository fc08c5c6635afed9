//! Addresses in written configurations.

use std::fmt;
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
    let expected = || format!("expected host:port, not {text:?}");
    let address = ["tcp://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .unwrap_or(text);
    let (host, port) = address.rsplit_once(':').ok_or_else(expected)?;
    let port = parse_port(port).ok_or_else(expected)?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(expected)?,
        None => host,
    };
    if host.parse::<IpAddr>().is_err() && !is_host_name(host) {
        return Err(expected());
    }
    Address::new(host, port)
}

/// Parses the number of a port, without a sign.
pub(super) fn parse_port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// Returns whether a text may be the name of a host. One that ends in a number would be taken for
/// an address.
fn is_host_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(is_plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253
        && name.split('.').all(is_label)
        && !last.bytes().all(|it| it.is_ascii_digit())
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

    /// Returns the host, if it is an IP address.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
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
        assert_eq!(address("a_b-c.example.:80"), expected("a_b-c.example.", 80));
        let (label, name) = (
            format!("{}:80", "a".repeat(64)),
            format!("{}:80", "a.".repeat(128)),
        );
        for wrong in [
            "",
            "a",
            ":80",
            "a:0",
            "a:70000",
            "[::1:80",
            "a b:80",
            "a\":80",
            "a/b:80",
            "a:+80",
            "a:",
            "a..b:80",
            ".:80",
            "-a:80",
            "a-.b:80",
            "300.1.1.1:80",
            "1.2.3:80",
            "a@b:80",
            "a,b:80",
            &label,
            &name,
        ] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
