//! Opens the sockets that a listener accepts agents on.

use super::config::{Authentication, ReverseConnectionConfig};
use super::listener::ReverseConnectionListener;
use super::socket::{ListenAddress, Socket};
use crate::error::BindError;
use crate::transport::{Endpoint, Existing, SocketFile, tcp};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
#[cfg(feature = "tls")]
use std::sync::Arc;
use tokio::net::{TcpListener, ToSocketAddrs, lookup_host};

impl ReverseConnectionListener {
    /// Listens on a Unix socket. A socket file that no process listens at is replaced.
    ///
    /// # Errors
    ///
    /// [`InvalidConfiguration`](BindError::InvalidConfiguration) if any peer could
    /// register, [`InvalidEndpoint`](BindError::InvalidEndpoint), or
    /// [`Listen`](BindError::Listen) if another process listens at the path, if the path
    /// is a file that is not a socket, or if the system call fails.
    pub async fn bind_uds(
        path: impl AsRef<Path>,
        config: ReverseConnectionConfig,
    ) -> Result<Self, BindError> {
        let path = Endpoint::from_path(path.as_ref())?;
        let address = ListenAddress::Unix(path.to_owned());
        check(&address, &config, Authentication::Identity)?;
        let (listener, file) = SocketFile::listen(
            path,
            config.socket_mode,
            config.backlog,
            Existing::Respected,
        )
        .await
        .map_err(|source| BindError::Listen {
            endpoint: address.to_string(),
            source,
        })?;
        let own_uid = Some(file.owner());
        let socket = Socket::Unix {
            listener,
            _file: file,
        };
        Ok(Self::new(socket, address, config, own_uid))
    }

    /// Listens on a TCP port without encryption: for loopback, or for a network that is encrypted
    /// by other means.
    ///
    /// # Errors
    ///
    /// [`InvalidConfiguration`](BindError::InvalidConfiguration) if any peer could
    /// register, or [`Listen`](BindError::Listen) if the host name has no address or the
    /// system call fails.
    pub async fn bind_tcp(
        address: impl ToSocketAddrs,
        config: ReverseConnectionConfig,
    ) -> Result<Self, BindError> {
        let (listener, address) = listen_tcp(address, &config, Authentication::None).await?;
        let address = ListenAddress::Tcp(address);
        Ok(Self::new(Socket::Tcp(listener), address, config, None))
    }

    /// Listens on a TCP port with TLS. If `tls` requires certificates, an agent may register only
    /// with ids that are names in its certificate.
    ///
    /// # Errors
    ///
    /// As for [`bind_tcp`](Self::bind_tcp), and [`InvalidTls`](BindError::InvalidTls) if
    /// the certificates are not usable.
    #[cfg(feature = "tls")]
    pub async fn bind_tls(
        address: impl ToSocketAddrs,
        tls: crate::TlsServerConfig,
        config: ReverseConnectionConfig,
    ) -> Result<Self, BindError> {
        let acceptor = Arc::new(tls.acceptor()?);
        let authentication = if tls.requires_certificates() {
            Authentication::Identity
        } else {
            Authentication::None
        };
        let (listener, address) = listen_tcp(address, &config, authentication).await?;
        let socket = Socket::Tls { listener, acceptor };
        Ok(Self::new(socket, ListenAddress::Tls(address), config, None))
    }

    /// Listens in a simulation, where every peer runs as root.
    #[cfg(feature = "__sim")]
    #[doc(hidden)]
    pub fn simulated(
        listener: impl crate::transport::simulated::Listener,
        config: ReverseConnectionConfig,
    ) -> Self {
        let socket = Socket::Simulated(Box::new(listener));
        Self::new(socket, ListenAddress::Simulated, config, Some(0))
    }
}

async fn listen_tcp(
    address: impl ToSocketAddrs,
    config: &ReverseConnectionConfig,
    authentication: Authentication,
) -> Result<(TcpListener, SocketAddr), BindError> {
    let unknown = |source| BindError::Listen {
        endpoint: "tcp".to_owned(),
        source,
    };
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in lookup_host(address).await.map_err(unknown)? {
        check(&ListenAddress::Tcp(address), config, authentication)?;
        let listening = tcp::listen(address, config.backlog)
            .and_then(|listener| Ok((listener.local_addr()?, listener)));
        match listening {
            Ok((address, listener)) => return Ok((listener, address)),
            Err(error) => failure = error,
        }
    }
    Err(unknown(failure))
}

fn check(
    address: &ListenAddress,
    config: &ReverseConnectionConfig,
    authentication: Authentication,
) -> Result<(), BindError> {
    match config.problem(authentication) {
        None => Ok(()),
        Some(reason) => Err(BindError::InvalidConfiguration {
            endpoint: address.to_string(),
            reason,
        }),
    }
}
