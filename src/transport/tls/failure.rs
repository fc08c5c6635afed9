use crate::error::ConnectError;
use rustls::CertificateError;
use std::fmt::Display;
use std::io;

/// Why TLS did not come up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The other side's certificate is not valid any more.
    #[error("the certificate has expired")]
    CertificateExpired,
    /// The other side's certificate is not valid yet.
    #[error("the certificate is not valid yet")]
    CertificateNotYetValid,
    /// The other side's certificate is for another host.
    #[error("the certificate is for another host")]
    WrongHost,
    /// No authority that is trusted vouches for the other side's certificate.
    #[error("the certificate is from an unknown authority")]
    UnknownAuthority,
    /// The other side ended the handshake, for the reason that it gives.
    #[error("refused by the other side: {0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl TlsFailure {
    /// What an I/O error of a TLS stream was about, if it was about TLS.
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
                // Another authority of the same name has signed it.
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
