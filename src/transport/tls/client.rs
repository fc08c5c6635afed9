use super::HTTP2;
use super::failure::handshake_error;
use super::identity::{Identity, invalid, root_certificates, root_store};
use super::session::split;
use crate::configuration::setters;
use crate::connection::link::Link;
use crate::debug_fields::debug_fields;
use crate::error::{ConnectError, InvalidTls, TlsFailure};
use crate::transport::tcp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::fmt;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client};

/// TLS settings of the side that connects: which servers it trusts, and which certificate it
/// presents.
#[derive(Clone, Default)]
pub struct TlsConfig {
    roots: Vec<CertificateDer<'static>>,
    identity: Option<Identity>,
    server_name: Option<String>,
    skips_verification: bool,
}

impl TlsConfig {
    /// Trusts servers whose certificate was issued by one of these authorities. No others are
    /// trusted by default.
    ///
    /// # Errors
    ///
    /// [`InvalidTls`] if the PEM text contains no certificate, or
    /// one that is not usable.
    pub fn with_roots_pem(mut self, pem: &[u8]) -> Result<Self, InvalidTls> {
        self.roots.extend(root_certificates(pem)?);
        Ok(self)
    }

    /// Presents a certificate to servers that ask for one.
    ///
    /// # Errors
    ///
    /// [`InvalidTls`] if the certificate or the key is missing from
    /// the PEM texts, or if they do not match.
    pub fn with_identity_pem(
        mut self,
        certificates: &[u8],
        key: &[u8],
    ) -> Result<Self, InvalidTls> {
        self.identity = Some(Identity::from_pem(certificates, key)?);
        Ok(self)
    }

    setters! {
        /// Expects this name in the server's certificate, instead of the host that is connected to.
        with_server_name(self, name: impl Into<String>) => self.server_name = Some(name.into());

        /// Trusts every server. Anyone on the network path can then read and change all traffic,
        /// including tokens. Use it for experiments only.
        dangerous_without_verification(self) => self.skips_verification = true;
    }

    /// Checks the settings and returns a connector.
    pub(crate) fn connector(&self) -> Result<Connector, InvalidTls> {
        self.connector_of(self.client_config()?)
    }

    /// Like [`connector`](Self::connector), for HTTP/2.
    pub(crate) fn http2_connector(&self) -> Result<Connector, InvalidTls> {
        let mut config = self.client_config()?;
        config.alpn_protocols = vec![HTTP2.to_vec()];
        self.connector_of(config)
    }

    fn connector_of(&self, config: ClientConfig) -> Result<Connector, InvalidTls> {
        let server_name = match &self.server_name {
            Some(name) => Some(ServerName::try_from(name.clone()).map_err(|_| {
                invalid(format_args!(
                    "the server name {name:?} is neither a DNS name nor an IP address"
                ))
            })?),
            None => None,
        };
        Ok(Connector {
            connector: TlsConnector::from(Arc::new(config)),
            server_name,
        })
    }

    fn client_config(&self) -> Result<ClientConfig, InvalidTls> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(invalid)?;
        let builder = if self.skips_verification {
            let verifier = Arc::new(NoVerification(provider));
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

/// Opens TLS connections.
pub(crate) struct Connector {
    connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
}

impl Connector {
    pub(crate) async fn connect(&self, host: &str, port: u16) -> Result<Link, ConnectError> {
        let (socket, session) = self.connect_stream(host, port).await?.into_inner();
        Ok(split(socket, session.into()))
    }

    /// Connects to a server, which must agree to HTTP/2.
    pub(crate) async fn connect_http2(
        &self,
        host: &str,
        port: u16,
    ) -> Result<tokio_rustls::TlsStream<TcpStream>, ConnectError> {
        let stream = self.connect_stream(host, port).await?;
        if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
            let reason = "the server did not agree to HTTP/2 (ALPN `h2`)".to_owned();
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
        self.connector
            .connect(name, stream)
            .await
            .map_err(handshake_error)
    }
}

#[derive(Debug)]
struct NoVerification(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerification {
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

/// Leaves out the key.
impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("roots", &self.roots.len())
            .field("has_identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .field("skips_verification", &self.skips_verification)
            .finish()
    }
}

debug_fields!(Connector, |self|);
