//! Numbers of the names of well-known headers.

use crate::wire::decode::{DecodeErrorKind, Decoded};

/// Names by number. `docs/protocol.md` has the same table, and agents and proxies in use rely on
/// it: no name may ever move, and names may only be added with a later version of the extension.
#[rustfmt::skip]
pub(super) const NAMES: [&str; 128] = [
    "host", "user-agent", "accept", "accept-language", "accept-encoding", "cookie", "referer",
    "cache-control", "content-type", "content-length", "content-encoding", "content-language",
    "content-location", "content-disposition", "content-range", "transfer-encoding", "connection",
    "keep-alive", "upgrade", "te", "trailer", "via", "date", "pragma", "authorization",
    "proxy-authorization", "www-authenticate", "proxy-authenticate", "origin", "range",
    "if-range", "expect", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since",
    "etag", "last-modified", "age", "expires", "vary", "server", "location", "set-cookie",
    "retry-after", "allow", "accept-ranges", "link", "forwarded", "x-forwarded-for",
    "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-real-ip", "x-request-id",
    "x-correlation-id", "traceparent", "tracestate", "baggage", "b3", "x-b3-traceid",
    "x-b3-spanid", "x-b3-sampled", "x-amzn-trace-id", "sec-fetch-mode", "sec-fetch-site",
    "sec-fetch-dest", "sec-fetch-user", "sec-ch-ua", "sec-ch-ua-mobile", "sec-ch-ua-platform",
    "sec-gpc", "upgrade-insecure-requests", "dnt", "priority", "save-data", "x-requested-with",
    "x-csrf-token", "x-xsrf-token", "x-api-key", "sec-websocket-key", "sec-websocket-version",
    "sec-websocket-protocol", "sec-websocket-extensions", "sec-websocket-accept",
    "access-control-request-method", "access-control-request-headers",
    "access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers",
    "access-control-allow-credentials", "access-control-expose-headers", "access-control-max-age",
    "strict-transport-security", "content-security-policy", "x-content-type-options",
    "x-frame-options", "x-xss-protection", "referrer-policy", "permissions-policy",
    "cross-origin-opener-policy", "cross-origin-embedder-policy", "cross-origin-resource-policy",
    "alt-svc", "alt-used", "early-data", "max-forwards", "from", "accept-charset",
    "http2-settings", "proxy-connection", "x-http-method-override", "x-powered-by",
    "server-timing", "timing-allow-origin", "clear-site-data", "cdn-loop", "cf-connecting-ip",
    "cf-ray", "true-client-ip", "x-client-ip", "x-original-url", "idempotency-key",
    "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "grpc-status", "grpc-message",
];

/// Returns the name with this number. There is no number without a name that [`known`] returns.
#[inline]
pub(super) fn name_of(number: u8) -> &'static str {
    NAMES.get(usize::from(number)).copied().unwrap_or_default()
}

/// Checks that a received number has a name.
pub(super) fn known(number: u64) -> Decoded<u8> {
    match u8::try_from(number) {
        Ok(number) if usize::from(number) < NAMES.len() => Ok(number),
        _ => Err(DecodeErrorKind::UnknownName("header name")),
    }
}

/// Returns the number of a name in lower case; `None` if it has none.
///
/// A perfect hash selects the only name that can be equal.
#[inline]
pub(super) fn number_of(name: &str) -> Option<u8> {
    let words = Words::of(name.as_bytes());
    let number = NUMBERS[words.slot()];
    let (candidate, len) = WORDS.get(usize::from(number))?;
    let differs = (words.first ^ candidate.first) | (words.last ^ candidate.last);
    if name.len() != usize::from(*len) || differs != 0 {
        return None;
    }
    // Up to this length the two words have all bytes of a name.
    let is_equal = name.len() <= 16 || name == NAMES[usize::from(number)];
    is_equal.then_some(number)
}

/// Like [`number_of`], without regard to case.
pub(super) fn number_of_any_case(name: &str) -> Option<u8> {
    if let Some(number) = number_of(name) {
        return Some(number);
    }
    if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut lower = [0; LONGEST];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    number_of(str::from_utf8(lower).ok()?)
}

/// Length of the longest name.
const LONGEST: usize = {
    let (mut at, mut longest) = (0, 0);
    while at < NAMES.len() {
        if NAMES[at].len() > longest {
            longest = NAMES[at].len();
        }
        at += 1;
    }
    longest
};

/// The first and the last bytes of a name, and a hash of both and its length.
#[derive(Debug, Clone, Copy)]
struct Words {
    first: u64,
    last: u64,
    hash: u64,
}

const SLOT_BITS: u32 = 10;

impl Words {
    #[inline]
    const fn of(name: &[u8]) -> Self {
        let (first, last) = match (name.first_chunk(), name.last_chunk()) {
            (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            _ => short_words(name),
        };
        /// Found by trying random factors until no two names shared a slot.
        const FACTOR: u64 = 0xb7cc_ba58_713b_831b;
        let mixed = first ^ last.rotate_left(23) ^ name.len() as u64;
        Self {
            first,
            last,
            hash: mixed.wrapping_mul(FACTOR),
        }
    }

    #[inline]
    const fn slot(&self) -> usize {
        (self.hash >> (u64::BITS - SLOT_BITS)) as usize
    }
}

const fn short_words(name: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return (first as u64, last as u64);
    }
    match name {
        [] => (0, 0),
        [a] => (*a as u64, 0),
        [a, b] => (*a as u64 | (*b as u64) << 8, 0),
        [a, b, c, ..] => (*a as u64 | (*b as u64) << 8 | (*c as u64) << 16, 0),
    }
}

/// Words and length of each name.
const WORDS: [(Words, u8); NAMES.len()] = {
    let mut words = [(Words::of(b""), 0); NAMES.len()];
    let mut at = 0;
    while at < NAMES.len() {
        words[at] = (Words::of(NAMES[at].as_bytes()), NAMES[at].len() as u8);
        at += 1;
    }
    words
};

/// Numbers by slot. A slot without a name has a number that no name has.
const NUMBERS: [u8; 1 << SLOT_BITS] = {
    let mut numbers = [u8::MAX; 1 << SLOT_BITS];
    let mut at = 0;
    while at < NAMES.len() {
        let slot = WORDS[at].0.slot();
        assert!(numbers[slot] == u8::MAX, "two names share a slot");
        numbers[slot] = at as u8;
        at += 1;
    }
    numbers
};

#[cfg(test)]
#[path = "../../../tests/unit/wire/header_names.rs"]
mod tests;
