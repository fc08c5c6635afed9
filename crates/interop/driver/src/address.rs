use anyhow::Context;
use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

/// Address at which one side of a run listens: the path of a Unix socket, or a TCP address.
pub trait ListenAddress: Clone + Send + Sync + 'static {
    /// Reserves the address for as long as it exists.
    type Reservation;

    /// Reserves an address that is not in use. Sockets are created in `folder`.
    ///
    /// # Errors
    ///
    /// If no port is free.
    fn reserved(folder: &Path) -> anyhow::Result<(Self, Self::Reservation)>;

    /// Parses the result of [`to_argument`](Self::to_argument).
    ///
    /// # Errors
    ///
    /// If it is not such an address.
    fn from_argument(argument: &OsStr) -> anyhow::Result<Self>;

    /// Returns the address as a command-line argument.
    fn to_argument(&self) -> OsString;

    /// Returns whether a program listens at the address.
    fn is_listening(&self) -> impl Future<Output = bool> + Send;
}

impl ListenAddress for PathBuf {
    /// The folder belongs to this run.
    type Reservation = ();

    fn reserved(folder: &Path) -> anyhow::Result<(Self, ())> {
        Ok((folder.join("agent.sock"), ()))
    }

    fn from_argument(argument: &OsStr) -> anyhow::Result<Self> {
        Ok(argument.into())
    }

    fn to_argument(&self) -> OsString {
        self.as_os_str().to_owned()
    }

    async fn is_listening(&self) -> bool {
        UnixStream::connect(self).await.is_ok()
    }
}

impl ListenAddress for SocketAddr {
    type Reservation = TcpSocket;

    fn reserved(_folder: &Path) -> anyhow::Result<(Self, TcpSocket)> {
        let (port, address) = reserve_port().context("no port is free")?;
        Ok((address, port))
    }

    fn from_argument(argument: &OsStr) -> anyhow::Result<Self> {
        let text = argument.to_str().context("not a TCP address")?;
        text.parse().context("not a TCP address")
    }

    fn to_argument(&self) -> OsString {
        self.to_string().into()
    }

    async fn is_listening(&self) -> bool {
        TcpStream::connect(self).await.is_ok()
    }
}

/// Reserves a port on this machine for as long as the returned socket exists.
///
/// The system assigns the port to no other program. Since the socket does not listen, a program can
/// still bind this port explicitly with `SO_REUSEADDR`, which servers set before they listen.
///
/// # Errors
///
/// If no port is free.
pub fn reserve_port() -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, UnixListener};

    #[tokio::test]
    async fn addresses_are_free_until_a_program_listens() {
        let folder = tempfile::tempdir().unwrap();
        let (path, ()) = PathBuf::reserved(folder.path()).unwrap();
        assert!(!path.is_listening().await);
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(path.is_listening().await);

        let (address, _port) = SocketAddr::reserved(folder.path()).unwrap();
        assert!(!address.is_listening().await);
        let _listener = TcpListener::bind(address).await.unwrap();
        assert!(address.is_listening().await);
    }

    #[tokio::test]
    async fn addresses_are_read_back_from_arguments() {
        let folder = Path::new("/run/some where");
        let (path, ()) = PathBuf::reserved(folder).unwrap();
        assert_eq!(PathBuf::from_argument(&path.to_argument()).unwrap(), path);
        let (address, _port) = SocketAddr::reserved(folder).unwrap();
        let read = SocketAddr::from_argument(&address.to_argument()).unwrap();
        assert_eq!(read, address);
        assert!(SocketAddr::from_argument(path.as_os_str()).is_err());
    }
}
