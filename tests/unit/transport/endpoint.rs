use super::*;

#[test]
fn paths_with_and_without_scheme_are_parsed() {
    let expected = Endpoint::Unix("/run/waf.sock".into());
    for text in [
        "/run/waf.sock",
        "unix:/run/waf.sock",
        "unix:///run/waf.sock",
    ] {
        assert_eq!(text.parse::<Endpoint>().unwrap(), expected);
    }
    let relative = Endpoint::Unix("waf.sock".into());
    assert_eq!("unix:waf.sock".parse::<Endpoint>().unwrap(), relative);
}

#[test]
fn tcp_endpoints_are_parsed() {
    for text in [
        "tcp://proxy.example:7000",
        "tcp://192.0.2.7:1",
        "tcp://[2001:db8::1]:65535",
    ] {
        assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
    }
}
