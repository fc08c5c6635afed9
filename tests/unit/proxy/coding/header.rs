use super::*;
use http::HeaderValue;

fn coding_of(values: &[&'static [u8]]) -> Result<Option<Coding>, CodingError> {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(CONTENT_ENCODING, HeaderValue::from_bytes(value).unwrap());
    }
    content_coding(&headers)
}

#[test]
fn identity_and_empty_elements_name_no_coding() {
    for values in [
        &[] as &[&[u8]],
        &[b""],
        &[b"identity"],
        &[b" , ,\t"],
        &[b"Identity, identity", b"", b"IDENTITY"],
    ] {
        assert_eq!(coding_of(values), Ok(None), "{values:?}");
    }
}

#[test]
fn unknown_codings_and_garbage_are_unknown() {
    for value in [
        &b"compress"[..],
        b"gzip;q=1",
        b"\"gzip\"",
        b"gzi p",
        b"gz\xc3\xafp",
        b"gzip\xa0",
        b"*",
        b"dcz",
        b"none",
        b"gzip, compress",
        b"gzip gzip",
    ] {
        let value: &'static [u8] = value;
        assert_eq!(coding_of(&[value]), Err(CodingError::Unknown), "{value:?}");
    }
}

#[cfg(feature = "codings")]
#[test]
fn one_coding_is_found_in_any_form_of_the_list() {
    for (values, coding) in [
        (&[&b"gzip"[..]] as &[&[u8]], Coding::Gzip),
        (&[b"X-GZip"], Coding::Gzip),
        (&[b" \tdeflate\t "], Coding::Deflate),
        (&[b"identity, br"], Coding::Brotli),
        (&[b"", b"identity", b",zstd,"], Coding::Zstd),
    ] {
        assert_eq!(coding_of(values), Ok(Some(coding)), "{values:?}");
    }
}

#[cfg(feature = "codings")]
#[test]
fn several_codings_are_refused() {
    for values in [
        &[&b"gzip, br"[..]] as &[&[u8]],
        &[b"gzip", b"gzip"],
        &[b"zstd, identity", b"x-gzip"],
    ] {
        assert_eq!(coding_of(values), Err(CodingError::Multiple), "{values:?}");
    }
    let with_unknown = coding_of(&[b"gzip, br", b"compress"]);
    assert_eq!(with_unknown, Err(CodingError::Unknown));
}

#[cfg(not(feature = "codings"))]
#[test]
fn every_coding_is_unknown_without_the_feature() {
    for value in [&b"gzip"[..], b"deflate", b"br", b"zstd"] {
        assert_eq!(coding_of(&[value]), Err(CodingError::Unknown));
    }
}
