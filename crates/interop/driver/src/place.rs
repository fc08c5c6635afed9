use anyhow::Context;
use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

/// Where one side of a run listens: the path of a Unix socket, or an address on this machine.
pub trait Place: Clone + Send + Sync + 'static {
    /// What keeps others from the place.
    type Reservation;

    /// A place that nobody else is given; files go into `folder`.
    ///
    /// # Errors
    ///
    /// If the system has no port left.
    fn reserved(folder: &Path) -> anyhow::Result<(Self, Self::Reservation)>;

    /// Reads what [`to_argument`](Self::to_argument) gave.
    ///
    /// # Errors
    ///
    /// If it is no such place.
    fn from_argument(argument: &OsStr) -> anyhow::Result<Self>;

    /// The place on a command line.
    fn to_argument(&self) -> OsString;

    /// Whether somebody listens there.
    fn is_listening(&self) -> impl Future<Output = bool> + Send;
}

impl Place for PathBuf {
    /// Nobody else has the folder.
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

impl Place for SocketAddr {
    type Reservation = TcpSocket;

    fn reserved(_folder: &Path) -> anyhow::Result<(Self, TcpSocket)> {
        let (port, address) = reserve_port().context("no port is left")?;
        Ok((address, port))
    }

    fn from_argument(argument: &OsStr) -> anyhow::Result<Self> {
        let text = argument.to_str().context("no address")?;
        text.parse().context("no address")
    }

    fn to_argument(&self) -> OsString {
        self.to_string().into()
    }

    async fn is_listening(&self) -> bool {
        TcpStream::connect(self).await.is_ok()
    }
}

/// A port on this machine that nobody is given unasked, for as long as the socket is held.
///
/// Since that does not listen, another one with the same option may be bound to its port by name, and programs set that
/// option before they listen.
///
/// # Errors
///
/// If the system has no port left.
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
    async fn places_are_free_until_somebody_listens() {
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
    async fn places_survive_a_command_line() {
        let folder = Path::new("/run/some where");
        let (path, ()) = PathBuf::reserved(folder).unwrap();
        assert_eq!(PathBuf::from_argument(&path.to_argument()).unwrap(), path);
        let (address, _port) = SocketAddr::reserved(folder).unwrap();
        let read = SocketAddr::from_argument(&address.to_argument()).unwrap();
        assert_eq!(read, address);
        assert!(SocketAddr::from_argument(path.as_os_str()).is_err());
    }
}
