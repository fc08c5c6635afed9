//! Endpoints of gRPC servers.

use std::fmt;
use std::path::PathBuf;

/// Schemes, each with its default port.
const SCHEMES: [(&str, Security, Option<u16>); 4] = [
    ("http://", Security::Plain, Some(80)),
    ("https://", Security::Tls, Some(443)),
    ("grpc://", Security::Plain, None),
    ("grpcs://", Security::Tls, None),
];

/// The address of a gRPC server, and whether it uses TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrpcEndpoint {
    pub(crate) address: GrpcAddress,
    pub(crate) security: Security,
}

/// The address of a gRPC server, without its scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GrpcAddress {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    Plain,
    Tls,
}

impl GrpcEndpoint {
    /// Parses an endpoint. The error says what is wrong with it.
    pub(crate) fn parse(endpoint: &str) -> Result<Self, &'static str> {
        if let Some(path) = endpoint.strip_prefix("grpc+unix://") {
            return Ok(Self {
                address: GrpcAddress::Unix(path.into()),
                security: Security::Plain,
            });
        }
        let scheme = SCHEMES.iter().find_map(|&(scheme, security, port)| {
            let rest = endpoint.strip_prefix(scheme)?;
            Some((rest.strip_suffix('/').unwrap_or(rest), security, port))
        });
        let (authority, security, default_port) =
            scheme.unwrap_or((endpoint, Security::Plain, None));
        let (host, port) = split_authority(authority, default_port)?;
        Ok(Self {
            address: GrpcAddress::Tcp { host, port },
            security,
        })
    }
}

fn split_authority(
    authority: &str,
    default_port: Option<u16>,
) -> Result<(String, u16), &'static str> {
    let authority: http::uri::Authority = authority
        .parse()
        .map_err(|_| "expected a host and a port")?;
    if authority.as_str().contains('@') {
        return Err("a user name is not allowed");
    }
    let port = match authority.port() {
        Some(_) => authority.port_u16(),
        None if authority.as_str().ends_with(':') => None,
        None => default_port,
    };
    let host = authority.host();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        return Err("the host is empty");
    }
    let port = port.ok_or("the port is missing or invalid")?;
    Ok((host.to_owned(), port))
}

impl fmt::Display for GrpcEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.security {
            Security::Plain => "grpc",
            Security::Tls => "grpcs",
        };
        match &self.address {
            GrpcAddress::Unix(path) => write!(f, "grpc+unix://{}", path.display()),
            GrpcAddress::Tcp { host, port } if host.contains(':') => {
                write!(f, "{scheme}://[{host}]:{port}")
            }
            GrpcAddress::Tcp { host, port } => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

#[cfg(test)]
#[path = "../../../tests/unit/transport/grpc/endpoint.rs"]
mod tests;
