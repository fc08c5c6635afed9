#[cfg(feature = "grpc")]
use super::HTTP2;
use super::identity::{Identity, authorities, invalid, root_store};
use super::session::split;
use crate::connection::link::Link;
use crate::error::{AgentProtocolError, ConnectError};
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use std::fmt;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// How the side that listens does TLS: who it says it is, and whether whoever connects must say so too.
#[derive(Clone)]
pub struct TlsServerConfig {
    identity: Identity,
    client_roots: Vec<CertificateDer<'static>>,
}

impl TlsServerConfig {
    /// A server with this certificate, the ones that lead to its root behind it, and its key.
    ///
    /// # Errors
    ///
    /// [`InvalidTls`](AgentProtocolError::InvalidTls) if the certificate or key is missing from the PEM texts, or they do not
    /// belong together.
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
    /// [`InvalidTls`](AgentProtocolError::InvalidTls) if there is no certificate in the PEM text, or one that cannot be used.
    pub fn with_client_roots_pem(mut self, pem: &[u8]) -> Result<Self, AgentProtocolError> {
        self.client_roots.extend(authorities(pem)?);
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

/// Takes connections with TLS.
pub(crate) struct Acceptor(TlsAcceptor);

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
