//! A relay between pool and agent that stalls, loses data and resets connections on command.

use crate::Failure;
use crate::common::addresses::Address;
use socket2::SockRef;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf,
    WriteHalf,
};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

const BUFFER: usize = 64 * 1024;

/// Treatment of received data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Forward,
    /// Data stays unread and is forwarded later.
    Stall,
    /// Data is lost. Connections that lost some are reset afterwards.
    Lose,
}

#[derive(Debug, Clone, Copy)]
struct Control {
    mode: Mode,
    /// Number of times that all connections were reset.
    resets: u64,
}

/// Relays connections until standard input is closed, and executes the commands read from it.
pub(crate) async fn serve(listen: &Address, target: &Address) -> Result<(), Failure> {
    let control = watch::Sender::new(Control {
        mode: Mode::Forward,
        resets: 0,
    });
    let listener = Listener::bind(listen).await?;
    println!("ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(command) => control.send_modify(|control| execute(control, &command)),
                None => return Ok(()),
            },
            accepted = listener.accept() => {
                let (target, control) = (target.clone(), control.subscribe());
                let accepted = accepted?;
                // The result does not matter: both peers notice that the connection ended.
                tokio::spawn(async move { relay(accepted, &target, control).await.is_ok() });
            }
        }
    }
}

fn execute(control: &mut Control, command: &str) {
    match command {
        "forward" => control.mode = Mode::Forward,
        "stall" => control.mode = Mode::Stall,
        "lose" => control.mode = Mode::Lose,
        "reset" => control.resets += 1,
        other => panic!("unknown command {other:?}"),
    }
}

async fn relay(
    accepted: Stream,
    target: &Address,
    mut control: watch::Receiver<Control>,
) -> io::Result<()> {
    let resets = control.borrow().resets;
    let connected = connect(target).await?;
    let (from_client, to_client) = tokio::io::split(accepted);
    let (from_target, to_target) = tokio::io::split(connected);
    let sent = pump(from_client, to_target, control.clone());
    let answered = pump(from_target, to_client, control.clone());
    let is_reset = pin!(control.wait_for(|control| control.resets != resets));
    tokio::select! {
        ended = async { tokio::try_join!(sent, answered) } => ended.map(|_| ()),
        _ = is_reset => Ok(()),
    }
}

async fn pump(
    mut from: ReadHalf<Stream>,
    mut to: WriteHalf<Stream>,
    mut control: watch::Receiver<Control>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut has_lost = false;
    loop {
        let mode = control.borrow_and_update().mode;
        if mode == Mode::Forward && has_lost {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let read = tokio::select! {
            biased;
            changed = control.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return Ok(()),
            },
            read = from.read(&mut buffer), if mode != Mode::Stall => read?,
        };
        if read == 0 {
            return to.shutdown().await;
        }
        if mode == Mode::Lose {
            has_lost = true;
        } else {
            to.write_all(&buffer[..read]).await?;
        }
    }
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

type Stream = Box<dyn Socket>;

async fn connect(target: &Address) -> io::Result<Stream> {
    Ok(match target {
        Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        Address::Tcp(address) => Box::new(configure(TcpStream::connect(address).await?)?),
    })
}

/// Lets frames leave at once, and makes the kernel reset the connection when it is closed.
fn configure(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(stream)
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    async fn bind(address: &Address) -> io::Result<Self> {
        Ok(match address {
            Address::Unix(path) => Self::Unix(UnixListener::bind(path)?),
            Address::Tcp(address) => Self::Tcp(TcpListener::bind(address).await?),
        })
    }

    async fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
            Self::Tcp(listener) => Box::new(configure(listener.accept().await?.0)?),
        })
    }
}
