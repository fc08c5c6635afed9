//! Certificates for tests.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use crate::support::TestDir;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

/// A certificate authority for one test, with its certificate in a file.
pub(crate) struct Authority {
    pub(crate) file: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Paths of a certificate file and its key file.
pub(crate) struct Identity {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new(dir: &TestDir, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            file: dir.file(&format!("{name}.pem"), &pem),
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn identity(&self, dir: &TestDir, name: &str) -> Identity {
        self.identity_with(dir, name, |_| {})
    }

    pub(crate) fn identity_with(
        &self,
        dir: &TestDir,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity {
            cert: dir.file(&format!("{name}.crt"), &cert),
            key: dir.file(&format!("{name}.key"), &key.serialize_pem()),
        }
    }
}

impl Identity {
    pub(crate) fn options(&self) -> [&str; 4] {
        ["--tls-cert", &self.cert, "--tls-key", &self.key]
    }
}
