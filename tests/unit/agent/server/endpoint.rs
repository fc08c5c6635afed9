use super::*;

fn parsed(text: &str) -> Result<ListenEndpoint, &'static str> {
    text.parse()
        .map_err(|error: InvalidEndpoint| error.reason())
}

#[test]
fn paths_ports_and_inherited_sockets_are_parsed() {
    let endpoint = |address, uses_grpc, uses_tls| ListenEndpoint {
        address,
        uses_grpc,
        uses_tls,
    };
    let unix = |path: &str| Address::Unix(path.into());
    assert_eq!(parsed("/run/a"), Ok(endpoint(unix("/run/a"), false, false)));
    assert_eq!(parsed("unix:a"), Ok(endpoint(unix("a"), false, false)));
    let tcp = |port| Address::Tcp("::1".to_owned(), port);
    assert_eq!(parsed("tcp://[::1]:0"), Ok(endpoint(tcp(0), false, false)));
    let inherited = |name: &str| Address::Inherited(name.to_owned());
    assert_eq!(
        parsed("systemd:"),
        Ok(endpoint(inherited(""), false, false))
    );
    #[cfg(feature = "tls")]
    assert_eq!(parsed("tls://[::1]:7"), Ok(endpoint(tcp(7), false, true)));
    #[cfg(feature = "grpc")]
    for (text, expected) in [
        ("grpc://[::1]:7", endpoint(tcp(7), true, false)),
        ("[::1]:7", endpoint(tcp(7), true, false)),
        ("https://[::1]:7", endpoint(tcp(7), true, true)),
        ("grpc+unix:///run/a", endpoint(unix("/run/a"), true, false)),
        ("grpcs+systemd:web", endpoint(inherited("web"), true, true)),
    ] {
        assert_eq!(parsed(text), Ok(expected), "{text}");
    }
}
