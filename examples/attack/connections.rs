//! Connections of attackers, byte by byte.

use crate::common::addresses::Address;
use crate::common::frames::{frame, receive};
use crate::payloads::{HANDSHAKE_REQUEST, offer_handshake};
use crate::places::Places;
use crate::tally::{count_connection, count_sent};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::sleep;

/// Time before an attacker that was rejected tries again.
const PAUSE: Duration = Duration::from_millis(10);

/// Messages of a burst that is sent again and again.
#[derive(Debug, Clone)]
pub(crate) struct Burst {
    pub(crate) bytes: Vec<u8>,
    pub(crate) messages: usize,
}

impl Burst {
    /// Returns a message so often that they are worth a system call.
    pub(crate) fn of(message: &[u8]) -> Self {
        const ENOUGH: usize = 256 * 1024;
        let messages = (ENOUGH / message.len()).max(1);
        Self {
            bytes: message.repeat(messages),
            messages,
        }
    }
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(crate) type Connection = Box<dyn Stream>;

/// Runs an attack `count` times at once, each again when it has ended.
pub(crate) async fn repeat(count: usize, attack: impl AsyncFn(usize) -> io::Result<()>) {
    let attack = &attack;
    let repeated = (0..count).map(|number| async move {
        loop {
            if attack(number).await.is_err() {
                sleep(PAUSE).await;
            }
        }
    });
    futures_util::future::join_all(repeated).await;
}

/// Connects to the server under attack: with even numbers over its Unix socket, else over TCP.
pub(crate) async fn connect(places: &Places, number: usize) -> io::Result<Connection> {
    connect_to(&places.server[number % 2]).await
}

pub(crate) async fn connect_to(address: &Address) -> io::Result<Connection> {
    let connection: Connection = match address {
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        Address::Tcp(address) => return Ok(Box::new(connect_tcp(*address).await?)),
    };
    count_connection();
    Ok(connection)
}

/// Connects from an address of this process, so that the other side sees a peer of its own.
pub(crate) async fn connect_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let [.., high, low] = std::process::id().to_be_bytes();
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 78, high, low), 0).into())?;
    let stream = socket.connect(address).await?;
    count_connection();
    Ok(stream)
}

/// Connects to the server under attack and completes the handshake.
pub(crate) async fn shake_hands(places: &Places, number: usize) -> io::Result<Connection> {
    let mut connection = connect(places, number).await?;
    let offer = offer_handshake().to_string();
    send(&mut connection, &frame(HANDSHAKE_REQUEST, offer.as_bytes())).await?;
    receive(&mut connection).await?;
    Ok(connection)
}

/// Sends a message, or the beginning of one.
pub(crate) async fn send(to: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    to.write_all(message).await?;
    count_sent(1, message.len());
    Ok(())
}

/// Reads and ignores everything until the other side closes the connection.
pub(crate) async fn drain(from: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    let mut received = vec![0; 64 * 1024];
    while from.read(&mut received).await? > 0 {}
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Sends a burst without a pause, and reads what comes back.
pub(crate) async fn flood(connection: Connection, burst: &Burst) -> io::Result<()> {
    let (mut receiving, mut sending): (ReadHalf<_>, WriteHalf<_>) = split(connection);
    let send = async {
        loop {
            sending.write_all(&burst.bytes).await?;
            count_sent(burst.messages, burst.bytes.len());
        }
    };
    tokio::select! {
        failed = send => failed,
        ended = drain(&mut receiving) => ended,
    }
}
