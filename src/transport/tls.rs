//! TLS 1.3 over TCP, with certificates from PEM.

use super::{Link, tcp};
use crate::connection::link::{Batch, LinkReceiver, LinkSender, MAX_SLICES};
use crate::error::{AgentProtocolError, ConnectError};
use bytes::BytesMut;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, Connection, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
use socket2::SockRef;
use std::fmt::{self, Display};
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client};

/// How the side that connects does TLS: whom it trusts, and who it says it is.
#[derive(Clone, Default)]
pub struct TlsConfig {
    roots: Vec<CertificateDer<'static>>,
    identity: Option<Identity>,
    server_name: Option<String>,
    trusts_everybody: bool,
}

/// How the side that listens does TLS: who it says it is, and whether whoever connects must say so too.
#[derive(Clone)]
pub struct TlsServerConfig {
    identity: Identity,
    client_roots: Vec<CertificateDer<'static>>,
}

/// A certificate, with those that lead to a root, and its key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl TlsConfig {
    /// Trusts servers whose certificate one of these signed; there are no others by default.
    ///
    /// # Errors
    ///
    /// [`InvalidTls`](AgentProtocolError::InvalidTls) if there is no certificate in the PEM text.
    pub fn with_roots_pem(mut self, pem: &[u8]) -> Result<Self, AgentProtocolError> {
        self.roots.extend(certificates(pem)?);
        Ok(self)
    }

    /// Shows a certificate to servers that ask for one.
    ///
    /// # Errors
    ///
    /// [`InvalidTls`](AgentProtocolError::InvalidTls) if the certificate or key is missing from the PEM texts.
    pub fn with_identity_pem(
        mut self,
        certificates: &[u8],
        key: &[u8],
    ) -> Result<Self, AgentProtocolError> {
        self.identity = Some(Identity::from_pem(certificates, key)?);
        Ok(self)
    }

    /// Expects this name in the server's certificate, in the place of the host that is connected to.
    #[must_use]
    pub fn with_server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Trusts whoever answers. Anybody on the way can then read and change everything, tokens included: for
    /// experiments.
    #[must_use]
    pub fn dangerous_without_verification(mut self) -> Self {
        self.trusts_everybody = true;
        self
    }

    /// Everything checked and ready to connect.
    pub(crate) fn connector(&self) -> Result<Connector, AgentProtocolError> {
        self.connector_of(self.client()?)
    }

    /// The same for HTTP/2.
    #[cfg(feature = "grpc")]
    pub(crate) fn http2_connector(&self) -> Result<Connector, AgentProtocolError> {
        let mut config = self.client()?;
        config.alpn_protocols = vec![HTTP2.to_vec()];
        self.connector_of(config)
    }

    fn connector_of(&self, config: ClientConfig) -> Result<Connector, AgentProtocolError> {
        let server_name = match &self.server_name {
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(invalid)?),
            None => None,
        };
        Ok(Connector {
            connector: TlsConnector::from(Arc::new(config)),
            server_name,
        })
    }

    fn client(&self) -> Result<ClientConfig, AgentProtocolError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(invalid)?;
        let builder = if self.trusts_everybody {
            let verifier = Arc::new(TrustEverybody(provider));
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        } else {
            builder.with_root_certificates(root_store(&self.roots)?)
        };
        match self.identity.clone() {
            Some(identity) => builder
                .with_client_auth_cert(identity.chain, identity.key)
                .map_err(invalid),
            None => Ok(builder.with_no_client_auth()),
        }
    }
}

impl TlsServerConfig {
    /// A server with this certificate, the ones that lead to its root behind it, and its key.
    ///
    /// # Errors
    ///
    /// [`InvalidTls`](AgentProtocolError::InvalidTls) if the certificate or key is missing from the PEM texts.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, AgentProtocolError> {
        Ok(Self {
            identity: Identity::from_pem(certificates, key)?,
            client_roots: Vec::new(),
        })
    }

    /// Asks for certificates, and takes those that one of these signed. An agent that connects to a proxy may then
    /// only register as a name that is in its certificate (a DNS name among the subject alternative names).
    ///
    /// # Errors
    ///
    /// [`InvalidTls`](AgentProtocolError::InvalidTls) if there is no certificate in the PEM text.
    pub fn with_client_roots_pem(mut self, pem: &[u8]) -> Result<Self, AgentProtocolError> {
        self.client_roots.extend(certificates(pem)?);
        Ok(self)
    }

    /// Whether whoever connects must show a certificate.
    pub(crate) fn asks_for_certificates(&self) -> bool {
        !self.client_roots.is_empty()
    }

    pub(crate) fn acceptor(&self) -> Result<Acceptor, AgentProtocolError> {
        Ok(Acceptor(TlsAcceptor::from(Arc::new(self.server()?))))
    }

    /// The same for HTTP/2.
    #[cfg(feature = "grpc")]
    pub(crate) fn http2_acceptor(&self) -> Result<Acceptor, AgentProtocolError> {
        let mut config = self.server()?;
        config.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(Acceptor(TlsAcceptor::from(Arc::new(config))))
    }

    fn server(&self) -> Result<ServerConfig, AgentProtocolError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(invalid)?;
        let builder = if self.asks_for_certificates() {
            let roots = Arc::new(root_store(&self.client_roots)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(invalid)?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let identity = self.identity.clone();
        builder
            .with_single_cert(identity.chain, identity.key)
            .map_err(invalid)
    }
}

