use super::{NAMES, known, name_of, number_of, number_of_any_case};

#[test]
fn each_name_has_its_number() {
    for (number, name) in (0_u8..).zip(NAMES) {
        assert_eq!(number_of(name), Some(number), "{name}");
        assert_eq!(known(number.into()).map(name_of), Ok(name));
        assert_eq!(number_of_any_case(&name.to_ascii_uppercase()), Some(number));
        assert_eq!(name, name.to_ascii_lowercase());
    }
    assert!(known(NAMES.len() as u64).is_err() && known(1 << 32).is_err());
}

#[test]
fn other_names_have_none() {
    for name in [
        "",
        "h",
        "Host",
        "hosts",
        "x-forwarded-fo\u{e9}",
        "x-unusual",
    ] {
        assert_eq!(number_of(name), None, "{name}");
    }
    assert_eq!(number_of_any_case(&"X".repeat(4096)), None);
    // Each differs from a name in one byte.
    for name in NAMES {
        for at in 0..name.len() {
            let mut other = name.as_bytes().to_vec();
            other[at] ^= 1;
            let other = String::from_utf8(other).unwrap();
            assert_eq!(
                number_of(&other),
                NAMES.iter().position(|n| *n == other).map(|n| n as u8)
            );
        }
    }
}

#[test]
fn the_documented_table_is_the_one_in_use() {
    let page = include_str!("../../../docs/protocol.md");
    let (_, table) = page.split_once("<!-- header numbers -->").unwrap();
    let (table, _) = table.split_once("<!-- end of header numbers -->").unwrap();
    let cells = table
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| line.split('|'));
    let documented: Vec<_> = cells
        .map(str::trim)
        .filter(|cell| cell.starts_with(|first: char| first.is_ascii_digit()))
        .map(str::to_owned)
        .collect();
    let used: Vec<_> = NAMES
        .iter()
        .enumerate()
        .map(|(at, name)| format!("{at} `{name}`"))
        .collect();
    assert_eq!(documented, used);
}
