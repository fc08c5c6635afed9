//! The tables of docs/protocol.md, which the independent reader and writer of the tests use.

use std::sync::LazyLock;

const PAGE: &str = include_str!("../../../docs/protocol.md");

/// Returns what stands between two marks of the page.
pub fn between(start: &str, end: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(start).unwrap();
    rest.split_once(end).unwrap().0
}

/// The names of headers by number, as documented.
pub static HEADER_NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let table = between("<!-- header numbers -->", "<!-- end of header numbers -->");
    numbered(table, '|')
});

/// The methods by number, as documented.
pub static METHODS: LazyLock<Vec<String>> =
    LazyLock::new(|| numbered(between("| method | ", "; any other as text"), ','));

/// The protocols by number, as documented.
pub static PROTOCOLS: LazyLock<Vec<String>> =
    LazyLock::new(|| numbered(between("| protocol | ", "; any other as text"), ','));

/// The versions of TLS by number, as documented.
pub static TLS_VERSIONS: LazyLock<Vec<String>> =
    LazyLock::new(|| numbered(between("| `tls_version` | ", "; any other as text"), ','));

/// Reads a list of numbers, each with a name in backticks.
fn numbered(list: &str, separator: char) -> Vec<String> {
    let items = list.split(separator).map(str::trim);
    let items = items.filter(|item| item.starts_with(|first: char| first.is_ascii_digit()));
    let names = items.enumerate().map(|(at, item)| {
        let (number, name) = item.split_once(' ').unwrap();
        assert_eq!(number.parse(), Ok(at), "{item}");
        name.trim_matches('`').to_owned()
    });
    names.collect()
}