impl Identity {
    fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, AgentProtocolError> {
        Ok(Self {
            chain: certificates(chain)?,
            key: PrivateKeyDer::from_pem_slice(key).map_err(invalid)?,
        })
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, AgentProtocolError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(invalid)?;
    if found.is_empty() {
        return Err(invalid("there is no certificate in it"));
    }
    Ok(found)
}

fn root_store(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, AgentProtocolError> {
    if roots.is_empty() {
        return Err(invalid("nobody is trusted: there are no root certificates"));
    }
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(invalid)?;
    }
    Ok(store)
}

fn invalid(reason: impl Display) -> AgentProtocolError {
    AgentProtocolError::InvalidTls {
        reason: reason.to_string(),
    }
}

/// What HTTP/2 is called where protocols are agreed on.
#[cfg(feature = "grpc")]
const HTTP2: &[u8] = b"h2";

/// Connects with TLS.
pub(crate) struct Connector {
    connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

/// Takes connections with TLS.
pub(crate) struct Acceptor(TlsAcceptor);

impl Connector {
    pub(crate) async fn connect(&self, host: &str, port: u16) -> Result<Link, ConnectError> {
        let (socket, session) = self.connect_stream(host, port).await?.into_inner();
        Ok(split(socket, session.into()))
    }

    /// Connects to a server that agrees to HTTP/2.
    #[cfg(feature = "grpc")]
    pub(crate) async fn connect_http2(
        &self,
        host: &str,
        port: u16,
    ) -> Result<tokio_rustls::TlsStream<TcpStream>, ConnectError> {
        let stream = self.connect_stream(host, port).await?;
        if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
            let reason = "the server does not speak HTTP/2 over TLS".to_owned();
            return Err(TlsFailure::Other(reason).into());
        }
        Ok(stream.into())
    }

    async fn connect_stream(
        &self,
        host: &str,
        port: u16,
    ) -> Result<client::TlsStream<TcpStream>, ConnectError> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned())
                .map_err(|error| TlsFailure::Other(error.to_string()))?,
        };
        let stream = tcp::connect_stream(host, port).await?;
        Ok(self.connector.connect(name, stream).await?)
    }
}

impl Acceptor {
    /// Shakes hands as a server; also returns the certificate that the client has shown.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(Link, Option<CertificateDer<'static>>), ConnectError> {
        let stream = self.0.accept(stream).await?;
        let (socket, session) = stream.into_inner();
        let certificate = session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|certificate| certificate.clone().into_owned());
        Ok((split(socket, session.into()), certificate))
    }

    /// Shakes hands as a server of HTTP/2.
    #[cfg(feature = "grpc")]
    pub(crate) async fn accept_http2(
        &self,
        stream: TcpStream,
    ) -> Result<tokio_rustls::TlsStream<TcpStream>, ConnectError> {
        Ok(self.0.accept(stream).await?.into())
    }
}

/// Whether a name is among those in a certificate.
pub(crate) fn is_named(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let (Ok(certificate), Ok(name)) = (
        ParsedCertificate::try_from(certificate),
        ServerName::try_from(name),
    ) else {
        return false;
    };
    verify_server_name(&certificate, &name).is_ok()
}

/// Why TLS did not come up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The other side's certificate is not valid any more.
    #[error("the certificate has expired")]
    CertificateExpired,
    /// The other side's certificate is not valid yet.
    #[error("the certificate is not valid yet")]
    CertificateNotYetValid,
    /// The other side's certificate is for another host.
    #[error("the certificate is for another host")]
    WrongHost,
    /// No authority that is trusted vouches for the other side's certificate.
    #[error("the certificate is from an unknown authority")]
    UnknownAuthority,
    /// The other side ended the handshake, for the reason that it gives.
    #[error("refused by the other side: {0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl TlsFailure {
    /// What an I/O error of a TLS stream was about, if it was about TLS.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match error {
            rustls::Error::InvalidCertificate(invalid) => match invalid {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    Self::CertificateExpired
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::CertificateNotYetValid
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::WrongHost,
                // Another authority of the same name has signed it.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    Self::UnknownAuthority
                }
                other => Self::Other(other.to_string()),
            },
            rustls::Error::AlertReceived(alert) => Self::Refused(format!("{alert:?}")),
            other => Self::Other(other.to_string()),
        })
    }
}

