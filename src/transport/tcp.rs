use super::socket::{SocketReceiver, SocketSender};
use crate::connection::link::Link;
use crate::error::ConnectError;
use crate::wire::MAX_FRAME_LEN;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

/// How long a connection is silent before the system asks whether the other side is still there.
const KEEPALIVE_TIME: Duration = Duration::from_secs(15);

/// How long the system waits between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Questions that may stay unanswered.
const KEEPALIVE_RETRIES: u32 = 3;

/// How long what was sent may stay unacknowledged.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to the first address of a name that answers. The name is resolved anew each time.
pub(super) async fn connect(host: &str, port: u16) -> Result<Link, ConnectError> {
    Ok(split_tcp(connect_stream(host, port).await?))
}

pub(super) async fn connect_stream(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host((host, port))
        .await
        .map_err(ConnectError::Unresolved)?
    {
        match TcpStream::connect(address).await.and_then(prepared) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure.into())
}

/// Listens with room for `backlog` connections that nobody has accepted yet.
pub(crate) fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // So that a proxy that restarts has its port again at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// Sets what every connection needs: small frames leave at once, and a peer that is gone without a word is
/// noticed even where nobody sends pings.
pub(crate) fn prepared(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_TIME)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(stream)
}

/// The two halves of a connected socket.
pub(crate) fn split_tcp(stream: TcpStream) -> Link {
    let (read, write) = stream.into_split();
    Link {
        sender: Box::new(SocketSender(write)),
        receiver: Box::new(SocketReceiver(read)),
        max_frame: MAX_FRAME_LEN,
    }
}
