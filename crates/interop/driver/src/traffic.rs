//! Requests, the same for each subject.

use bytes::Bytes;
use std::collections::HashMap;

/// HTTP method.
pub const METHOD: &str = "GET";

/// Path and query.
pub const URI: &str = "/catalogue/shoes/1234?colour=red";

/// IP address of the client.
pub const CLIENT_IP: &str = "198.51.100.23";

/// Port of the client.
pub const CLIENT_PORT: u16 = 51_234;

/// Server name that the client requested.
pub const SERVER_NAME: &str = "shop.example.com";

/// Protocol of the client.
pub const PROTOCOL: &str = "HTTP/2";

/// TLS version of the client.
pub const TLS_VERSION: &str = "TLSv1.3";

/// TLS cipher suite of the client.
pub const TLS_CIPHER: &str = "TLS_AES_128_GCM_SHA256";

/// The proxy's route.
pub const ROUTE_ID: &str = "shop";

/// Start time of the request.
pub const TIMESTAMP: &str = "2025-06-01T12:00:00.000Z";

/// Ten headers of a browser, about 700 bytes of names and values.
pub const HEADERS: [(&str, &str); 10] = [
    ("host", SERVER_NAME),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
         Chrome/126.0.0.0 Safari/537.36",
    ),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,\
         image/apng,*/*;q=0.8",
    ),
    ("accept-language", "en-GB,en;q=0.9,de;q=0.8,fr;q=0.7"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    (
        "referer",
        "https://shop.example.com/catalogue/shoes?page=2&sort=price",
    ),
    (
        "cookie",
        "session=7f3c2a9e4b8d4f6fa1d05e7c93b2806d; theme=dark; consent=analytics:0,ads:0; \
         cart=eyJpdGVtcyI6W3sic2t1IjoiQTEyMyIsInF0eSI6Mn1dfQ; \
         _ga=GA1.2.1234567890.1712345678; lang=en-GB; seen=1234,5678,91011",
    ),
    (
        "sec-ch-ua",
        "\"Chromium\";v=\"126\", \"Not.A/Brand\";v=\"24\"",
    ),
    ("sec-fetch-mode", "navigate"),
    ("x-forwarded-for", "198.51.100.23, 203.0.113.7"),
];

/// [`HEADERS`] by name.
pub fn header_map() -> HashMap<String, Vec<String>> {
    HEADERS
        .iter()
        .map(|&(name, value)| (name.to_owned(), vec![value.to_owned()]))
        .collect()
}

/// The requests of one run.
#[derive(Debug, Clone)]
pub struct Traffic {
    /// Body, which is sent as one chunk after the headers.
    pub body: Option<Bytes>,
}

impl Traffic {
    /// Creates requests with a body of this size, or without a body if it is 0.
    pub fn with_body_of(bytes: usize) -> Self {
        let letters = (0..bytes).map(|at| b'a' + (at % 26) as u8);
        Self {
            body: (bytes > 0).then(|| letters.collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_about_seven_hundred_bytes() {
        let bytes: usize = HEADERS
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        assert!((650..=750).contains(&bytes), "{bytes}");
    }

    #[test]
    fn bodies_have_the_size_asked_for() {
        assert_eq!(Traffic::with_body_of(0).body, None);
        assert_eq!(Traffic::with_body_of(65_536).body.unwrap().len(), 65_536);
    }
}
