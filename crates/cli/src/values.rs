//! Parsers for option values: sizes, durations, encodings, headers and endpoints.

use std::time::Duration;
use tollgate::Encoding;

/// Longest accepted duration. Far below the point where adding it to an `Instant` could overflow.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// Parses a size in bytes, or with the unit `KiB`, `MiB` or `GiB`.
pub(crate) fn parse_size(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit = match text[digits.len()..].trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => return Err(format!("`{other}` is not one of B, KiB, MiB and GiB")),
    };
    let count: usize = digits
        .parse()
        .map_err(|_| "expected a size such as 65536, 64KiB or 1MiB".to_owned())?;
    count
        .checked_mul(unit)
        .ok_or_else(|| "larger than this machine can address".to_owned())
}

/// Parses a size of at least one byte.
pub(crate) fn parse_nonzero_size(text: &str) -> Result<usize, String> {
    match parse_size(text)? {
        0 => Err("must be at least 1 byte".to_owned()),
        size => Ok(size),
    }
}

/// Parses a duration such as `5ms` or `1m 30s`, of at most a day.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; expected a duration such as 5ms or 5s"))?;
    if duration > LONGEST {
        return Err("must be at most a day".to_owned());
    }
    Ok(duration)
}

/// Parses a duration of more than zero.
pub(crate) fn parse_timeout(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than 0s".to_owned()),
        timeout => Ok(timeout),
    }
}

/// Parses the name of an encoding.
pub(crate) fn parse_encoding(text: &str) -> Result<Encoding, String> {
    text.parse()
        .map_err(|_| "expected msgpack or json".to_owned())
}

/// Parses a header written as `NAME=VALUE`.
pub(crate) fn parse_assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    header(name, value)
}

/// Parses a header written as `name: value`.
pub(crate) fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected 'name: value'")?;
    header(name, value)
}

/// Checks an endpoint, `/path`, `unix:/path`, `tcp://host:port` or that of a gRPC server, and
/// returns it unchanged.
pub(crate) fn parse_endpoint(text: &str) -> Result<String, String> {
    if is_haproxy(text) {
        return check_haproxy(text);
    }
    let is_local = is_tcp(text) || socket_path(text).starts_with('/');
    if is_local || (cfg!(feature = "grpc") && is_remote(text)) {
        return Ok(text.to_owned());
    }
    let expected = if cfg!(feature = "grpc") {
        "expected /path, unix:/path, tcp://host:port, or a gRPC endpoint such as grpc://host:port"
    } else if is_remote(text) {
        "this command was built without `grpc`; expected /path, unix:/path or tcp://host:port"
    } else {
        "expected /path, unix:/path or tcp://host:port"
    };
    Err(expected.to_owned())
}

/// Checks the endpoint of an agent that is asked as an agent or as Envoy does it, and returns it
/// unchanged.
pub(crate) fn parse_target(text: &str) -> Result<String, String> {
    match is_envoy(text) {
        true => check_envoy(text),
        false => parse_endpoint(text),
    }
}

/// Checks an endpoint to listen on and returns it unchanged. The library checks it in full.
pub(crate) fn parse_listen(text: &str) -> Result<String, String> {
    const WITH_GRPC: [&str; 4] = ["tls://", "tls+systemd:", "grpc+systemd:", "grpcs+systemd:"];
    let is_of = |scheme: &&str| text.starts_with(*scheme);
    if is_haproxy(text) {
        return check_haproxy(text);
    }
    if is_envoy(text) {
        return check_envoy(text);
    }
    if text.starts_with("systemd:") || (cfg!(feature = "grpc") && WITH_GRPC.iter().any(is_of)) {
        return Ok(text.to_owned());
    }
    if WITH_GRPC.iter().any(is_of) {
        return Err("this command was built without `grpc`".to_owned());
    }
    parse_endpoint(text)
}

/// Returns whether an endpoint is one at which Envoy asks an agent.
pub(crate) fn is_envoy(endpoint: &str) -> bool {
    ["envoy://", "envoys://", "envoy+unix://"]
        .iter()
        .any(|scheme| endpoint.starts_with(scheme))
}

/// Checks an endpoint for Envoy and returns it unchanged.
#[cfg(feature = "envoy")]
fn check_envoy(text: &str) -> Result<String, String> {
    match text.parse::<tollgate_envoy::EnvoyEndpoint>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(not(feature = "envoy"))]
fn check_envoy(_text: &str) -> Result<String, String> {
    Err("this command was built without `envoy`".to_owned())
}

/// Returns whether an endpoint looks like that of a gRPC server. The library checks it in full.
pub(crate) fn is_remote(endpoint: &str) -> bool {
    const SCHEMES: [&str; 5] = ["http://", "https://", "grpc://", "grpcs://", "grpc+unix://"];
    if is_envoy(endpoint) {
        return false;
    }
    let has_port = || {
        let (host, port) = endpoint.rsplit_once(':')?;
        (!host.contains('/')).then(|| port.parse::<u16>().ok())?
    };
    SCHEMES.iter().any(|scheme| endpoint.starts_with(scheme)) || has_port().is_some()
}

