use super::*;

#[test]
fn valid_endpoints_are_parsed() {
    for (text, shown) in [
        ("http://waf", "grpc://waf:80"),
        ("http://waf:50051/", "grpc://waf:50051"),
        ("https://waf.example", "grpcs://waf.example:443"),
        ("grpc://127.0.0.1:50051", "grpc://127.0.0.1:50051"),
        ("grpcs://[::1]:50051", "grpcs://[::1]:50051"),
        ("localhost:50051", "grpc://localhost:50051"),
        ("grpc+unix:///run/waf.sock", "grpc+unix:///run/waf.sock"),
    ] {
        let endpoint = GrpcEndpoint::parse(text).unwrap();
        assert_eq!(endpoint.to_string(), shown);
        assert_eq!(GrpcEndpoint::parse(shown), Ok(endpoint));
    }
}

#[test]
fn invalid_endpoints_are_rejected() {
    for text in [
        "",
        "waf",
        "grpc://waf",
        "grpc://",
        "http://:80",
        "waf:",
        "waf:x",
        "waf:65536",
        "http://waf/path",
        "grpc://user@waf:1",
        "ftp://waf:1",
    ] {
        assert!(GrpcEndpoint::parse(text).is_err(), "{text}");
    }
}
