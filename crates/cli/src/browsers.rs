//! Headers as real browsers and API clients send them.

/// Host name of all generated requests.
pub(crate) const SITE: &str = "shop.example.com";

const SESSION: &str = "session=9f1c2b7e5d3a4c6f8b0e1d2c3b4a5968; cart=3; theme=dark; consent=analytics:0,ads:0; \
                       _sid=1732399561.2.1.1732399803.0.0.0; _vid=GA1.2.1190283746.1732399561; recent=1843,77,2961,504; \
                       csrf=Zm9yZ2VyeS1wcm90ZWN0aW9uLXRva2Vu";

/// A client's headers, in the order and spelling in which it sends them.
pub(crate) type HeaderSet = &'static [(&'static str, &'static str)];

/// Firefox on Linux, opening a page.
pub(crate) const FIREFOX: HeaderSet = &[
    ("host", SITE),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0",
    ),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/png,image/svg+xml,*/*;q=0.8",
    ),
    ("accept-language", "en-GB,en;q=0.8,de-DE;q=0.5,de;q=0.3"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    (
        "referer",
        "https://shop.example.com/categories/outdoor/tents?sort=price",
    ),
    ("cookie", SESSION),
    ("upgrade-insecure-requests", "1"),
    ("sec-fetch-site", "same-origin"),
    ("priority", "u=0, i"),
];

/// Chrome on Windows, opening a page.
pub(crate) const CHROME: HeaderSet = &[
    ("host", SITE),
    (
        "sec-ch-ua",
        "\"Chromium\";v=\"130\", \"Google Chrome\";v=\"130\", \"Not?A_Brand\";v=\"99\"",
    ),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", "\"Windows\""),
    ("upgrade-insecure-requests", "1"),
    (
        "user-agent",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    ),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,\
         application/signed-exchange;v=b3;q=0.7",
    ),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-user", "?1"),
    ("sec-fetch-dest", "document"),
    ("referer", "https://shop.example.com/"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("accept-language", "en-US,en;q=0.9"),
    ("cookie", SESSION),
    ("priority", "u=0, i"),
];

/// Safari on an iPhone, opening a page.
pub(crate) const SAFARI: HeaderSet = &[
    ("host", SITE),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ),
    ("sec-fetch-site", "none"),
    ("cookie", SESSION),
    ("sec-fetch-dest", "document"),
    ("accept-language", "fr-FR,fr;q=0.9"),
    ("sec-fetch-mode", "navigate"),
    (
        "user-agent",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
         Version/18.1 Mobile/15E148 Safari/604.1",
    ),
    ("accept-encoding", "gzip, deflate, br"),
    ("priority", "u=0, i"),
];

/// curl with its default headers.
pub(crate) const CURL: HeaderSet = &[
    ("host", SITE),
    ("user-agent", "curl/8.10.1"),
    ("accept", "*/*"),
];

/// The shop's mobile app.
pub(crate) const MOBILE_APP: HeaderSet = &[
    ("host", SITE),
    (
        "user-agent",
        "ShopApp/7.4.2 (Android 15; Pixel 9) okhttp/4.12.0",
    ),
    ("accept", "application/json"),
    ("accept-encoding", "gzip"),
    ("accept-language", "de-DE"),
    ("x-device-id", "b2f5c1de-7a80-4c1f-9d7e-0f6f3c1b9a42"),
    ("x-app-build", "74213"),
    ("cookie", SESSION),
];

/// A partner's server with a bearer token.
pub(crate) const JSON_API: HeaderSet = &[
    ("host", SITE),
    ("user-agent", "python-requests/2.32.3"),
    ("accept", "application/json"),
    ("accept-encoding", "gzip, deflate"),
    (
        "authorization",
        "Bearer eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6IjIwMjQtMTEifQ.eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29t\
         IiwiYXVkIjoic2hvcCIsInN1YiI6InBhcnRuZXItMTciLCJleHAiOjE3MzI0MDMxNjEsInNjb3BlIjoib3JkZXJzOnJlYWQgb3JkZXJzOnd\
         yaXRlIn0.c2lnbmF0dXJlLXRoYXQtaXMtbm90LWEtcmVhbC1vbmUtYnV0LWhhcy10aGUtc2l6ZS1vZi1vbmU",
    ),
    ("x-request-id", "5f0c7d2e-3f0b-4b39-9a54-8f0e4d1c2b3a"),
    ("connection", "keep-alive"),
];
