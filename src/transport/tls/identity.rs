//! Certificates and keys.

use crate::error::AgentProtocolError;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt::Display;

/// A certificate, with those that lead to a root, and its key.
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
    pub(super) fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, AgentProtocolError> {
        Ok(Self {
            chain: certificates(chain)?,
            key: PrivateKeyDer::from_pem_slice(key).map_err(invalid)?,
        })
    }
}

pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, AgentProtocolError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(invalid)?;
    if found.is_empty() {
        return Err(invalid("there is no certificate in it"));
    }
    Ok(found)
}

pub(super) fn root_store(
    roots: &[CertificateDer<'static>],
) -> Result<RootCertStore, AgentProtocolError> {
    if roots.is_empty() {
        return Err(invalid("nobody is trusted: there are no root certificates"));
    }
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(invalid)?;
    }
    Ok(store)
}

pub(super) fn invalid(reason: impl Display) -> AgentProtocolError {
    AgentProtocolError::InvalidTls {
        reason: reason.to_string(),
    }
}
