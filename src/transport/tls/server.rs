use super::HTTP2;
use super::failure::handshake_error;
use super::identity::{Identity, invalid, root_certificates, root_store};
use super::session::split;
use crate::connection::link::Link;
use crate::debug_fields::debug_fields;
use crate::error::{ConnectError, InvalidTls};
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use webpki::EndEntityCert;

/// TLS settings of the side that listens: its certificate, and whether clients must present one.
#[derive(Clone)]
pub struct TlsServerConfig {
    identity: Identity,
    client_roots: Vec<CertificateDer<'static>>,
}

impl TlsServerConfig {
    /// Creates the settings with a certificate (followed by its chain to a root) and its private
    /// key.
    ///
    /// # Errors
    ///
    /// [`InvalidTls`] if the certificate or the key is missing from
    /// the PEM texts, or if they do not match.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, InvalidTls> {
        Ok(Self {
            identity: Identity::from_pem(certificates, key)?,
            client_roots: Vec::new(),
        })
    }

    /// Requires a certificate from each client that was issued by one of these authorities. An
    /// agent that connects to a proxy can then register only with an id that is in its certificate
    /// (a DNS name among the subject alternative names).
    ///
    /// # Errors
    ///
    /// [`InvalidTls`] if the PEM text contains no certificate, or
    /// one that is not usable.
    pub fn with_client_roots_pem(mut self, pem: &[u8]) -> Result<Self, InvalidTls> {
        self.client_roots.extend(root_certificates(pem)?);
        Ok(self)
    }

    /// Returns whether clients must present a certificate.
    pub(crate) fn requires_certificates(&self) -> bool {
        !self.client_roots.is_empty()
    }

    pub(crate) fn acceptor(&self) -> Result<Acceptor, InvalidTls> {
        Ok(Acceptor(TlsAcceptor::from(Arc::new(self.server_config()?))))
    }

    /// Like [`acceptor`](Self::acceptor), for HTTP/2.
    pub(crate) fn http2_acceptor(&self) -> Result<Acceptor, InvalidTls> {
        let mut config = self.server_config()?;
        config.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(Acceptor(TlsAcceptor::from(Arc::new(config))))
    }

    fn server_config(&self) -> Result<ServerConfig, InvalidTls> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(invalid)?;
        let builder = if self.requires_certificates() {
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

/// Accepts TLS connections.
pub(crate) struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// Performs the server's handshake. Also returns the client's certificate, if it presented one.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
    ) -> Result<(Link, Option<CertificateDer<'static>>), ConnectError> {
        let stream = self.0.accept(stream).await.map_err(handshake_error)?;
        let (socket, session) = stream.into_inner();
        let certificate = session
            .peer_certificates()
            .and_then(|chain| chain.first())
            .map(|certificate| certificate.clone().into_owned());
        Ok((split(socket, session.into()), certificate))
    }

    /// Performs the server's handshake and returns the stream as a whole.
    pub(crate) async fn accept_stream(
        &self,
        stream: TcpStream,
    ) -> Result<tokio_rustls::server::TlsStream<TcpStream>, ConnectError> {
        self.0.accept(stream).await.map_err(handshake_error)
    }
}

/// Returns whether a certificate is valid for an agent id: one of its DNS names is spelled exactly
/// like the id, or is a wildcard for it. So a name in a certificate stands for one id.
pub(crate) fn is_valid_for(certificate: &CertificateDer<'_>, id: &str) -> bool {
    let (Ok(parsed), Ok(certificate), Ok(name @ ServerName::DnsName(_))) = (
        ParsedCertificate::try_from(certificate),
        EndEntityCert::try_from(certificate),
        ServerName::try_from(id),
    ) else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok()
        && certificate
            .valid_dns_names()
            .any(|name| name == id || is_wildcard_for(name, id))
}

fn is_wildcard_for(name: &str, id: &str) -> bool {
    let (domain, parent) = (name.strip_prefix("*."), id.split_once('.'));
    domain.is_some() && domain == parent.map(|(_, parent)| parent)
}

// Leaves out the key.
debug_fields!(TlsServerConfig, |self| requires_certificates: self.requires_certificates());

debug_fields!(Acceptor, |self|);
