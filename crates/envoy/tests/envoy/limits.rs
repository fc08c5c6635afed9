//! Time limits, bodies that are shown in part, and what holds in every mode.

use crate::agent::{Agent, Scripted};
use crate::client::{Call, Version};
use crate::proxy::{Envoy, MODES, ext_proc};
use crate::upstream::Upstream;
use std::time::Duration;
use tollgate::EventType;
use tollgate_envoy::EnvoyConfig;

const STREAMED: usize = 1;
const PARTIAL: usize = 3;
const DUPLEX: usize = 4;

const OVERRIDE: &str = "allow_mode_override: true";

struct Bench {
    agent: Agent,
    upstream: Upstream,
    envoy: Envoy,
}

impl Bench {
    async fn start(handler: Scripted, config: EnvoyConfig) -> Self {
        // Longer than what is tested, on a machine that does much else.
        let unhurried =
            |filter: String| filter.replace("message_timeout: 1s", "message_timeout: 30s");
        let filters = MODES.map(|mode| unhurried(ext_proc(mode, OVERRIDE)));
        Self::with(handler, config, &filters).await
    }

    async fn with(handler: Scripted, config: EnvoyConfig, filters: &[String]) -> Self {
        let agent = Agent::with(handler, config).await;
        let upstream = Upstream::start().await;
        let envoy = Envoy::start(filters, &agent.address.to_string(), upstream.address).await;
        Self {
            agent,
            upstream,
            envoy,
        }
    }

