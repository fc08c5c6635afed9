//! The addresses of the configuration, as HAProxy reads them.

use super::Args;
use crate::config::address::{parse_address, parse_port};
use crate::exit::UsageError;
use std::collections::HashSet;
use tollgate_haproxy::SpopEndpoint;

/// Begin of the address of a Unix socket, as HAProxy writes it.
const SOCKET: &str = "unix@";

/// Length limit of the path of a Unix socket, to which HAProxy adds a suffix while it binds it.
const MAX_SOCKET_PATH: usize = 97;

/// Begins of addresses that stand for all addresses of the machine.
const ANYWHERE: [&str; 2] = [":", "*:"];

/// Parses the endpoint of an agent.
pub(super) fn parse_agent(text: &str) -> Result<SpopEndpoint, String> {
    let endpoint: SpopEndpoint = text
        .parse()
        .map_err(|error| format!("{error}, as of `tollgate agent`"))?;
    parse_server(&endpoint.server_address())?;
    Ok(endpoint)
}

/// Parses an address that HAProxy listens at.
pub(super) fn parse_bind(text: &str) -> Result<String, String> {
    if let Some(path) = text.strip_prefix(SOCKET) {
        return socket(path);
    }
    let address = text.strip_prefix("http://").unwrap_or(text);
    let begin = ANYWHERE.iter().find(|begin| address.starts_with(**begin));
    let Some(begin) = begin.filter(|_| !address.starts_with("::")) else {
        return Ok(parse_address(address)?.to_string());
    };
    let port = parse_port(&address[begin.len()..]).filter(|port| *port > 0);
    let port = port.ok_or("expected [address]:port, with a port from 1 to 65535")?;
    Ok(format!("{begin}{port}"))
}

/// Parses the address of a server that HAProxy connects to.
pub(super) fn parse_server(text: &str) -> Result<String, String> {
    if let Some(path) = text.strip_prefix(SOCKET) {
        return socket(path);
    }
    let address = parse_address(text.strip_suffix('/').unwrap_or(text))?;
    let ip = address.ip();
    if ip.is_some_and(|ip| ip.to_canonical().is_unspecified()) {
        // It would connect to whatever address the client has connected to.
        return Err(format!("{text:?} is no address of a server"));
    }
    Ok(address.to_string())
}

/// Checks the path of a Unix socket, which has to be one word of the configuration.
fn socket(path: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:@~%".contains(&byte);
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(format!("{path:?} is no absolute path of a socket"));
    }
    if !path.bytes().all(is_plain) {
        return Err(format!(
            "{path:?} has characters that HAProxy reads otherwise; expected letters, digits and \
             any of /._-+=:@~%"
        ));
    }
    if path.len() > MAX_SOCKET_PATH {
        return Err(format!(
            "{path:?} has {} bytes; HAProxy takes {MAX_SOCKET_PATH} at most",
            path.len()
        ));
    }
    Ok(format!("{SOCKET}{path}"))
}

/// Refuses addresses that cannot be used together.
pub(super) fn check(args: &Args) -> Result<(), UsageError> {
    if args.listen == args.upstream {
        let reason = "--listen and --upstream are the same address: HAProxy would ask itself";
        return Err(UsageError(reason.to_owned()));
    }
    let mut agents = HashSet::new();
    for agent in &args.agent {
        let address = agent.server_address();
        if [&args.listen, &args.upstream].contains(&&address) {
            let reason =
                format!("{address} is the address of an agent and of --listen or --upstream");
            return Err(UsageError(reason));
        }
        if !agents.insert(address) {
            let reason = format!("--agent {} is given twice", agent.server_address());
            return Err(UsageError(reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_listen_at() {
        for (text, expected) in [
            (":80", ":80"),
            ("*:80", "*:80"),
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::]:080", "[::]:80"),
            ("unix@/run/a-b_c.sock", "unix@/run/a-b_c.sock"),
        ] {
            assert_eq!(parse_bind(text).as_deref(), Ok(expected));
        }
        let long = format!("unix@/{}", "a".repeat(97));
        for wrong in [
            "",
            ":",
            ":0",
            ":+80",
            ":65536",
            ":80,:81",
            "a b:1",
            "a#:1",
            "127.0.0.1",
            "unix@a",
            "unix@/",
            "unix@/a b",
            "unix@/a,b",
            "unix@/a#b",
            "unix@/a\"b",
            "unix@/a'b",
            "unix@/a\\b",
            "unix@/$a",
            "unix@/a\nb",
            "unix@/ä",
            "https://a:443",
            "fd@3",
            &long,
        ] {
            assert!(parse_bind(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_of_servers() {
        for (text, expected) in [
            ("http://a.example:8000/", "a.example:8000"),
            ("[::1]:8000", "[::1]:8000"),
            ("unix@/run/a.sock", "unix@/run/a.sock"),
        ] {
            assert_eq!(parse_server(text).as_deref(), Ok(expected));
        }
        for wrong in [
            ":80",
            "*:80",
            "0.0.0.0:80",
            "[::]:80",
            "[::ffff:0.0.0.0]:80",
            "a:0",
        ] {
            assert!(parse_server(wrong).is_err(), "{wrong}");
        }
        assert!(parse_agent("haproxy://a.example:9001").is_ok());
        for wrong in [
            "haproxy://0.0.0.0:9001",
            "haproxy://a:0",
            "haproxy://a b:1",
            "haproxy://a,b:1",
            "haproxy+unix:///a b",
            "haproxy+unix:///",
            "tcp://a:1",
        ] {
            assert!(parse_agent(wrong).is_err(), "{wrong}");
        }
    }
}
