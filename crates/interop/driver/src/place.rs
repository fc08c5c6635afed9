use anyhow::Context;
use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use tokio::net::{TcpStream, UnixStream};

/// Where one side of a run listens: the path of a Unix socket, or an address on this machine.
pub trait Place: Clone + Send + Sync + 'static {
    /// A place that nobody uses; files go into `folder`.
    ///
    /// # Errors
    ///
    /// If the system has no port left.
    fn unused(folder: &Path) -> anyhow::Result<Self>;

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
    fn unused(folder: &Path) -> anyhow::Result<Self> {
        Ok(folder.join("agent.sock"))
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
    fn unused(_folder: &Path) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is left")?;
        Ok(listener.local_addr()?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn places_are_free_until_somebody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = PathBuf::unused(folder.path()).unwrap();
        assert!(!path.is_listening().await);
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(path.is_listening().await);

        let address = SocketAddr::unused(folder.path()).unwrap();
        assert!(!address.is_listening().await);
        let _listener = TcpListener::bind(address).unwrap();
        assert!(address.is_listening().await);
    }

    #[test]
    fn places_survive_a_command_line() {
        let folder = Path::new("/run/some where");
        let path = PathBuf::unused(folder).unwrap();
        assert_eq!(PathBuf::from_argument(&path.to_argument()).unwrap(), path);
        let address = SocketAddr::unused(folder).unwrap();
        let read = SocketAddr::from_argument(&address.to_argument()).unwrap();
        assert_eq!(read, address);
        assert!(SocketAddr::from_argument(path.as_os_str()).is_err());
    }
}
