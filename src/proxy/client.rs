//! The client's address, as agents see it.

use super::head::BadRequest;
use http::HeaderMap;
use http::header::HeaderName;
use std::net::{IpAddr, SocketAddr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Client of a request: the other side of the connection, and the connection's properties that
/// agents see.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct ClientInfo<'a> {
    /// Address of the connection's other side; `None` if the connection has none, such as one on a
    /// Unix socket.
    pub peer: Option<SocketAddr>,
    /// Client address that a load balancer sent by the PROXY protocol. It takes the place of
    /// `peer`.
    pub proxied: Option<SocketAddr>,
    /// TLS version of the connection, such as `TLSv1.3`.
    pub tls_version: Option<&'a str>,
    /// TLS cipher suite of the connection.
    pub tls_cipher: Option<&'a str>,
}

impl ClientInfo<'_> {
    /// Creates a client on the other side of a connection.
    pub fn new(peer: Option<SocketAddr>) -> Self {
        Self {
            peer,
            ..Self::default()
        }
    }

    /// Sets the client address that a load balancer sent by the PROXY protocol.
    #[must_use]
    pub fn proxied(mut self, address: Option<SocketAddr>) -> Self {
        self.proxied = address;
        self
    }

    /// Returns the client's canonical address: one client has one address, so IPv4 addresses that
    /// are mapped to IPv6 are IPv4 addresses.
    ///
    /// With trusted hops it is the address that the first of them added to `x-forwarded-for`. Every
    /// trusted proxy adds the address of its own client, so what stands before it is the client's
    /// word only.
    ///
    /// # Errors
    ///
    /// [`BadRequest::ForwardedFor`] if a trusted proxy's entry is no address.
    pub(super) fn address(
        &self,
        headers: &HeaderMap,
        trusted_hops: usize,
    ) -> Result<Option<SocketAddr>, BadRequest> {
        let nearest = self.proxied.or(self.peer);
        let nearest = nearest.map(|address| canonical(address.ip(), address.port()));
        if trusted_hops == 0 {
            return Ok(nearest);
        }
        let values = headers.get_all(X_FORWARDED_FOR);
        // From the right: that of the nearest proxy comes first.
        let entries = values
            .iter()
            .rev()
            .flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii);
        let mut address = nearest;
        for entry in entries.take(trusted_hops) {
            let (ip, port) = parse_entry(entry).ok_or(BadRequest::ForwardedFor)?;
            address = Some(canonical(ip, port));
        }
        Ok(address)
    }
}

fn canonical(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

/// Reads an address with or without a port. IPv6 addresses may stand in brackets.
fn parse_entry(entry: &[u8]) -> Option<(IpAddr, u16)> {
    let entry = str::from_utf8(entry).ok()?;
    if let Ok(ip) = entry.parse() {
        return Some((ip, 0));
    }
    if let Ok(address) = entry.parse::<SocketAddr>() {
        return Some((address.ip(), address.port()));
    }
    let bracketed = entry.strip_prefix('[')?.strip_suffix(']')?;
    Some((bracketed.parse().ok()?, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn seen(peer: &str, hops: usize, forwarded: &[&str]) -> Result<String, BadRequest> {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
        }
        let client = ClientInfo::new(Some(peer.parse().unwrap()));
        let address = client.address(&headers, hops)?;
        Ok(address.unwrap().to_string())
    }

    #[test]
    fn client_is_the_peer_unless_hops_are_trusted() {
        let forged = ["192.0.2.1"];
        assert_eq!(
            seen("198.51.100.1:5", 0, &forged).unwrap(),
            "198.51.100.1:5"
        );
        assert_eq!(seen("[::ffff:10.0.0.1]:5", 0, &[]).unwrap(), "10.0.0.1:5");
    }

    #[test]
    fn trusted_hops_are_counted_from_the_right_over_all_values() {
        let values = ["203.0.113.9, 192.0.2.1", "192.0.2.2,\t192.0.2.3"];
        let hops = |hops| seen("10.0.0.1:5", hops, &values).unwrap();
        assert_eq!(hops(1), "192.0.2.3:0");
        assert_eq!(hops(2), "192.0.2.2:0");
        assert_eq!(hops(3), "192.0.2.1:0");
        assert_eq!(hops(9), "203.0.113.9:0", "fewer entries than hops");
        assert_eq!(seen("10.0.0.1:5", 1, &[]).unwrap(), "10.0.0.1:5");
    }

    #[test]
    fn entries_have_every_usual_form() {
        for (entry, address) in [
            ("192.0.2.1:70", "192.0.2.1:70"),
            ("2001:db8::1", "[2001:db8::1]:0"),
            ("[2001:db8::1]", "[2001:db8::1]:0"),
            ("[2001:db8::1]:70", "[2001:db8::1]:70"),
            ("::ffff:192.0.2.1", "192.0.2.1:0"),
        ] {
            assert_eq!(seen("10.0.0.1:5", 1, &[entry]).unwrap(), address);
        }
        for entry in ["unknown", "", "1.2.3", "192.0.2.1, ", "[::1", "999.1.1.1"] {
            let refused = seen("10.0.0.1:5", 1, &[entry]);
            assert_eq!(refused, Err(BadRequest::ForwardedFor), "{entry}");
        }
        // Entries that no trusted proxy added are not looked at.
        assert!(seen("10.0.0.1:5", 1, &["garbage, 192.0.2.1"]).is_ok());
    }
}