impl From<TlsFailure> for ConnectError {
    fn from(failure: TlsFailure) -> Self {
        Self::Tls(failure)
    }
}

/// Both halves of a connection. They take turns at the session, for no longer than encrypting takes.
struct Shared {
    socket: TcpStream,
    session: Mutex<Session>,
}

struct Session {
    tls: Connection,
    /// Bytes at the front of the sender's batch that are encrypted but not all sent. They are taken out of it once
    /// they are, so that a batch that is not empty always means that the link has no room.
    encrypted: usize,
}

struct TlsSender(Arc<Shared>);

struct TlsReceiver(Arc<Shared>);

fn split(socket: TcpStream, tls: Connection) -> Link {
    let shared = Arc::new(Shared {
        socket,
        session: Mutex::new(Session { tls, encrypted: 0 }),
    });
    Link {
        sender: Box::new(TlsSender(Arc::clone(&shared))),
        receiver: Box::new(TlsReceiver(shared)),
    }
}

impl Shared {
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Sends what is encrypted. Says whether all of it went.
    fn flush(&mut self, socket: &TcpStream) -> io::Result<bool> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Unbuffered(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Moves what is decrypted out.
    fn take_decrypted(&mut self, into: &mut BytesMut) -> io::Result<Decrypted> {
        let mut reader = self.tls.reader();
        let before = into.len();
        loop {
            let taken = match reader.fill_buf() {
                Ok([]) => 0,
                Ok(bytes) => {
                    into.extend_from_slice(bytes);
                    bytes.len()
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Decrypted::of(into.len() - before));
                }
                // Whether frames are whole is seen where they are read.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
                Err(error) => return Err(error),
            };
            if taken == 0 {
                return Ok(match into.len() - before {
                    0 => Decrypted::End,
                    bytes => Decrypted::Bytes(bytes),
                });
            }
            reader.consume(taken);
        }
    }
}

enum Decrypted {
    Nothing,
    Bytes(usize),
    End,
}

impl Decrypted {
    fn of(bytes: usize) -> Self {
        if bytes == 0 {
            Self::Nothing
        } else {
            Self::Bytes(bytes)
        }
    }
}

impl LinkSender for TlsSender {
    fn try_send(&self, batch: &mut Batch, recycle: &dyn Fn(Vec<u8>)) -> io::Result<()> {
        let mut session = self.0.session();
        loop {
            if !session.flush(&self.0.socket)? {
                return Ok(());
            }
            let sent = std::mem::take(&mut session.encrypted);
            if !batch.is_empty() {
                batch.advance(sent, recycle);
            }
            if batch.is_empty() {
                return Ok(());
            }
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let filled = batch.fill(&mut slices);
            session.encrypted = session.tls.writer().write_vectored(&slices[..filled])?;
        }
    }

    fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.socket.poll_write_ready(cx)
    }

    fn close(&self) {
        let mut session = self.0.session();
        session.tls.send_close_notify();
        // Fails only if the other side was quicker, or does not read.
        let _ = session.flush(&self.0.socket);
        let _ = SockRef::from(&self.0.socket).shutdown(Shutdown::Both);
    }
}

impl LinkReceiver for TlsReceiver {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let socket = &self.0.socket;
        loop {
            let mut session = self.0.session();
            match session.take_decrypted(into)? {
                Decrypted::Bytes(count) => return Poll::Ready(Ok(count)),
                Decrypted::End => return Poll::Ready(Ok(0)),
                Decrypted::Nothing => {}
            }
            match session.tls.read_tls(&mut Unbuffered(socket)) {
                Ok(_) => {
                    let processed = session.tls.process_new_packets();
                    // What the session has to say of its own, such as an alert; what does not go now goes with the next
                    // frame.
                    let _ = session.flush(socket);
                    processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    drop(session);
                    ready!(socket.poll_read_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// A socket that is read and written without waiting.
struct Unbuffered<'s>(&'s TcpStream);

impl Read for Unbuffered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Unbuffered<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct TrustEverybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustEverybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

/// Without the key.
impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("roots", &self.roots.len())
            .field("has_identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .field("trusts_everybody", &self.trusts_everybody)
            .finish()
    }
}

/// Without the key.
impl fmt::Debug for TlsServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServerConfig")
            .field("asks_for_certificates", &self.asks_for_certificates())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acceptor").finish_non_exhaustive()
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}
