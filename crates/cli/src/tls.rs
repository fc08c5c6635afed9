//! TLS as options have it: whom to trust, and who to be.

use crate::exit::UsageError;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use tollgate::{AgentProtocolError, TlsConfig, TlsServerConfig};

const HEADING: &str = "TLS over gRPC";

/// Whom this side says it is.
#[derive(clap::Args, Default)]
struct IdentityOptions {
    /// The certificate to show, with those that lead to its authority behind it, in PEM form
    #[arg(long, help_heading = HEADING, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM form
    #[arg(long, help_heading = HEADING, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// How to talk to an agent at grpcs:// or https://.
#[derive(clap::Args, Default)]
pub(crate) struct ClientTls {
    /// Trust agents whose certificate one of these authorities has signed, in PEM form
    #[arg(long, help_heading = HEADING, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    #[command(flatten)]
    identity: IdentityOptions,
    /// Ask for this name and expect it in the agent's certificate, in the place of the endpoint's host
    #[arg(long, help_heading = HEADING, value_name = "NAME")]
    tls_server_name: Option<String>,
    /// Trust whoever answers; anybody on the way can then read and change everything
    #[arg(long, help_heading = HEADING, conflicts_with = "tls_ca")]
    dangerous_tls_without_verification: bool,
}

/// How an agent that listens does TLS.
#[derive(clap::Args)]
pub(crate) struct ServerTls {
    #[command(flatten)]
    identity: IdentityOptions,
    /// Only let in proxies whose certificate one of these authorities has signed, in PEM form
    #[arg(long, help_heading = HEADING, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
}

impl ClientTls {
    /// What the options say about the agent at `endpoint`.
    pub(crate) fn config(&self, endpoint: &str) -> Result<TlsConfig, UsageError> {
        let mut config = TlsConfig::default();
        if !is_encrypted(endpoint) {
            return self.refuse(endpoint).map(|()| config);
        }
        if let Some(file) = &self.tls_ca {
            let pem = read(CA, file)?;
            config = config
                .with_roots_pem(&pem)
                .map_err(|error| unusable(&[(CA, file)], &error))?;
        } else if self.dangerous_tls_without_verification {
            config = config.dangerous_without_verification();
        } else {
            let missing = "no authority is trusted; give the certificates of some with --tls-ca";
            return Err(UsageError(format!("{endpoint}: {missing}")));
        }
        if let Some(identity) = self.identity.read()? {
            config = identity.used_by(|chain, key| config.with_identity_pem(chain, key))?;
        }
        if let Some(name) = &self.tls_server_name {
            config = config.with_server_name(name);
        }
        Ok(config)
    }

    /// Refuses the options where there is no TLS.
    pub(crate) fn refuse(&self, endpoint: &str) -> Result<(), UsageError> {
        let options = [
            (self.tls_ca.is_some(), CA),
            (self.identity.tls_cert.is_some(), CERT),
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

impl ServerTls {
    /// What the options say about listening at an address of gRPC; `None` is no TLS.
    pub(crate) fn config(&self, endpoint: &str) -> Result<Option<TlsServerConfig>, UsageError> {
        if endpoint.starts_with("grpc+unix://") {
            return self.refuse(endpoint).map(|()| None);
        }
        let Some(identity) = self.identity.read()? else {
            if is_encrypted(endpoint) {
                let missing = "TLS needs a certificate; give it with --tls-cert and --tls-key";
                return Err(UsageError(format!("{endpoint}: {missing}")));
            }
            return Ok(None);
        };
        let mut config = identity.used_by(TlsServerConfig::from_pem)?;
        if let Some(file) = &self.tls_client_ca {
            let pem = read(CLIENT_CA, file)?;
            config = config
                .with_client_roots_pem(&pem)
                .map_err(|error| unusable(&[(CLIENT_CA, file)], &error))?;
        }
        Ok(Some(config))
    }

    /// Refuses the options where there is no TLS.
    pub(crate) fn refuse(&self, endpoint: &str) -> Result<(), UsageError> {
        match &self.identity.tls_cert {
            None => Ok(()),
            Some(_) => Err(misplaced(CERT, endpoint)),
        }
    }
}

const CA: &str = "--tls-ca";
const CERT: &str = "--tls-cert";
const KEY: &str = "--tls-key";
const CLIENT_CA: &str = "--tls-client-ca";

/// A certificate and its key as they stand in their files.
struct Identity<'a> {
    files: [(&'static str, &'a Path); 2],
    chain: Vec<u8>,
    key: Vec<u8>,
}

impl IdentityOptions {
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
    fn used_by<T>(
        &self,
        take: impl FnOnce(&[u8], &[u8]) -> Result<T, AgentProtocolError>,
    ) -> Result<T, UsageError> {
        take(&self.chain, &self.key).map_err(|error| unusable(&self.files, &error))
    }
}

/// Whether an endpoint is one of TLS by its scheme.
fn is_encrypted(endpoint: &str) -> bool {
    ["grpcs://", "https://"]
        .iter()
        .any(|scheme| endpoint.starts_with(scheme))
}

fn read(option: &str, file: &Path) -> Result<Vec<u8>, UsageError> {
    std::fs::read(file).map_err(|error| wrong(&[(option, file)], &error))
}

fn unusable(files: &[(&str, &Path)], error: &AgentProtocolError) -> UsageError {
    match error {
        AgentProtocolError::InvalidTls { reason } => wrong(files, reason),
        other => wrong(files, other),
    }
}

fn wrong(files: &[(&str, &Path)], cause: &dyn Display) -> UsageError {
    let files: Vec<_> = files
        .iter()
        .map(|(option, file)| format!("{option} {}", file.display()))
        .collect();
    UsageError(format!("{}: {cause}", files.join(", ")))
}

fn misplaced(option: &str, endpoint: &str) -> UsageError {
    UsageError(format!("{option}: there is no TLS at {endpoint}"))
}
