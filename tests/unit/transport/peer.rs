use super::*;

fn key(address: &str) -> PeerKey {
    PeerKey::of(address.parse().unwrap())
}

#[test]
fn addresses_of_one_network_are_one_peer() {
    assert_eq!(key("2001:db8::1"), key("2001:db8::2:3"));
    assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
    assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
}
