//! TLS options: trusted authorities and this side's certificate.

use crate::exit::UsageError;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use tollgate::error::InvalidTls;
use tollgate::{TlsConfig, TlsServerConfig};

const HEADING: &str = "TLS";

/// This side's certificate and key.
#[derive(clap::Args, Default)]
struct IdentityOptions {
    /// Certificate to present, in PEM form, followed by its intermediate certificates
    #[arg(long, help_heading = HEADING, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM form
    #[arg(long, help_heading = HEADING, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// The peer's certificate that is accepted.
#[derive(clap::Args, Default)]
struct TrustOptions {
    /// Certificates of the authorities to trust, in PEM form; no others are trusted
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Name to request (SNI) and to expect in the peer's certificate [default: the endpoint's host]
    #[arg(long, help_heading = HEADING, value_name = "NAME")]
    tls_server_name: Option<String>,
    /// Do not verify the peer's certificate; anyone on the network path can then read and change
    /// all traffic
    #[arg(long, help_heading = HEADING, conflicts_with = "tls_ca")]
    dangerous_tls_without_verification: bool,
}

/// TLS options for connecting to an agent at `grpcs://`, `https://` or `envoys://`.
#[derive(clap::Args, Default)]
pub(crate) struct ClientTls {
    #[command(flatten)]
    trust: TrustOptions,
    #[command(flatten)]
    identity: IdentityOptions,
}

/// TLS options of an agent that listens, or dials proxies at `tls://`.
#[derive(clap::Args)]
pub(crate) struct AgentTls {
    #[command(flatten)]
    identity: IdentityOptions,
    /// Accept only proxies with a certificate of one of these authorities, in PEM form
    #[arg(
        long, help_heading = HEADING, value_name = "FILE", requires = "tls_cert",
        conflicts_with = "dial"
    )]
    tls_client_ca: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustOptions,
}

impl ClientTls {
    /// Returns the TLS configuration for the agent at `endpoint`.
    pub(crate) fn config(&self, endpoint: &str) -> Result<TlsConfig, UsageError> {
        if is_encrypted(endpoint) {
            return self.trust.config(&self.identity, endpoint);
        }
        self.ensure_unused(endpoint).map(|()| TlsConfig::default())
    }

    /// Returns an error if a TLS option was given. For endpoints without TLS.
    pub(crate) fn ensure_unused(&self, endpoint: &str) -> Result<(), UsageError> {
        self.trust.ensure_unused(endpoint)?;
        self.identity.ensure_unused(endpoint)
    }
}

impl AgentTls {
    /// Returns the TLS configuration for listening at endpoints, `None` for no TLS.
    pub(crate) fn listening(
        &self,
        endpoints: &[String],
    ) -> Result<Option<TlsServerConfig>, UsageError> {
        let all = endpoints.join(", ");
        self.trust.ensure_unused(&all)?;
        let has_tls = |endpoint: &String| is_encrypted(endpoint) || with_tls(endpoint) != *endpoint;
        if !endpoints.iter().any(has_tls) {
            return self.identity.ensure_unused(&all).map(|()| None);
        }
        let Some(identity) = self.identity.read()? else {
            let mut endpoints = endpoints.iter();
            return match endpoints.find(|endpoint| is_encrypted(endpoint)) {
                Some(endpoint) => {
                    let missing = "TLS needs a certificate; give it with --tls-cert and --tls-key";
                    Err(UsageError(format!("{endpoint}: {missing}")))
                }
                None => Ok(None),
            };
        };
        let mut config = identity.apply(TlsServerConfig::from_pem)?;
        if let Some(file) = &self.tls_client_ca {
            let pem = read(CLIENT_CA, file)?;
            config = config
                .with_client_roots_pem(&pem)
                .map_err(|error| unusable(&[(CLIENT_CA, file)], &error))?;
        }
        Ok(Some(config))
    }

    /// Returns the TLS configuration for dialing proxies.
    pub(crate) fn dialing(&self, proxies: &[String]) -> Result<TlsConfig, UsageError> {
        let mut encrypted = proxies.iter().filter(|proxy| is_encrypted(proxy));
        match encrypted.next() {
            Some(proxy) => self.trust.config(&self.identity, proxy),
            None => {
                let all = proxies.join(", ");
                self.trust.ensure_unused(&all)?;
                self.identity.ensure_unused(&all)?;
                Ok(TlsConfig::default())
            }
        }
    }
}

