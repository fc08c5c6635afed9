//! The demo's traffic: a sample of what the proxy of a shop sees. Pages, API calls, forms, uploads
//! and a few attacks.

use crate::agent::RuleOptions;
use crate::browsers::{CHROME, CURL, FIREFOX, HeaderSet, JSON_API, MOBILE_APP, SAFARI};
use crate::traffic::{Request, RequestList, filler};

/// Requests for paths below this are blocked.
const BLOCKED_PATH: &str = "/admin";

/// Bodies that contain this text are blocked.
const BLOCKED_TEXT: &str = "' OR '1'='1";

/// Allowed requests for paths below this get a header.
const CHECKED_PATH: &str = "/account";

/// Chunk size of bodies, as proxies typically read them.
const CHUNK_BYTES: usize = 16 * 1024;

/// Requests of the list: the mix below as a hundred requests, repeated with other details.
const MIX: u32 = 100;
const ROUNDS: u32 = 5;

/// Order of the mix. Coprime to [`MIX`], so that stepping by it reaches every index once.
const STRIDE: u32 = 37;

/// Returns the options of the agent that this traffic is made for.
pub(crate) fn agent_options() -> Vec<String> {
    [
        ["--block-path", BLOCKED_PATH],
        ["--block-body", BLOCKED_TEXT],
        ["--set-request-header", "x-tollgate=checked"],
        ["--set-header-path", CHECKED_PATH],
    ]
    .concat()
    .into_iter()
    .map(str::to_owned)
    .collect()
}

/// Returns the same for an agent in this process.
pub(crate) fn rule_options() -> RuleOptions {
    RuleOptions {
        block_path: vec![BLOCKED_PATH.to_owned()],
        block_body: vec![BLOCKED_TEXT.to_owned()],
        set_request_header: vec![("x-tollgate".to_owned(), "checked".to_owned())],
        set_header_path: vec![CHECKED_PATH.to_owned()],
        ..RuleOptions::default()
    }
}

/// Returns the demo's requests: 80 % GET and 20 % POST. The agent blocks 5 % of them.
pub(crate) fn request_list() -> RequestList {
    let numbers = 0..MIX * ROUNDS;
    let requests = numbers.map(|number| request(number * STRIDE % MIX, number));
    RequestList::new(requests.collect()).expect("the mix is not empty")
}

/// Returns the request at an index of the mix. `number` varies its details.
fn request(mix_index: u32, number: u32) -> Request {
    match mix_index {
        0..3 => Request::new("GET", format!("{BLOCKED_PATH}/users?page={number}"), CURL),
        3..11 => account_page(number),
        11..45 => page(number),
        45..60 => asset(number),
        60..80 => api_read(number),
        80..88 => form(number),
        88..95 => api_write(number),
        95..97 => long_review(number),
        97 => upload(number),
        _ => attack(number),
    }
}

fn browser(number: u32) -> HeaderSet {
    [FIREFOX, CHROME, SAFARI, CHROME][number as usize % 4]
}

fn account_page(number: u32) -> Request {
    let page = ["orders", "addresses", "wishlist"][number as usize % 3];
    Request::new(
        "GET",
        format!("{CHECKED_PATH}/{page}?id={number}"),
        browser(number),
    )
}

fn page(number: u32) -> Request {
    let uri = match number % 3 {
        0 => format!("/products/{number}?ref=home"),
        1 => format!("/search?q=tent+for+{number}&sort=price&page=2"),
        _ => format!("/categories/outdoor/{number}"),
    };
    Request::new("GET", uri, browser(number))
}

fn asset(number: u32) -> Request {
    let uri = format!("/static/{number:08x}/app.min.js");
    Request::new("GET", uri, browser(number))
}

fn api_read(number: u32) -> Request {
    let client = [MOBILE_APP, JSON_API, CURL][number as usize % 3];
    Request::new(
        "GET",
        format!("/api/v1/orders/{number}?expand=items"),
        client,
    )
}

