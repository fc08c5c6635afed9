//! Why TLS handshakes fail.

use crate::error::{ConnectError, TlsFailure};
use rustls::CertificateError;
use std::fmt::Display;
use std::io;

/// Returns the error for a failed TLS handshake.
pub(super) fn handshake_error(error: io::Error) -> ConnectError {
    match error.downcast::<rustls::Error>() {
        Ok(error) => failure_of(&error).into(),
        Err(error) => error.into(),
    }
}

/// Returns why TLS failed. A function, as a conversion would be part of the API.
pub(in crate::transport) fn failure_of(error: &rustls::Error) -> TlsFailure {
    match error {
        rustls::Error::InvalidCertificate(invalid) => match invalid {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                TlsFailure::CertificateExpired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsFailure::CertificateNotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsFailure::WrongHost
            }
            // A bad signature means that an authority of the same name, but with another key,
            // issued it.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                TlsFailure::UnknownAuthority
            }
            CertificateError::Other(cause) => unusable(cause),
            other => unusable(other),
        },
        rustls::Error::AlertReceived(alert) => TlsFailure::Refused(format!("{alert:?}")),
        other => TlsFailure::Other(other.to_string()),
    }
}

fn unusable(cause: &dyn Display) -> TlsFailure {
    TlsFailure::Other(format!("the certificate cannot be used: {cause}"))
}
