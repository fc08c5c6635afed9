use crate::error::ConnectError;
use rustls::CertificateError;
use std::fmt::Display;
use std::io;

/// Reasons for which a TLS handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The peer's certificate has expired.
    #[error("the certificate has expired")]
    CertificateExpired,
    /// The peer's certificate is not valid yet.
    #[error("the certificate is not valid yet")]
    CertificateNotYetValid,
    /// The peer's certificate is for another host.
    #[error("the certificate is for another host")]
    WrongHost,
    /// No trusted authority issued the peer's certificate.
    #[error("the certificate is from an unknown authority")]
    UnknownAuthority,
    /// The peer rejected the handshake with this alert.
    #[error("rejected by the peer: {0}")]
    Refused(String),
    /// Any other failure.
    #[error("{0}")]
    Other(String),
}

impl TlsFailure {
    /// Returns the TLS failure in an I/O error of a TLS stream, if it contains one.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match error {
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
                CertificateError::Other(cause) => Self::unusable(&cause),
                other => Self::unusable(other),
            },
            rustls::Error::AlertReceived(alert) => Self::Refused(format!("{alert:?}")),
            other => Self::Other(other.to_string()),
        })
    }

    fn unusable(cause: &dyn Display) -> Self {
        Self::Other(format!("the certificate cannot be used: {cause}"))
    }
}

impl From<TlsFailure> for ConnectError {
    fn from(failure: TlsFailure) -> Self {
        Self::Tls(failure)
    }
}
