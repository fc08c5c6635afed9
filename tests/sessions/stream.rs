//! Sockets of misbehaving peers, plain and with TLS.

use crate::input::Edit;
use crate::run::Checked;
use crate::units::Framing;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::ring;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use socket2::Socket;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tollgate::{TlsConfig, TlsServerConfig};

/// Bytes of a TLS connection among which one may be changed. The handshake takes about 1,000 in
/// each direction.
const TLS_BYTES: u16 = 3_000;

/// Time limit of a peer for its own TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(1);

/// Carrier of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    Unix,
    Tls,
}

/// Connection of a peer.
pub struct PeerStream {
    pub stream: Box<dyn Duplex>,
    /// A second descriptor of the socket.
    pub socket: Socket,
}

pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Returns the path of a socket in a folder of this process. Whatever is there is removed.
pub fn socket_path(name: &str) -> PathBuf {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder"));
    let path = folder.path().join(name);
    // Most often there is nothing.
    let _ = std::fs::remove_file(&path);
    path
}

/// Certificate of all servers, which all clients trust.
fn certificate() -> &'static CertifiedKey<rcgen::KeyPair> {
    static CERTIFICATE: OnceLock<CertifiedKey<rcgen::KeyPair>> = OnceLock::new();
    CERTIFICATE.get_or_init(|| {
        generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate")
    })
}

/// TLS settings of a server of the library.
pub fn server_tls() -> TlsServerConfig {
    let CertifiedKey { cert, signing_key } = certificate();
    let (chain, key) = (cert.pem(), signing_key.serialize_pem());
    TlsServerConfig::from_pem(chain.as_bytes(), key.as_bytes()).expect("a valid certificate")
}

/// TLS settings of a client of the library.
pub fn client_tls() -> TlsConfig {
    let roots = certificate().cert.pem();
    let config = TlsConfig::default().with_roots_pem(roots.as_bytes());
    config.expect("a valid certificate")
}

fn alpn(framing: Framing) -> Vec<Vec<u8>> {
    match framing {
        Framing::Frames => Vec::new(),
        Framing::Http2 => vec![b"h2".to_vec()],
    }
}

fn connector(framing: Framing) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(certificate().cert.der().clone())
        .expect("a valid certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("a supported version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn(framing);
    Arc::new(config).into()
}

fn acceptor(framing: Framing) -> TlsAcceptor {
    let CertifiedKey { cert, signing_key } = certificate();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("a supported version")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .expect("a valid certificate");
    config.alpn_protocols = alpn(framing);
    Arc::new(config).into()
}

/// Connects to a server at a socket file.
pub async fn connect_unix(path: &Path) -> Checked<PeerStream> {
    let stream = UnixStream::connect(path).await.map_err(text)?;
    Ok(PeerStream::new(stream))
}

/// Connects to a server with TLS. `None` if the handshake fails, as it may after a change.
pub async fn connect_tls(
    address: SocketAddr,
    framing: Framing,
    edit: Option<Edit>,
) -> Checked<Option<PeerStream>> {
    let stream = TcpStream::connect(address).await.map_err(text)?;
    send_at_once(&stream);
    let socket = second_descriptor(&stream);
    let name = ServerName::from(address.ip());
    let handshake = connector(framing).connect(name, Changed::new(stream, edit));
    Ok(secured(timeout(HANDSHAKE_LIMIT, handshake).await, socket))
}

/// Listener of a misbehaving server.
pub enum PeerListener {
    Unix(UnixListener),
    Tls(TcpListener, TlsAcceptor),
}

impl PeerListener {
    /// Listens, and returns the endpoint too.
    pub async fn listen(carrier: Carrier, framing: Framing, name: &str) -> (Self, String) {
        match carrier {
            Carrier::Unix => {
                let path = socket_path(name);
                let endpoint = path.display().to_string();
                let listener = UnixListener::bind(path).expect("a free path");
                let endpoint = match framing {
                    Framing::Frames => endpoint,
                    Framing::Http2 => format!("grpc+unix://{endpoint}"),
                };
                (Self::Unix(listener), endpoint)
            }
            Carrier::Tls => {
                let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let address = listener.local_addr().expect("an address");
                let scheme = match framing {
                    Framing::Frames => "tls",
                    Framing::Http2 => "grpcs",
                };
                let endpoint = format!("{scheme}://{address}");
                (Self::Tls(listener, acceptor(framing)), endpoint)
            }
        }
    }

