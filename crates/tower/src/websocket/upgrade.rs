//! Requests for a WebSocket connection.

use http::header::{HeaderMap, SEC_WEBSOCKET_EXTENSIONS};

/// Removes the extensions that a request offers, such as compression, so that the upstream uses
/// none and payloads can be judged.
pub(crate) fn decline_extensions(headers: &mut HeaderMap) {
    headers.remove(SEC_WEBSOCKET_EXTENSIONS);
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn extensions_are_removed() {
        let mut headers = HeaderMap::new();
        for offer in ["permessage-deflate", "x-other"] {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(offer));
        }
        decline_extensions(&mut headers);
        assert!(!headers.contains_key(SEC_WEBSOCKET_EXTENSIONS));
    }
}
