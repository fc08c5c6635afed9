//! TLS 1.3 over TCP, with certificates from PEM.

mod client;
mod failure;
mod identity;
mod server;
mod session;

pub(crate) use client::Connector;
pub use client::TlsConfig;
#[cfg(feature = "grpc")]
pub(in crate::transport) use failure::failure_of;
pub use server::TlsServerConfig;
pub(crate) use server::{Acceptor, is_valid_for};

/// The ALPN name of HTTP/2.
const HTTP2: &[u8] = b"h2";
