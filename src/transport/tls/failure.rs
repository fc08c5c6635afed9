//! Why TLS handshakes fail.

use crate::error::{ConnectError, TlsFailure};
use rustls::CertificateError;
use std::fmt::Display;
use std::io;

/// Returns the error for a failed TLS handshake.
pub(super) fn handshake_error(error: io::Error) -> ConnectError {
    match error.downcast::<rustls::Error>() {
        Ok(error) => TlsFailure::from(&error).into(),
        Err(error) => error.into(),
    }
}

impl From<&rustls::Error> for TlsFailure {
    fn from(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(invalid) => match invalid {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    Self::CertificateExpired
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    Self::CertificateNotYetValid
                }
                CertificateError::NotValidForName
                | CertificateError::NotValidForNameContext { .. } => Self::WrongHost,
                // A bad signature means that an authority of the same name, but with another key,
                // issued it.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    Self::UnknownAuthority
                }
                CertificateError::Other(cause) => unusable(cause),
                other => unusable(other),
            },
            rustls::Error::AlertReceived(alert) => Self::Refused(format!("{alert:?}")),
            other => Self::Other(other.to_string()),
        }
    }
}

fn unusable(cause: &dyn Display) -> TlsFailure {
    TlsFailure::Other(format!("the certificate cannot be used: {cause}"))
}
