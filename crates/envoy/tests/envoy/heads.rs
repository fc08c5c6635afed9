//! Decisions and header changes at the heads of requests and responses.

use crate::agent::Agent;
use crate::client::{Call, Version};
use crate::proxy::{Envoy, MODES, ext_proc};
use crate::upstream::Upstream;
use tollgate_envoy::EnvoyConfig;

struct Bench {
    agent: Agent,
    upstream: Upstream,
    envoy: Envoy,
}

impl Bench {
    async fn start() -> Self {
        let agent = Agent::start().await;
        let upstream = Upstream::start().await;
        let filters = MODES.map(|mode| ext_proc(mode, "allow_mode_override: true"));
        let address = agent.address.to_string();
        let envoy = Envoy::start(&filters, &address, upstream.address).await;
        Self {
            agent,
            upstream,
            envoy,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_are_judged_and_changed_in_every_mode() {
    let bench = Bench::start().await;
    for (at, mode) in MODES.into_iter().enumerate() {
        for version in [Version::Http1, Version::Http2] {
            let prefix = format!("{mode}-{version:?}");
            decisions(&bench, at, &prefix, version).await;
            changes(&bench, at, &prefix, version).await;
            failures(&bench, at, &prefix, version).await;
        }
    }
    let counts = bench.agent.counters.get();
    assert_eq!(counts.undecodable, 0, "{counts:?}");
    assert_eq!(counts.lost_response_changes, 0, "{counts:?}");
}

async fn decisions(bench: &Bench, at: usize, prefix: &str, version: Version) {
    let to = bench.envoy.address(at);
    let case = format!("{prefix}-allow");
    let answer = Call::get(&case, "/ok").send(to, version).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text()),
        (200, "ok"),
        "{case}"
    );
    let log = bench.agent.logs.completed(&case).await;
    assert_eq!(log.client_ip, "127.0.0.1", "{case}");
    assert_eq!(
        log.completes,
        [(200, 0, log.completes[0].2, false)],
        "{case}"
    );

    let case = format!("{prefix}-deny");
    let answer = Call::get(&case, "/deny").send(to, version).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text()),
        (403, "no\n"),
        "{case}"
    );
    assert_eq!(
        answer.header("content-type"),
        "text/plain; charset=utf-8",
        "{case}"
    );
    assert_eq!(
        answer.headers.get_all("set-cookie").iter().count(),
        2,
        "{case}"
    );
    let log = bench.agent.logs.completed(&case).await;
    assert_eq!(log.completes, [(403, 0, 0, false)], "{case}");
    assert!(bench.upstream.seen(&case).is_empty(), "{case}");

    let case = format!("{prefix}-redirect");
    let answer = Call::get(&case, "/redirect").send(to, version).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("location")),
        (308, "/new"),
        "{case}"
    );
    let case = format!("{prefix}-challenge");
    let answer = Call::get(&case, "/challenge").send(to, version).await;
    let wanted = (401, "Bearer realm=\"x\"");
    assert_eq!(
        (answer.status.as_u16(), answer.header("www-authenticate")),
        wanted,
        "{case}"
    );
    let case = format!("{prefix}-status");
    let answer = Call::get(&case, "/status-0").send(to, version).await;
    assert_eq!(answer.status, 403, "{case}");
    let case = format!("{prefix}-audit");
    let answer = Call::get(&case, "/audit").send(to, version).await;
    assert_eq!(answer.header("x-audit"), "[\"rule-1\"]", "{case}");
    let case = format!("{prefix}-response");
    let answer = Call::get(&case, "/deny-response").send(to, version).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text()),
        (403, "no\n"),
        "{case}"
    );
    assert_eq!(bench.upstream.seen(&case).len(), 1, "{case}");
}

async fn changes(bench: &Bench, at: usize, prefix: &str, version: Version) {
    let to = bench.envoy.address(at);
    let case = format!("{prefix}-ops");
    let call = Call::get(&case, "/ops")
        .header("x-set", "0")
        .header("x-set", "00")
        .header("x-add", "0")
        .header("x-gone", "0")
        .header("x-both", "0");
    let answer = call.send(to, version).await;
    assert_eq!(answer.header("x-early"), "1", "{case}");
    assert_eq!(answer.header("x-old"), "", "{case}");
    let seen = bench.upstream.seen(&case).remove(0).headers;
    let values = |name: &str| {
        let values = seen.get_all(name).iter();
        values
            .map(|value| value.to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
            .join(",")
    };
    assert_eq!(values("x-set"), "1", "{case}");
    assert_eq!(values("x-add"), "0,1,2", "{case}");
    assert_eq!(values("x-gone"), "", "{case}");
    assert_eq!(values("x-both"), "2", "{case}");

    let case = format!("{prefix}-response-ops");
    let answer = Call::get(&case, "/response-ops").send(to, version).await;
    assert_eq!(answer.header("x-late"), "1", "{case}");
}

/// Changes that are not possible fail the request.
async fn failures(bench: &Bench, at: usize, prefix: &str, version: Version) {
    let to = bench.envoy.address(at);
    for path in [
        "/reserved",
        "/set-host",
        "/line-break",
        "/panic",
        "/mutate-nothing",
    ] {
        let case = format!("{prefix}-{path}");
        let answer = Call::get(&case, path).send(to, version).await;
        assert_eq!(answer.status, 500, "{case}");
        assert!(bench.upstream.seen(&case).is_empty(), "{case}");
        let log = bench.agent.logs.completed(&case).await;
        assert_eq!(log.completes.len(), 1, "{case}");
    }
    let case = format!("{prefix}-late-op");
    let answer = Call::get(&case, "/request-op-late").send(to, version).await;
    assert_eq!(answer.status, 500, "{case}");
    let case = format!("{prefix}-more");
    let answer = Call::get(&case, "/more").send(to, version).await;
    assert_eq!(answer.status, 200, "{case}: the end of no body was judged");
    let log = bench.agent.logs.completed(&case).await;
    assert!(
        log.events.contains(&"request0:.".to_owned()),
        "{case}: {log:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn host_is_set_with_leave_of_both() {
    let agent = Agent::with(Default::default(), EnvoyConfig::default().may_set_host()).await;
    let upstream = Upstream::start().await;
    let filters = [ext_proc(
        "NONE",
        "mutation_rules: {allow_all_routing: true}",
    )];
    let envoy = Envoy::start(&filters, &agent.address.to_string(), upstream.address).await;
    let answer = Call::get("host", "/set-host")
        .send(envoy.address(0), Version::Http1)
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(upstream.seen("host").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_handlers_get_the_time_they_need() {
    let agent = Agent::start().await;
    let upstream = Upstream::start().await;
    let filters = [ext_proc("NONE", "")];
    let envoy = Envoy::start(&filters, &agent.address.to_string(), upstream.address).await;
    // Longer than Envoy's `message_timeout`.
    let answer = Call::get("slow", "/slow")
        .send(envoy.address(0), Version::Http1)
        .await;
    assert_eq!(answer.status, 200);
}
