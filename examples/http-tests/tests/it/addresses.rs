//! The client's address, as agents see it.

use crate::HEADS;
use crate::rig::{Case, Via, agent, get, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_is_who_the_trusted_proxies_name() {
    let forwarded = "192.0.2.1, 192.0.2.2, ::ffff:192.0.2.3";
    let mut rows = Vec::new();
    for (name, hops, header, expected) in [
        ("no trusted hop", 0, forwarded, "127.0.0.1"),
        ("one trusted hop", 1, forwarded, "192.0.2.3"),
        ("two trusted hops", 2, forwarded, "192.0.2.2"),
        ("IPv6 with a port", 1, "[2001:db8::1]:70", "2001:db8::1"),
        ("garbage that nobody believes", 0, "garbage", "127.0.0.1"),
        (
            "garbage before the trusted entry",
            1,
            "garbage, 192.0.2.1",
            "192.0.2.1",
        ),
    ] {
        rows.push(
            Case::new(name, get("/").header("x-forwarded-for", header))
                .agents([agent(HEADS)])
                .settings(move |settings| settings.trusted_hops = hops)
                .expect(move |outcome| {
                    assert_eq!(outcome.status(200).asked(0).client_ip, expected);
                }),
        );
    }
    for (name, header) in [
        ("garbage", "garbage"),
        ("empty entry", "192.0.2.1, "),
        ("no address", "unknown"),
    ] {
        rows.push(
            Case::new(name, get("/").header("x-forwarded-for", header))
                .agents([agent(HEADS)])
                .clients(&[Via::Bytes11, Via::H2])
                .settings(|settings| settings.trusted_hops = 1)
                .expect(|outcome| outcome.refused(400)),
        );
    }
    rows.push(
        Case::new("mapped IPv4 address", get("/"))
            .agents([agent(HEADS)])
            .settings(|settings| settings.listen = "[::]:0".parse().unwrap())
            .expect(|outcome| {
                assert_eq!(outcome.status(200).asked(0).client_ip, "127.0.0.1");
            }),
    );
    run(rows).await;
}