fn form(number: u32) -> Request {
    let body = format!(
        "product={number}&quantity=2&colour=dark+green&note=please+gift-wrap&csrf=Zm9yZ2VyeQ"
    );
    Request::new("POST", "/cart/items", browser(number)).with_body(
        "application/x-www-form-urlencoded",
        body,
        CHUNK_BYTES,
    )
}

fn api_write(number: u32) -> Request {
    let body = format!(
        r#"{{"order":{number},"items":[{{"sku":"TENT-2P","quantity":1}},{{"sku":"STOVE","quantity":2}}],"express":true}}"#
    );
    let client = [MOBILE_APP, JSON_API][number as usize % 2];
    Request::new("POST", "/api/v1/orders", client).with_body("application/json", body, CHUNK_BYTES)
}

fn long_review(number: u32) -> Request {
    review(number, &filler(40_000))
}

fn upload(number: u32) -> Request {
    Request::new("POST", format!("/uploads/{number}.jpg"), MOBILE_APP).with_body(
        "image/jpeg",
        photo(100_000),
        CHUNK_BYTES,
    )
}

/// Returns a review whose blocked text begins in one chunk and ends in the next.
fn attack(number: u32) -> Request {
    let chunk = 1 + number as usize % 2;
    let before = chunk * CHUNK_BYTES - REVIEW_START.len() - BLOCKED_TEXT.len() / 2;
    review(number, &format!("{}{BLOCKED_TEXT} --", filler(before)))
}

const REVIEW_START: &str = r#"{"review":""#;

fn review(number: u32, text: &str) -> Request {
    let body = format!(r#"{REVIEW_START}{text}","product":{number},"stars":4}}"#);
    Request::new("POST", "/products/reviews", browser(number)).with_body(
        "application/json",
        body,
        CHUNK_BYTES,
    )
}

/// Returns binary data like that of a photo.
fn photo(bytes: u32) -> Vec<u8> {
    (0..bytes)
        .map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(request: &Request) -> Vec<u8> {
        let chunks = request.chunks().iter();
        chunks.flat_map(|chunk| chunk.data.to_vec()).collect()
    }

    fn contains_blocked_text(bytes: &[u8]) -> bool {
        bytes
            .windows(BLOCKED_TEXT.len())
            .any(|window| window == BLOCKED_TEXT.as_bytes())
    }

    fn count(matches: impl Fn(&Request) -> bool) -> usize {
        let request_list = request_list();
        request_list
            .requests()
            .iter()
            .filter(|&request| matches(request))
            .count()
    }

    #[test]
    fn mix_has_the_documented_shares() {
        let all = (MIX * ROUNDS) as usize;
        let method = |name| count(|request| request.head("", "").method == name);
        let path = |prefix| count(|request| request.head("", "").uri.starts_with(prefix));
        assert_eq!(method("GET"), all * 80 / 100);
        assert_eq!(method("POST"), all * 20 / 100);
        assert_eq!(path(BLOCKED_PATH), all * 3 / 100);
        assert_eq!(path(CHECKED_PATH), all * 8 / 100);
        assert_eq!(
            count(|request| contains_blocked_text(&body(request))),
            all * 2 / 100
        );
    }

    #[test]
    fn blocked_text_always_spans_two_chunks() {
        let request_list = request_list();
        let chunks = request_list.requests().iter().flat_map(Request::chunks);
        assert!(
            chunks
                .into_iter()
                .all(|chunk| !contains_blocked_text(&chunk.data))
        );
    }

    #[test]
    fn some_bodies_take_several_chunks() {
        assert_eq!(
            count(|request| request.chunks().len() > 1),
            5 * ROUNDS as usize
        );
    }

    #[test]
    fn json_bodies_are_valid_json() {
        assert!(serde_json::from_slice::<serde_json::Value>(&body(&attack(1))).is_ok());
        assert!(serde_json::from_slice::<serde_json::Value>(&body(&api_write(1))).is_ok());
    }
}
