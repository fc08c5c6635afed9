//! Certificates and keys, parsed from PEM.

use crate::error::InvalidTls;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use std::fmt::Display;

/// A certificate with its chain to a root, and its private key.
pub(super) struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl Identity {
    pub(super) fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, InvalidTls> {
        let identity = Self {
            chain: certificates(chain)?,
            key: PrivateKeyDer::from_pem_slice(key)
                .map_err(|error| pem_error("private key", &error))?,
        };
        identity.check()?;
        Ok(identity)
    }

    /// Checks that the certificate and the key are usable and match.
    fn check(&self) -> Result<(), InvalidTls> {
        let Self { chain, key } = self.clone();
        let checked = CertifiedKey::from_der(chain, key, &ring::default_provider());
        checked.map(drop).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                invalid("the private key is not that of the certificate")
            }
            other => invalid(other),
        })
    }
}

pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
    const WHAT: &str = "certificate";
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| pem_error(WHAT, &error))?;
    if found.is_empty() {
        return Err(pem_error(WHAT, &pem::Error::NoItemsFound));
    }
    Ok(found)
}

/// Parses the certificates of authorities.
pub(super) fn root_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, InvalidTls> {
    let found = certificates(pem)?;
    root_store(&found)?;
    Ok(found)
}

fn pem_error(what: &str, error: &pem::Error) -> InvalidTls {
    match error {
        pem::Error::NoItemsFound => invalid(format_args!("no {what} found in the PEM text")),
        pem::Error::MissingSectionEnd { .. } => {
            invalid(format_args!("the {what} in PEM form is cut short"))
        }
        pem::Error::IllegalSectionStart { .. } => {
            invalid(format_args!("the {what} begins with an invalid PEM line"))
        }
        other => invalid(format_args!("the {what} is not valid PEM: {other}")),
    }
}

pub(super) fn root_store(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, InvalidTls> {
    if roots.is_empty() {
        return Err(invalid(
            "there are no root certificates, so no peer would be trusted",
        ));
    }
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(invalid)?;
    }
    Ok(store)
}

pub(super) fn invalid(reason: impl Display) -> InvalidTls {
    InvalidTls::new(reason.to_string())
}