    /// Returns the status that the client got, and whether the upstream got the request.
    async fn sent(&self, mode: usize, version: Version, call: Call, case: &str) -> (u16, bool) {
        let answer = call.send(self.envoy.address(mode), version).await;
        (answer.status.as_u16(), !self.upstream.seen(case).is_empty())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_and_answers_end_in_time() {
    let config = EnvoyConfig::default()
        .hold_timeout(Duration::from_millis(300))
        .answer_timeout(Duration::from_millis(300));
    let bench = Bench::start(Scripted::default(), config).await;
    for version in [Version::Http1, Version::Http2] {
        for (at, mode) in MODES.into_iter().enumerate() {
            let case = format!("{mode}-{version:?}-hang");
            let call = Call::get(&case, "/hang");
            let sent = bench.sent(at, version, call, &case).await;
            assert_eq!(sent, (504, false), "{case}");
        }
        let case = format!("{version:?}-held");
        let call = Call::post(&case, "/body", "").chunks(&["HOLD"]).stall();
        let sent = bench.sent(DUPLEX, version, call, &case).await;
        assert_eq!(sent, (504, false), "{case}");

        // The head alone goes on if the agent has decided about it and no body comes.
        let case = format!("{version:?}-silent");
        let call = Call::post(&case, "/body", "").chunks(&[]).stall();
        let sending = call.try_send(bench.envoy.address(DUPLEX), version);
        let waiting = tokio::time::timeout(Duration::from_secs(2), sending).await;
        assert!(waiting.is_err(), "{case}: the upstream waits for the body");
        assert_eq!(bench.upstream.seen(&case).len(), 1, "{case}");
    }
    let counts = bench.agent.counters.get();
    assert_eq!(counts.timeouts, 2 * (MODES.len() as u64 + 1), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_above_the_agents_limit_are_refused() {
    let bench = Bench::start(Scripted::default(), EnvoyConfig::default()).await;
    for version in [Version::Http1, Version::Http2] {
        for mode in [STREAMED, DUPLEX] {
            let case = format!("{}-{version:?}-large", MODES[mode]);
            let call = Call::post(&case, "/body", &"a".repeat(9 << 20));
            let (status, _) = bench.sent(mode, version, call, &case).await;
            assert_eq!(status, 413, "{case}");
            // What was judged may have gone on, and nothing else.
            for seen in bench.upstream.seen(&case) {
                let len = seen.body.map_or(0, |body| body.len());
                assert!(len <= 8 << 20, "{case}: {len} bytes");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_shown_in_part_pass_with_leave_alone() {
    for (config, passes) in [
        (EnvoyConfig::default(), false),
        (EnvoyConfig::default().allow_partial_bodies(), true),
    ] {
        let bench = Bench::start(Scripted::default(), config).await;
        for begin in ["fine", "HOLD"] {
            let case = format!("{begin}-{passes}");
            let call = Call::post(&case, "/body", &format!("{begin}{}", "a".repeat(3 << 20)));
            let (status, _) = bench.sent(PARTIAL, Version::Http1, call, &case).await;

            assert_eq!(status, if passes { 200 } else { 413 }, "{case}");
            let seen = bench.upstream.seen(&case);
            let is_whole = |body: &bytes::Bytes| body.len() == (3 << 20) + 4;
            let arrived = seen
                .iter()
                .any(|seen| seen.body.as_ref().is_some_and(is_whole));
            assert_eq!(arrived, passes, "{case}");
        }
    }
}

/// Trailers may be the only sign of a body's end, also where Envoy is configured to keep them.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_do_not_end_unseen() {
    let hides_trailers = ext_proc("STREAMED", OVERRIDE).replace("mode: SEND", "mode: SKIP");
    let filter = hides_trailers.replace("header_mode: SKIP", "header_mode: SEND");
    let bench = Bench::with(Scripted::default(), EnvoyConfig::default(), &[filter]).await;
    let call = Call::post("request", "/body", "").chunks(&["HOLD FOREVER"]);
    let (status, _) = bench
        .sent(0, Version::Http2, call.trailers(), "request")
        .await;
    assert_eq!(status, 500);
    let seen = bench.upstream.seen("request");
    assert!(seen.iter().all(|seen| seen.body.is_none()), "{seen:?}");

    let call = Call::get("response", "/body")
        .header("x-answer", "HOLD FOREVER")
        .header("x-answer-trailers", "1");
    let answer = call.send(bench.envoy.address(0), Version::Http2).await;
    assert!(answer.status == 500 || answer.body.is_none(), "{answer:?}");

    let call = Call::post("allowed", "/body", "").chunks(&["HOLD", "it"]);
    let (status, _) = bench
        .sent(0, Version::Http2, call.trailers(), "allowed")
        .await;
    assert_eq!(status, 200);
}

/// An answer about a request's body changes the response's head, also if nothing else needs it.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_requests_change_heads_of_responses() {
    let on_requests = vec![EventType::RequestHeaders, EventType::RequestBodyChunk];
    for events in [None, Some(on_requests)] {
        let handler = Scripted {
            events,
            ..Scripted::default()
        };
        let bench = Bench::start(handler, EnvoyConfig::default()).await;
        for (at, mode) in MODES.into_iter().enumerate().skip(1) {
            for version in [Version::Http1, Version::Http2] {
                let case = format!("{mode}-{version:?}");
                let call = Call::post(&case, "/body", "EARLY");
                let answer = call.send(bench.envoy.address(at), version).await;
                assert_eq!(answer.status, 200, "{case}");
                assert_eq!(answer.header("x-early"), "1", "{case}");
            }
        }
        assert_eq!(bench.agent.counters.get().lost_response_changes, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_exchange_is_completed_once() {
    let mut bench = Bench::start(Scripted::default(), EnvoyConfig::default()).await;
    let mut sent = 0;
    for (at, mode) in MODES.into_iter().enumerate() {
        for version in [Version::Http1, Version::Http2] {
            let to = bench.envoy.address(at);
            for path in ["/ok", "/deny", "/panic", "/deny-response", "/more"] {
                Call::get(mode, path).send(to, version).await;
                sent += 1;
            }
            for body in ["fine", "BLOCK", "PANIC", "WRONG", "HOLD", "HOLD FOREVER"] {
                Call::post(mode, "/body", body).send(to, version).await;
                let call = Call::post(mode, "/body", "").chunks(&[body, "end"]);
                call.trailers().send(to, version).await;
                let call = Call::get(mode, "/body").header("x-answer", body);
                let _ = call.try_send(to, version).await;
                sent += 3;
            }
            let call = Call::get(mode, "/hang").try_send(to, version);
            let left = tokio::time::timeout(Duration::from_millis(300), call).await;
            assert!(left.is_err(), "{mode}");
            sent += 1;
        }
    }
    // The agent has stopped once every exchange has ended.
    bench.agent.stop();
    bench.agent.stopped().await;
    let logs = bench.agent.logs.all();
    assert_eq!(logs.len(), sent);
    for log in logs {
        assert_eq!(log.completes.len(), 1, "{log:?}");
    }
}
