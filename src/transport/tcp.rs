//! TCP links.

use super::socket::link;
use crate::connection::link::Link;
use crate::error::ConnectError;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

/// Silence on a connection after which the kernel probes whether the peer is still there.
const KEEPALIVE_TIME: Duration = Duration::from_secs(15);

/// Interval between two keepalive probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Unanswered keepalive probes after which the connection is lost.
const KEEPALIVE_RETRIES: u32 = 3;

/// Time that sent data may stay unacknowledged before the connection is lost.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects to the first address of a host that accepts. The name is resolved on every call.
pub(super) async fn connect(host: &str, port: u16) -> Result<Link, ConnectError> {
    Ok(split_tcp(connect_stream(host, port).await?))
}

pub(crate) async fn connect_stream(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in lookup_host((host, port))
        .await
        .map_err(ConnectError::Unresolved)?
    {
        match TcpStream::connect(address).await.and_then(configure) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure.into())
}

/// Listens at an address. The kernel keeps up to `backlog` connections until they are accepted.
pub(crate) fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Allows a restarted proxy to bind the port while old connections are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// Sets the options of every connection: small frames are sent without delay, and a peer that
/// vanishes is noticed even if no pings are sent.
pub(crate) fn configure(stream: TcpStream) -> io::Result<TcpStream> {
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

/// Splits a connected socket into the halves of a link.
pub(crate) fn split_tcp(stream: TcpStream) -> Link {
    let (read, write) = stream.into_split();
    link(write, read)
}