impl TrustOptions {
    fn config(&self, identity: &IdentityOptions, endpoint: &str) -> Result<TlsConfig, UsageError> {
        let mut config = TlsConfig::default();
        if let Some(file) = &self.tls_ca {
            let pem = read(CA, file)?;
            config = config
                .with_roots_pem(&pem)
                .map_err(|error| unusable(&[(CA, file)], &error))?;
        } else if self.dangerous_tls_without_verification {
            config = config.dangerous_without_verification();
        } else {
            let missing =
                "no authority is trusted; give certificates of trusted authorities with --tls-ca";
            return Err(UsageError(format!("{endpoint}: {missing}")));
        }
        if let Some(identity) = identity.read()? {
            config = identity.apply(|chain, key| config.with_identity_pem(chain, key))?;
        }
        if let Some(name) = &self.tls_server_name {
            config = config.with_server_name(name);
        }
        Ok(config)
    }

    fn ensure_unused(&self, endpoint: &str) -> Result<(), UsageError> {
        let options = [
            (self.tls_ca.is_some(), CA),
            (self.tls_server_name.is_some(), "--tls-server-name"),
            (
                self.dangerous_tls_without_verification,
                "--dangerous-tls-without-verification",
            ),
        ];
        match options.iter().find(|(is_given, _)| *is_given) {
            None => Ok(()),
            Some((_, option)) => Err(misplaced(option, endpoint)),
        }
    }
}

const CA: &str = "--tls-ca";
const CERT: &str = "--tls-cert";
const KEY: &str = "--tls-key";
const CLIENT_CA: &str = "--tls-client-ca";

/// The content of a certificate file and its key file.
struct Identity<'a> {
    files: [(&'static str, &'a Path); 2],
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl IdentityOptions {
    fn ensure_unused(&self, endpoint: &str) -> Result<(), UsageError> {
        match &self.tls_cert {
            None => Ok(()),
            Some(_) => Err(misplaced(CERT, endpoint)),
        }
    }

    fn read(&self) -> Result<Option<Identity<'_>>, UsageError> {
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(None);
        };
        Ok(Some(Identity {
            files: [(CERT, cert), (KEY, key)],
            chain: read(CERT, cert)?,
            key: read(KEY, key)?,
        }))
    }
}

impl Identity<'_> {
    fn apply<T>(
        &self,
        take: impl FnOnce(&[u8], &[u8]) -> Result<T, InvalidTls>,
    ) -> Result<T, UsageError> {
        take(&self.chain, &self.key).map_err(|error| unusable(&self.files, &error))
    }
}

/// Returns whether the scheme of an endpoint means TLS.
pub(crate) fn is_encrypted(endpoint: &str) -> bool {
    [
        "grpcs://",
        "https://",
        "tls://",
        "tls+",
        "grpcs+",
        "envoys://",
    ]
    .iter()
    .any(|scheme| endpoint.starts_with(scheme))
}

/// Returns the endpoint for a server that has a certificate: gRPC uses TLS then, whatever its
/// scheme.
pub(crate) fn with_tls(endpoint: &str) -> String {
    let address = ["grpc://", "http://"]
        .iter()
        .find_map(|scheme| endpoint.strip_prefix(scheme));
    match address {
        Some(address) => format!("grpcs://{address}"),
        None if is_encrypted(endpoint) || endpoint.contains('/') => endpoint.to_owned(),
        None if endpoint.starts_with("grpc+systemd:") => endpoint.replacen("grpc", "grpcs", 1),
        None if endpoint.starts_with("systemd:") => endpoint.to_owned(),
        None => format!("grpcs://{endpoint}"),
    }
}

fn read(option: &str, file: &Path) -> Result<Vec<u8>, UsageError> {
    std::fs::read(file).map_err(|error| file_error(&[(option, file)], &error))
}

fn unusable(files: &[(&str, &Path)], error: &InvalidTls) -> UsageError {
    file_error(files, &error.reason())
}

fn file_error(files: &[(&str, &Path)], cause: &dyn Display) -> UsageError {
    let files: Vec<_> = files
        .iter()
        .map(|(option, file)| format!("{option} {}", file.display()))
        .collect();
    UsageError(format!("{}: {cause}", files.join(", ")))
}

fn misplaced(option: &str, endpoint: &str) -> UsageError {
    UsageError(format!(
        "{option}: there is no TLS at {endpoint} that uses it"
    ))
}
