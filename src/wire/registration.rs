//! Registration messages, which replace the handshake on reverse connections. They are always JSON.

use super::decode::DecodeError;
use super::handshake::{WireCapabilities, from_json, to_json};
use super::{Dialect, Encoding, Extension};
use crate::protocol::{AgentCapabilities, PROTOCOL_VERSION};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

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
    /// Offer of the tollgate extension. Other implementations ignore this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tollgate: Option<RegistrationOffer>,
}

/// Versions of the tollgate extension and encodings that an agent supports, in order of preference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RegistrationOffer {
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tollgate: Option<RegistrationChoice>,
}

/// Version of the tollgate extension and encoding that a proxy chose.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct RegistrationChoice {
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
            tollgate: Some(RegistrationOffer {
                versions: vec![Extension::V1.number()],
                encodings: encodings.iter().map(Encoding::to_string).collect(),
            }),
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
    /// If `extension` is given and the agent offers it, it is used, and the encoding is the first
    /// of the agent's preferences that is in `accepted`. Otherwise the encoding is JSON, the only
    /// one that the protocol has on reverse connections without the extension.
    pub(crate) fn negotiate(&self, accepted: &[Encoding], extension: Option<Extension>) -> Dialect {
        let Some(offer) = &self.tollgate else {
            return Dialect::zentinel(Encoding::Json);
        };
        let is_offered = |wanted: &Extension| offer.versions.contains(&wanted.number());
        let Some(extension) = extension.filter(is_offered) else {
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
            tollgate: dialect.extension.map(|extension| RegistrationChoice {
                version: extension.number(),
                encoding: dialect.encoding,
            }),
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
            tollgate: None,
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
        let Some(choice) = self.tollgate else {
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

/// Omits the token, which is a secret.
impl fmt::Debug for RegistrationRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrationRequest")
            .field("protocol_version", &self.protocol_version)
            .field("agent_id", &self.agent_id)
            .field("capabilities", &self.capabilities)
            .field("tollgate", &self.tollgate)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const BOTH: [Encoding; 2] = [Encoding::MessagePack, Encoding::Json];

    fn request(encodings: &[Encoding]) -> RegistrationRequest {
        let capabilities = AgentCapabilities::new("a", "A", "1");
        RegistrationRequest::new("a", &capabilities, Some("secret"), encodings)
    }

    fn without_offer(mut change: impl FnMut(&mut Value)) -> RegistrationRequest {
        let mut value: Value = serde_json::from_slice(&request(&BOTH).encode()).unwrap();
        value.as_object_mut().unwrap().remove("tollgate");
        change(&mut value);
        RegistrationRequest::decode(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn request_has_the_fields_of_the_protocol() {
        let value: Value = serde_json::from_slice(&request(&BOTH).encode()).unwrap();
        assert_eq!(value["protocol_version"], 2);
        assert_eq!(value["agent_id"], "a");
        assert_eq!(value["auth_token"], "secret");
        assert_eq!(value["metadata"], Value::Null);
        assert_eq!(value["capabilities"]["limits"]["max_concurrency"], 100);
        let offer = json!({"versions": [1], "encodings": ["msgpack", "json"]});
        assert_eq!(value["tollgate"], offer);
    }

    #[test]
    fn response_has_the_fields_of_the_protocol() {
        let dialect = Dialect::zentinel(Encoding::Json);
        let response = RegistrationResponse::accept("p", "a-1".to_owned(), dialect);
        let value: Value = serde_json::from_slice(&response.encode()).unwrap();
        let expected = json!({
            "success": true, "error": null, "proxy_id": "p", "connection_id": "a-1",
            "proxy_version": env!("CARGO_PKG_VERSION"),
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn both_sides_negotiate_the_same_dialect() {
        let request = request(&BOTH);
        for (accepted, extension, expected) in [
            (&BOTH[..], Some(Extension::V1), Encoding::MessagePack),
            (&[Encoding::Json], Some(Extension::V1), Encoding::Json),
            (&BOTH, None, Encoding::Json),
        ] {
            let request = RegistrationRequest::decode(&request.encode()).unwrap();
            let dialect = request.negotiate(accepted, extension);
            assert_eq!(dialect.encoding, expected);
            assert_eq!(dialect.extension, extension);
            let response = RegistrationResponse::accept("p", String::new(), dialect).encode();
            let response = RegistrationResponse::decode(&response).unwrap();
            assert_eq!(response.dialect(&BOTH), Ok(dialect));
        }
    }

    #[test]
    fn json_is_used_without_an_acceptable_offer() {
        let extension = Some(Extension::V1);
        let plain = Dialect::zentinel(Encoding::Json);
        for offer in [
            json!(null),
            json!({}),
            json!({"versions": [7], "encodings": ["msgpack"]}),
        ] {
            let request = without_offer(|value| value["tollgate"] = offer.clone());
            assert_eq!(request.negotiate(&BOTH, extension), plain, "{offer}");
        }
        assert_eq!(without_offer(|_| {}).negotiate(&BOTH, extension), plain);
    }

    #[test]
    fn metadata_of_any_type_is_accepted() {
        for metadata in [json!(null), json!({"zone": ["a", 1]}), json!("text")] {
            let request = without_offer(|value| value["metadata"] = metadata.clone());
            assert_eq!(request.agent_id, "a");
        }
        let bare = json!({"protocol_version": 2, "agent_id": "a", "capabilities": {}});
        let bare = RegistrationRequest::decode(bare.to_string().as_bytes()).unwrap();
        assert_eq!(bare.auth_token, None);
    }

    #[test]
    fn choice_that_was_not_offered_is_an_error() {
        let response = |choice| {
            let value = json!({"success": true, "tollgate": choice});
            RegistrationResponse::decode(value.to_string().as_bytes()).unwrap()
        };
        let binary = response(json!({"version": 1, "encoding": "msgpack"}));
        assert_eq!(binary.dialect(&[Encoding::Json]), Err(NotOffered::Encoding));
        let newer = response(json!({"version": 2}));
        assert_eq!(newer.dialect(&BOTH), Err(NotOffered::Extension));
    }

    #[test]
    fn debug_output_omits_the_token() {
        assert!(!format!("{:?}", request(&BOTH)).contains("secret"));
    }
}
