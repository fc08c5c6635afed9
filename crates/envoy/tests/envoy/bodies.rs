//! Bodies in every mode.

use crate::agent::Agent;
use crate::client::{Call, Version};
use crate::proxy::{Envoy, MODES, ext_proc};
use crate::upstream::Upstream;

const NONE: usize = 0;
const STREAMED: usize = 1;
const BUFFERED: usize = 2;
const PARTIAL: usize = 3;
const DUPLEX: usize = 4;

struct Bench {
    agent: Agent,
    upstream: Upstream,
    envoy: Envoy,
}

impl Bench {
    async fn start() -> Self {
        let agent = Agent::start().await;
        let upstream = Upstream::start().await;
        let mut filters = MODES.map(|mode| ext_proc(mode, "")).to_vec();
        filters.push(ext_proc("STREAMED", "observability_mode: true"));
        let address = agent.address.to_string();
        let envoy = Envoy::start(&filters, &address, upstream.address).await;
        Self {
            agent,
            upstream,
            envoy,
        }
    }

    /// Sends a request, and returns the status and the body that the upstream got: `-` if it got
    /// no request, and `broken` if its body did not end.
    async fn sent(&self, mode: usize, version: Version, call: Call, case: &str) -> (u16, String) {
        let answer = call.send(self.envoy.address(mode), version).await;
        let seen = self.upstream.seen(case);
        let body = match seen.first() {
            None => "-".to_owned(),
            Some(seen) => match &seen.body {
                Some(body) => String::from_utf8_lossy(body).into_owned(),
                None => "broken".to_owned(),
            },
        };
        (answer.status.as_u16(), body)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_bodies() {
    let bench = Bench::start().await;
    for mode in [STREAMED, BUFFERED, PARTIAL, DUPLEX] {
        for version in [Version::Http1, Version::Http2] {
            let name = MODES[mode];
            let case = |what: &str| format!("{name}-{version:?}-{what}");
            for (body, expected) in [
                ("fine", (200, "fine")),
                ("REPLACE this", (200, "new content")),
                ("DROP this", (200, "")),
                ("a WRONG index", (500, "-")),
                ("a PANIC", (500, "-")),
                ("BLOCK", (403, "-")),
            ] {
                let id = case(body);
                let call = Call::post(&id, "/body", body);
                let (status, seen) = bench.sent(mode, version, call, &id).await;
                assert_eq!(status, expected.0, "{id}");
                // Without holding the head may have gone on.
                if expected.1 != "-" || mode == BUFFERED || mode == DUPLEX {
                    assert_eq!(seen, expected.1, "{id}");
                }
                let log = bench.agent.logs.completed(&id).await;
                assert_eq!(log.completes.len(), 1, "{id}: {log:?}");
            }
            let id = case("header");
            let call = Call::post(&id, "/body", "a HEADER");
            let (status, _) = bench.sent(mode, version, call, &id).await;
            let is_possible = mode == BUFFERED || mode == DUPLEX;
            assert_eq!(status, if is_possible { 200 } else { 500 }, "{id}");
            if is_possible {
                assert!(
                    bench.upstream.seen(&id)[0]
                        .headers
                        .contains_key("x-from-body"),
                    "{id}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_end_bodies() {
    let bench = Bench::start().await;
    for mode in [STREAMED, BUFFERED, DUPLEX] {
        for version in [Version::Http1, Version::Http2] {
            let case = |what: &str| format!("{}-{version:?}-{what}", MODES[mode]);
            let id = case("trailers");
            let call = Call::post(&id, "/body", "")
                .chunks(&["one", "two"])
                .trailers();
            let (status, seen) = bench.sent(mode, version, call, &id).await;
            assert_eq!((status, &*seen), (200, "onetwo"), "{id}");
            let log = bench.agent.logs.completed(&id).await;
            let ends = log
                .events
                .iter()
                .filter(|it| it.starts_with("request") && it.ends_with('.'));
            assert_eq!(ends.count(), 1, "{id}: {log:?}");
            assert!(!log.completes[0].3, "{id}: {log:?}");

            let id = case("answer");
            let call = Call::get(&id, "/body").header("x-answer-trailers", "1");
            let (status, _) = bench.sent(mode, version, call, &id).await;
            assert_eq!(status, 200, "{id}");
        }
    }
    let id = "held before trailers";
    let call = Call::post(id, "/body", "")
        .chunks(&["HOLD", "two"])
        .trailers();
    assert_eq!(
        bench.sent(DUPLEX, Version::Http2, call, id).await,
        (200, "HOLDtwo".to_owned())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn response_bodies() {
    let bench = Bench::start().await;
    for mode in [STREAMED, BUFFERED, PARTIAL, DUPLEX] {
        for version in [Version::Http1, Version::Http2] {
            for (body, expected) in [
                ("fine", (200, "fine")),
                ("REPLACE this", (200, "new content")),
                ("DROP this", (200, "")),
                ("BLOCK", (403, "no\n")),
            ] {
                let id = format!("{}-{version:?}-{body}", MODES[mode]);
                let call = Call::get(&id, "/body").header("x-answer", body);
                let answer = call.send(bench.envoy.address(mode), version).await;
                // With streaming the head has gone on, and the response breaks off.
                if mode == STREAMED && body == "BLOCK" {
                    assert!(
                        answer.body.is_none() || answer.status == 403,
                        "{id}: {answer:?}"
                    );
                    continue;
                }
                assert_eq!((answer.status.as_u16(), answer.text()), expected, "{id}");
                bench.agent.logs.completed(&id).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn duplex_holds_until_the_agent_has_decided() {
    let bench = Bench::start().await;
    for version in [Version::Http1, Version::Http2] {
        let id = format!("{version:?}-held");
        let call = Call::post(&id, "/body", "").chunks(&["HOLD", "more", "BLOCK"]);
        let sent = bench.sent(DUPLEX, version, call, &id).await;
        assert_eq!(sent, (403, "-".to_owned()), "{id}");

        let id = format!("{version:?}-let go");
        let call = Call::post(&id, "/body", "").chunks(&["HOLD", "more", "end"]);
        let sent = bench.sent(DUPLEX, version, call, &id).await;
        assert_eq!(sent, (200, "HOLDmoreend".to_owned()), "{id}");

        let id = format!("{version:?}-undecided");
        let call = Call::post(&id, "/body", "HOLD FOREVER");
        let sent = bench.sent(DUPLEX, version, call, &id).await;
        assert_eq!(sent, (500, "-".to_owned()), "{id}");

        let big = "a".repeat(300_000);
        let id = format!("{version:?}-big");
        let call = Call::post(&id, "/body", &format!("{big}HOLD"));
        let (status, seen) = bench.sent(DUPLEX, version, call, &id).await;
        assert_eq!((status, seen.len()), (200, 300_004), "{id}");

        let id = format!("{version:?}-too big");
        let call = Call::post(&id, "/body", &format!("HOLD{}", "a".repeat(6 << 20)));
        let (status, seen) = bench.sent(DUPLEX, version, call, &id).await;
        assert_eq!((status, &*seen), (413, "-"), "{id}");
    }
    assert!(bench.agent.counters.get().undecided > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_in_every_mode() {
    let bench = Bench::start().await;
    let big = "a".repeat(900_000);
    for mode in [NONE, STREAMED, BUFFERED, PARTIAL, DUPLEX] {
        for version in [Version::Http1, Version::Http2] {
            let id = format!("{}-{version:?}", MODES[mode]);
            let call = Call::post(&id, "/body", &big);
            let (status, seen) = bench.sent(mode, version, call, &id).await;
            assert_eq!((status, seen.len()), (200, big.len()), "{id}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn observing_denies_nothing() {
    let bench = Bench::start().await;
    let observing = MODES.len();
    for (id, path, body) in [
        ("o1", "/deny", "x"),
        ("o2", "/body", "BLOCK"),
        ("o3", "/panic", "x"),
    ] {
        let call = Call::post(id, path, body);
        let (status, seen) = bench.sent(observing, Version::Http1, call, id).await;
        assert_eq!((status, &*seen), (200, body), "{id}");
    }
    bench.agent.logs.completed("o1").await;
    assert!(bench.agent.counters.get().observed_denials >= 1);
}
