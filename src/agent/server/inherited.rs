//! Sockets that the process was started with, as systemd's socket activation passes them: their
//! number is in `LISTEN_FDS`, and their descriptors begin at 3.

use listenfd::ListenFd;
use socket2::SockRef;
use std::env;
use std::io;
use std::os::fd::{AsFd, IntoRawFd};
use std::sync::{Mutex, PoisonError};
use tokio::net::{TcpListener, UnixListener};

/// Most sockets that are accepted, far more than any service has.
const MAX_SOCKETS: usize = 1024;

/// The inherited sockets that were not taken yet.
static INHERITED: Mutex<Option<Inherited>> = Mutex::new(None);

struct Inherited {
    sockets: ListenFd,
    /// The name of each socket. Empty if no names were given.
    names: Vec<String>,
}

/// A socket that listens.
#[derive(Debug)]
pub(super) enum ListeningSocket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Takes the inherited sockets with a name, or all if the name is empty. Each is taken once.
pub(super) fn take(name: &str) -> io::Result<Vec<ListeningSocket>> {
    let mut inherited = INHERITED.lock().unwrap_or_else(PoisonError::into_inner);
    let inherited = match &mut *inherited {
        Some(inherited) => inherited,
        // The variables are read once, as reading removes them.
        none => none.insert(Inherited::from_env()?),
    };
    let mut taken = Vec::new();
    for number in 0..inherited.sockets.len() {
        let has_name = || inherited.names.get(number).is_some_and(|own| own == name);
        if (name.is_empty() || has_name())
            && let Some(socket) = take_one(&mut inherited.sockets, number)?
        {
            taken.push(socket);
        }
    }
    if taken.is_empty() {
        return Err(invalid(if name.is_empty() {
            "all inherited sockets are in use".to_owned()
        } else {
            format!("no inherited socket is named '{name}' (LISTEN_FDNAMES)")
        }));
    }
    Ok(taken)
}

impl Inherited {
    fn from_env() -> io::Result<Self> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let count = env::var("LISTEN_FDS")
            .map_err(|_| invalid("no sockets were inherited: LISTEN_FDS is not set".to_owned()))?;
        let pid = env::var("LISTEN_PID").unwrap_or_default();
        if !matches!(count.parse(), Ok(1..=MAX_SOCKETS)) {
            return Err(invalid(format!(
                "LISTEN_FDS is '{count}': expected a number from 1 to {MAX_SOCKETS}"
            )));
        }
        let sockets = ListenFd::from_env();
        if sockets.len() == 0 {
            return Err(invalid(format!(
                "LISTEN_PID is '{pid}': the sockets are meant for another process"
            )));
        }
        let names = names.split(':').map(str::to_owned).collect();
        Ok(Self { sockets, names })
    }
}

/// Takes a socket, or `None` if it was taken before.
fn take_one(sockets: &mut ListenFd, number: usize) -> io::Result<Option<ListeningSocket>> {
    if let Ok(socket) = sockets.take_unix_listener(number) {
        let open = |socket| UnixListener::from_std(socket).map(ListeningSocket::Unix);
        return socket.map(|socket| adopt(socket, number, open)).transpose();
    }
    let socket = sockets
        .take_tcp_listener(number)
        .map_err(|_| fault(number, "is neither a Unix nor a TCP stream socket"))?;
    let open = |socket| TcpListener::from_std(socket).map(ListeningSocket::Tcp);
    socket.map(|socket| adopt(socket, number, open)).transpose()
}

fn adopt<S: AsFd + IntoRawFd>(
    socket: S,
    number: usize,
    open: impl FnOnce(S) -> io::Result<ListeningSocket>,
) -> io::Result<ListeningSocket> {
    if !SockRef::from(&socket).is_listener().unwrap_or(false) {
        // With a wrong `LISTEN_FDS` this is a socket of another part of the process, so it must not
        // be closed.
        let _ = socket.into_raw_fd();
        return Err(fault(number, "does not listen"));
    }
    SockRef::from(&socket).set_nonblocking(true)?;
    open(socket)
}

fn fault(number: usize, what: &str) -> io::Error {
    invalid(format!(
        "inherited socket {number}, counted from 0, {what} (LISTEN_FDS)"
    ))
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}
