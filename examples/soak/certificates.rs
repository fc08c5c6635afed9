//! The certificate that all processes of a run share, and the TLS settings made of it.

use crate::Failure;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::Path;
use tollgate::{TlsConfig, TlsServerConfig};

/// Name of every server, instead of its address.
const SERVER: &str = "soak";

const ROOT: &str = "root.pem";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// Creates a certificate for servers, and for agents with these ids.
pub(crate) fn create(directory: &Path, ids: Vec<String>) -> Result<(), Failure> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let mut names = ids;
    names.push(SERVER.to_owned());
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    std::fs::write(directory.join(ROOT), issuer.pem())?;
    std::fs::write(directory.join(CERTIFICATE), certificate.pem())?;
    std::fs::write(directory.join(KEY), key.serialize_pem())?;
    Ok(())
}

/// Returns the settings of a server that accepts only clients with the certificate.
pub(crate) fn server(directory: &Path) -> Result<TlsServerConfig, Failure> {
    let read = |name| std::fs::read(directory.join(name));
    let config = TlsServerConfig::from_pem(&read(CERTIFICATE)?, &read(KEY)?)?;
    Ok(config.with_client_roots_pem(&read(ROOT)?)?)
}

/// Returns the settings of a client that has the certificate.
pub(crate) fn client(directory: &Path) -> Result<TlsConfig, Failure> {
    let read = |name| std::fs::read(directory.join(name));
    let config = TlsConfig::default()
        .with_roots_pem(&read(ROOT)?)?
        .with_identity_pem(&read(CERTIFICATE)?, &read(KEY)?)?;
    Ok(config.with_server_name(SERVER))
}
