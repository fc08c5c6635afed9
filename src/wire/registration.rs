//! Registration messages, which replace the handshake on reverse connections. They are always JSON.

use super::decode::DecodeError;
use super::handshake::{WireCapabilities, from_json, to_json};
use super::{Dialect, Encoding, Extension, TollgateObject};
use crate::debug_fields::debug_fields;
use crate::protocol::{AgentCapabilities, PROTOCOL_VERSION};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize, Serializer};

/// First message of a reverse connection, sent by the agent.
#[derive(PartialEq, Serialize, Deserialize)]
pub(crate) struct RegistrationRequest {
    pub(crate) protocol_version: u32,
    pub(crate) agent_id: String,
    pub(crate) capabilities: WireCapabilities,
    #[serde(default)]
    pub(crate) auth_token: Option<String>,
    /// Accepted with any content and ignored.
    #[serde(default, serialize_with = "serialize_null")]
    metadata: IgnoredAny,
    /// Offer of the tollgate extension.
    #[serde(default, skip_serializing_if = "TollgateObject::is_absent")]
    pub(crate) tollgate: TollgateObject<RegistrationOffer>,
}

/// Versions of the tollgate extension and encodings that an agent supports, in order of preference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RegistrationOffer {
    #[serde(default)]
    versions: Vec<u64>,
    /// Names of encodings. Not [`Encoding`]s, since an unknown name must not invalidate the
    /// message.
    #[serde(default)]
    encodings: Vec<String>,
}

/// Proxy's response to a [`RegistrationRequest`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RegistrationResponse {
    pub(crate) success: bool,
    #[serde(default)]
    pub(crate) error: Option<String>,
    #[serde(default)]
    pub(crate) proxy_id: String,
    #[serde(default)]
    proxy_version: String,
    #[serde(default)]
    pub(crate) connection_id: String,
    #[serde(default, skip_serializing_if = "TollgateObject::is_absent")]
    pub(crate) tollgate: TollgateObject<RegistrationChoice>,
}

/// Version of the tollgate extension and encoding that a proxy chose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RegistrationChoice {
    version: u64,
    #[serde(default)]
    encoding: Encoding,
}

/// A choice by the proxy that the agent did not offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotOffered {
    Extension,
    Encoding,
}

impl RegistrationRequest {
    /// Creates the request of an agent that offers the tollgate extension and these encodings.
    pub(crate) fn new(
        agent_id: &str,
        capabilities: &AgentCapabilities,
        token: Option<&str>,
        encodings: &[Encoding],
    ) -> Self {
        Self {
            protocol_version: PROTOCOL_VERSION,
            agent_id: agent_id.to_owned(),
            capabilities: capabilities.into(),
            auth_token: token.map(str::to_owned),
            metadata: IgnoredAny,
            tollgate: TollgateObject::from(Some(RegistrationOffer {
                versions: Extension::ALL.map(Extension::number).into(),
                encodings: encodings.iter().map(Encoding::to_string).collect(),
            })),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        from_json("registration request", payload)
    }

    /// Returns whether the agent uses the protocol version of this crate.
    pub(crate) fn supports_our_version(&self) -> bool {
        self.protocol_version == PROTOCOL_VERSION
    }

    /// Chooses the dialect of the connection.
    ///
    /// The extension is used in the first version that the agent offers and `extensions` contains,
    /// with the first of the agent's encodings that is in `accepted`. If there is no such version,
    /// the encoding is JSON, the only one that the protocol has on reverse connections without the
    /// extension.
    pub(crate) fn negotiate(&self, accepted: &[Encoding], extensions: &[Extension]) -> Dialect {
        let Some(offer) = self.tollgate.extension() else {
            return Dialect::zentinel(Encoding::Json);
        };
        let mut offered = offer.versions.iter().copied();
        let chosen = offered.find_map(|number| {
            let mut known = extensions.iter().copied();
            known.find(|version| version.number() == number)
        });
        let Some(extension) = chosen else {
            return Dialect::zentinel(Encoding::Json);
        };
        let encoding = offer
            .encodings
            .iter()
            .filter_map(|name| name.parse().ok())
            .find(|encoding| accepted.contains(encoding))
            .unwrap_or(Encoding::Json);
        Dialect::new(encoding, Some(extension))
    }
}

impl RegistrationResponse {
    pub(crate) fn accept(proxy_id: &str, connection_id: String, dialect: Dialect) -> Self {
        Self {
            success: true,
            error: None,
            proxy_id: proxy_id.to_owned(),
            proxy_version: env!("CARGO_PKG_VERSION").to_owned(),
            connection_id,
            tollgate: TollgateObject::from(dialect.extension.map(|extension| RegistrationChoice {
                version: extension.number(),
                encoding: dialect.encoding,
            })),
        }
    }

    /// Creates a rejection, which discloses neither a reason nor anything about the proxy.
    pub(crate) fn reject() -> Self {
        Self {
            success: false,
            error: Some("rejected".to_owned()),
            proxy_id: String::new(),
            proxy_version: String::new(),
            connection_id: String::new(),
            tollgate: TollgateObject::ABSENT,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    pub(crate) fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        from_json("registration response", payload)
    }

    /// Returns the dialect that the proxy chose.
    ///
    /// Fails if the proxy chose an extension or encoding that was not offered.
    pub(crate) fn dialect(&self, offered: &[Encoding]) -> Result<Dialect, NotOffered> {
        let Some(choice) = self.tollgate.extension() else {
            return Ok(Dialect::zentinel(Encoding::Json));
        };
        let extension = Extension::from_number(choice.version).ok_or(NotOffered::Extension)?;
        // Every agent supports JSON, so it need not be offered.
        if choice.encoding != Encoding::Json && !offered.contains(&choice.encoding) {
            return Err(NotOffered::Encoding);
        }
        Ok(Dialect::new(choice.encoding, Some(extension)))
    }
}

fn serialize_null<S: Serializer>(_: &IgnoredAny, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_none()
}

// Omits the token, which is a secret.
debug_fields!(RegistrationRequest, |self|
    protocol_version: self.protocol_version, agent_id: self.agent_id,
    capabilities: self.capabilities, tollgate: self.tollgate,
);

#[cfg(test)]
#[path = "../../tests/unit/wire/registration.rs"]
mod tests;