/// Returns whether an endpoint is one for HAProxy, or is meant to be.
pub(crate) fn is_haproxy(endpoint: &str) -> bool {
    endpoint.starts_with("haproxy://") || endpoint.starts_with("haproxy+unix:")
}

/// Checks an endpoint for HAProxy and returns it unchanged.
#[cfg(feature = "haproxy")]
fn check_haproxy(text: &str) -> Result<String, String> {
    match text.parse::<tollgate_haproxy::SpopEndpoint>() {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(not(feature = "haproxy"))]
fn check_haproxy(_text: &str) -> Result<String, String> {
    Err("this command was built without `haproxy`".to_owned())
}

/// Checks the endpoint of a proxy to dial and returns it unchanged.
pub(crate) fn parse_proxy(text: &str) -> Result<String, String> {
    let is_tls = has_address(text, "tls://");
    if is_tls && !cfg!(feature = "grpc") {
        return Err("this command was built without `grpc`".to_owned());
    }
    if is_tls || is_tcp(text) || socket_path(text).starts_with('/') {
        return Ok(text.to_owned());
    }
    Err("expected /path, unix:/path, tcp://host:port or tls://host:port".to_owned())
}

fn is_tcp(text: &str) -> bool {
    has_address(text, "tcp://")
}

fn has_address(text: &str, scheme: &str) -> bool {
    text.strip_prefix(scheme)
        .and_then(|address| address.rsplit_once(':'))
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Returns the socket path of a Unix endpoint.
pub(crate) fn socket_path(endpoint: &str) -> &str {
    endpoint.strip_prefix("unix:").unwrap_or(endpoint)
}

/// Checks the name and value of a header.
pub(crate) fn header(name: &str, value: &str) -> Result<(String, String), String> {
    let name = header_name(name)?;
    let value = value.trim();
    if value.contains(|character: char| character.is_control() && character != '\t') {
        return Err("a header value cannot contain control characters".to_owned());
    }
    Ok((name, value.to_owned()))
}

/// Checks the name of a header.
pub(crate) fn header_name(name: &str) -> Result<String, String> {
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("{name:?} is not a valid header name"));
    }
    Ok(name.to_owned())
}

/// Returns whether RFC 9110 allows this byte in a header name or method.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Parses an HTTP method.
pub(crate) fn parse_method(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err("not a valid HTTP method".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("0"), Ok(0));
        assert_eq!(parse_size("65536"), Ok(65536));
        assert_eq!(parse_size("64KiB"), Ok(65536));
        assert_eq!(parse_size("64 KiB"), Ok(65536));
        assert_eq!(parse_size("1MiB"), Ok(1 << 20));
        assert_eq!(parse_size("2GiB"), Ok(2 << 30));
        for wrong in [
            "",
            "KiB",
            "-1",
            "1.5MiB",
            "64KB",
            "64 x",
            "1é",
            "99999999999GiB",
        ] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        assert!(parse_nonzero_size("0KiB").is_err());
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("5ms"), Ok(Duration::from_millis(5)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for wrong in ["", "5", "ms", "-1s", "2days", "999999999999999999years"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert!(parse_timeout("0s").is_err());
    }

    #[test]
    fn encodings() {
        assert_eq!(parse_encoding("msgpack"), Ok(Encoding::MessagePack));
        assert_eq!(parse_encoding("json"), Ok(Encoding::Json));
        assert!(parse_encoding("bincode").is_err());
    }

    #[test]
    fn headers() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(parse_header("x-a: b: c"), pair("x-a", "b: c"));
        assert_eq!(parse_header("x-a:"), pair("x-a", ""));
        assert_eq!(parse_assignment("x-a=b=c"), pair("x-a", "b=c"));
        for wrong in ["", "x-a", ": b", "x a: b", "x-a: b\nx-c: d"] {
            assert!(parse_header(wrong).is_err(), "{wrong}");
        }
        assert!(parse_assignment("x-a: b").is_err());
    }

    #[test]
    fn endpoints() {
        assert_eq!(parse_endpoint("/run/a.sock"), Ok("/run/a.sock".to_owned()));
        assert_eq!(
            parse_endpoint("unix:/run/a.sock"),
            Ok("unix:/run/a.sock".to_owned())
        );
        assert_eq!(socket_path("unix:/run/a.sock"), "/run/a.sock");
        for remote in ["http://a", "grpcs://a:1", "grpc+unix:///run/a.sock", "a:1"] {
            assert!(is_remote(remote));
            assert_eq!(parse_endpoint(remote).is_ok(), cfg!(feature = "grpc"));
        }
        for wrong in ["", "unix:", "a.sock", "unix:a.sock", "tcp:/a"] {
            assert!(parse_endpoint(wrong).is_err(), "{wrong}");
            assert!(parse_proxy(wrong).is_err(), "{wrong}");
        }
        for proxy in [
            "/run/a.sock",
            "unix:/run/a.sock",
            "tcp://host:7000",
            "tcp://[::1]:7000",
        ] {
            assert_eq!(parse_proxy(proxy), Ok(proxy.to_owned()));
        }
        for wrong in ["tcp://host", "tcp://:7000", "tcp://host:70000"] {
            assert!(parse_proxy(wrong).is_err(), "{wrong}");
        }
    }
}
