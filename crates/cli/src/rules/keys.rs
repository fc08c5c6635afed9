//! The values of the keys of a rule.

use super::checked;
use super::rule::HeaderCondition;
use crate::values::{header, header_name, parse_duration, parse_method};
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Deserializer};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use tollgate::events::normal_path;
use tollgate::{Decision, HeaderOp};

/// Defines types that wrap the result of a function for the text of a value.
macro_rules! checked_texts {
    ($($(#[$doc:meta])* $name:ident($inner:ty) by $parse:expr;)*) => {$(
        $(#[$doc])*
        pub(super) struct $name(pub(super) $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                checked::text(deserializer, |text| $parse(text).map(Self))
            }
        }
    )*};
}

checked_texts! {
    /// Prefix of normal paths.
    PathPrefix(String) by parse_path_prefix;
    /// HTTP method.
    Method(String) by parse_method;
    /// Address or network of clients.
    Address(IpNet) by parse_network;
    /// Text to search for.
    Text(String) by parse_text;
    /// Name of a header.
    Name(String) by header_name;
    /// Delay of an answer.
    Wait(Duration) by parse_duration;
}

impl Default for Wait {
    fn default() -> Self {
        Self(Duration::ZERO)
    }
}

/// Parses a prefix of paths, in any spelling.
pub(crate) fn parse_path_prefix(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("the path {text:?} does not begin with `/`"));
    }
    if text.contains(['?', '#']) {
        return Err(format!(
            "{text:?} is not a path: it has a query or a fragment"
        ));
    }
    Ok(normal_path(text).into_owned())
}

/// Parses a text to search bodies for.
pub(crate) fn parse_text(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("the text to search for is empty".to_owned());
    }
    Ok(text.to_owned())
}

/// Parses an address or a network. A mapped IPv4 address counts as that IPv4 address.
fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().map_err(|_| {
            format!("{text:?} is neither an address nor a network such as 192.0.2.0/24")
        })?,
    };
    let mapped = match network.addr() {
        IpAddr::V6(address) => address.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    };
    let prefix = network.prefix_len().checked_sub(96);
    match mapped.zip(prefix) {
        Some((address, prefix)) => Ipv4Net::new(address, prefix)
            .map(IpNet::V4)
            .map_err(|error| error.to_string()),
        None => Ok(network),
    }
}

/// The key `header`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderText {
    name: Name,
    contains: String,
}

impl From<HeaderText> for HeaderCondition {
    fn from(text: HeaderText) -> Self {
        Self {
            name: text.name.0,
            contains: text.contains.to_lowercase(),
        }
    }
}

/// Name and value of a header.
pub(super) struct Pair {
    name: String,
    value: String,
}

impl<'de> Deserialize<'de> for Pair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked::texts(deserializer, |parts| match parts {
            [name, value] => Self::new(name, value),
            _ => Err(r#"expected a pair such as ["name", "value"]"#.to_owned()),
        })
    }
}

impl Pair {
    fn new(name: &str, value: &str) -> Result<Self, String> {
        let (name, value) = header(name, value)?;
        Ok(Self { name, value })
    }

    pub(super) fn set(self) -> HeaderOp {
        let Self { name, value } = self;
        HeaderOp::Set { name, value }
    }

    pub(super) fn add(self) -> HeaderOp {
        let Self { name, value } = self;
        HeaderOp::Add { name, value }
    }
}

/// An item of `operations`.
pub(super) struct Operation(pub(super) HeaderOp);

impl<'de> Deserialize<'de> for Operation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        checked::texts(deserializer, |parts| match parts {
            ["set", name, value] => Pair::new(name, value).map(|pair| Self(pair.set())),
            ["add", name, value] => Pair::new(name, value).map(|pair| Self(pair.add())),
            ["remove", name] => header_name(name).map(|name| Self(HeaderOp::Remove { name })),
            _ => Err(OPERATIONS.to_owned()),
        })
    }
}

const OPERATIONS: &str =
    r#"expected ["set", "name", "value"], ["add", "name", "value"] or ["remove", "name"]"#;

/// The key `block`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Block {
    #[serde(default)]
    status: BlockStatus,
    body: Option<String>,
    headers: Option<Vec<Pair>>,
}

impl Block {
    /// Returns the decision, and the values of repeated headers after the first, which the decision
    /// has no place for.
    pub(super) fn into_verdict(self) -> (Decision, Vec<HeaderOp>) {
        let mut repeated = Vec::new();
        let headers = self.headers.map(|pairs| {
            let mut headers: HashMap<String, String> = HashMap::new();
            for pair in pairs {
                let mut names = headers.keys();
                if names.any(|name| name.eq_ignore_ascii_case(&pair.name)) {
                    repeated.push(pair.add());
                } else {
                    headers.insert(pair.name, pair.value);
                }
            }
            headers
        });
        let verdict = Decision::Block {
            status: self.status.0,
            body: self.body,
            headers,
        };
        (verdict, repeated)
    }
}

/// The key `redirect`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Redirect {
    url: String,
    #[serde(default)]
    status: RedirectStatus,
}

impl Redirect {
    pub(super) fn into_verdict(self) -> Decision {
        Decision::Redirect {
            url: self.url,
            status: self.status.0,
        }
    }
}

/// The key `challenge`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Challenge {
    r#type: String,
    #[serde(default)]
    params: HashMap<String, String>,
}

impl Challenge {
    pub(super) fn into_verdict(self) -> Decision {
        Decision::Challenge {
            challenge_type: self.r#type,
            params: self.params,
        }
    }
}

/// Defines types of HTTP statuses within a range.
macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident $range:expr, default $default:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Deserialize)]
        #[serde(try_from = "i64")]
        struct $name(u16);

        impl Default for $name {
            fn default() -> Self {
                Self($default)
            }
        }

        impl TryFrom<i64> for $name {
            type Error = String;

            fn try_from(status: i64) -> Result<Self, String> {
                let status = u16::try_from(status).ok();
                let status = status.filter(|status| $range.contains(status));
                status.map(Self).ok_or_else(|| {
                    format!("expected a status from {} to {}", $range.start(), $range.end())
                })
            }
        }
    )*};
}

statuses! {
    /// Status of a final response.
    BlockStatus 200..=599, default 403;
    /// Status of a redirect.
    RedirectStatus 300..=399, default 302;
}