    /// Accepts a socket. The TLS handshake follows in [`Accepted::secure`].
    pub async fn accept(&self) -> Accepted {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await.expect("a free descriptor");
                Accepted::Unix(stream)
            }
            Self::Tls(listener, acceptor) => {
                let (stream, _) = listener.accept().await.expect("a free descriptor");
                send_at_once(&stream);
                Accepted::Tls(stream, acceptor.clone())
            }
        }
    }
}

/// A socket that a [`PeerListener`] has accepted.
pub enum Accepted {
    Unix(UnixStream),
    Tls(TcpStream, TlsAcceptor),
}

impl Accepted {
    /// Performs the TLS handshake, if there is one. `None` if it fails.
    pub async fn secure(self, edit: Option<Edit>) -> Option<PeerStream> {
        match self {
            Self::Unix(stream) => Some(PeerStream::new(stream)),
            Self::Tls(stream, acceptor) => {
                let socket = second_descriptor(&stream);
                let handshake = acceptor.accept(Changed::new(stream, edit));
                secured(timeout(HANDSHAKE_LIMIT, handshake).await, socket)
            }
        }
    }
}

impl PeerStream {
    fn new(stream: UnixStream) -> Self {
        let socket = second_descriptor(&stream);
        Self {
            stream: Box::new(stream),
            socket,
        }
    }
}

fn secured<S: Duplex + 'static, E>(
    handshake: Result<io::Result<S>, E>,
    socket: Socket,
) -> Option<PeerStream> {
    let stream = handshake.ok()?.ok()?;
    Some(PeerStream {
        stream: Box::new(stream),
        socket,
    })
}

/// Lets the kernel not wait for acknowledgements, which would take real time.
fn send_at_once(stream: &TcpStream) {
    stream.set_nodelay(true).expect("an open socket");
}

fn second_descriptor(socket: &impl AsFd) -> Socket {
    let descriptor = socket.as_fd().try_clone_to_owned();
    descriptor.expect("a free descriptor").into()
}

pub fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A socket below TLS. One change is made in what is sent: at any byte of the handshake, or after
/// it.
struct Changed {
    stream: TcpStream,
    sent: usize,
    edit: Option<Edit>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Changed {
    fn new(stream: TcpStream, edit: Option<Edit>) -> Self {
        Self {
            stream,
            sent: 0,
            edit,
            pause: None,
        }
    }

    fn change(&mut self, edit: Edit, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
        let (value, length) = (usize::from(edit.value), buf.len());
        match edit.operation % 7 {
            0 => {
                let byte = [buf[0] ^ 1 << (value % 8)];
                ready!(stream.poll_write(cx, &byte))?;
            }
            1 => drop(ready!(stream.poll_write(cx, &[edit.value]))?),
            // Bytes are missing, the first of them anyway.
            2 => {
                self.edit = None;
                return Poll::Ready(Ok(length.min(value + 1)));
            }
            3 => {
                ready!(stream.poll_write(cx, &[edit.value; 9]))?;
                self.edit = None;
                return Pin::new(&mut self.stream).poll_write(cx, buf);
            }
            // Nothing more is sent.
            4 => return Poll::Ready(Ok(length)),
            5 => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            _ => {
                let time = Duration::from_millis(u64::from(edit.value) * 3);
                let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(time)));
                ready!(pause.as_mut().poll(cx));
                self.edit = None;
                return Pin::new(&mut self.stream).poll_write(cx, buf);
            }
        }
        self.edit = None;
        Poll::Ready(Ok(1))
    }
}

impl AsyncWrite for Changed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut length = buf.len();
        if let Some(edit) = self.edit {
            let remaining = usize::from(edit.at % TLS_BYTES).saturating_sub(self.sent);
            if remaining == 0 && length > 0 {
                return self.change(edit, cx, buf);
            }
            length = length.min(remaining);
        }
        let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, &buf[..length]))?;
        self.sent += sent;
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Changed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}
