//! ext_authz.

use crate::agent::{Agent, Scripted};
use crate::client::{Call, Version};
use crate::proxy::{Envoy, binary};
use crate::upstream::Upstream;
use tollgate_envoy::EnvoyConfig;

fn ext_authz(more: &str) -> String {
    format!(
        r#"
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              grpc_service: {{envoy_grpc: {{cluster_name: agent}}, timeout: 5s}}
              transport_api_version: V3
              {more}
"#
    )
}

/// Returns the status of a request about which the agent failed with `status`. Envoy before 1.37
/// takes that for a denial.
fn failed(status: u16) -> u16 {
    let output = std::process::Command::new(binary())
        .arg("--version")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    if text.contains("/1.36.") { 403 } else { status }
}

#[tokio::test(flavor = "multi_thread")]
async fn checks_decide_and_change() {
    let agent = Agent::start().await;
    let upstream = Upstream::start().await;
    let filters = [
        ext_authz(""),
        ext_authz("encode_raw_headers: true"),
        ext_authz(
            "with_request_body: {max_request_bytes: 16, allow_partial_message: true, pack_as_bytes: true}",
        ),
    ];
    let envoy = Envoy::start(&filters, &agent.address.to_string(), upstream.address).await;
    for at in 0..2 {
        let to = envoy.address(at);
        let case = |what: &str| format!("{at}-{what}");
        let answer = Call::get(&case("ok"), "/ok").send(to, Version::Http1).await;
        assert_eq!(answer.status, 200);
        let log = agent.logs.completed(&case("ok")).await;
        assert_eq!(log.client_ip, "127.0.0.1");

        let answer = Call::get(&case("deny"), "/deny")
            .send(to, Version::Http1)
            .await;
        assert_eq!((answer.status.as_u16(), answer.text()), (403, "no\n"));
        assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
        assert!(upstream.seen(&case("deny")).is_empty());

        let answer = Call::get(&case("redirect"), "/redirect")
            .send(to, Version::Http2)
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("location")),
            (308, "/new")
        );

        for path in ["/reserved", "/panic", "/line-break", "/set-host", "/ops"] {
            // The last one removes a response header, which ext_authz cannot.
            let answer = Call::get(&case(path), path).send(to, Version::Http1).await;
            assert_eq!(answer.status, failed(500), "{path}");
            assert!(upstream.seen(&case(path)).is_empty(), "{path}");
        }
        let call = Call::get(&case("adds"), "/adds").header("x-add", "0");
        let answer = call.send(to, Version::Http1).await;
        assert_eq!(answer.status, 200);
        let seen = upstream.seen(&case("adds")).remove(0).headers;
        let value = |name: &str| {
            seen.get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(value("x-add").as_deref(), Some("0,1"));
        assert_eq!(value("x-new").as_deref(), Some("1,2"));
    }
    let to = envoy.address(2);
    for (body, status) in [
        ("fine", 200),
        ("BLOCK", 403),
        ("HOLD and much more of it", failed(413)),
        ("fine, but the end is not shown", failed(413)),
    ] {
        let answer = Call::post(body, "/body", body)
            .send(to, Version::Http1)
            .await;
        assert_eq!(answer.status, status, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_shown_passes_with_leave_alone() {
    let upstream = Upstream::start().await;
    let part = "with_request_body: {max_request_bytes: 16, allow_partial_message: true}";
    for (config, passes) in [
        (EnvoyConfig::default(), false),
        (EnvoyConfig::default().allow_partial_bodies(), true),
    ] {
        let agent = Agent::with(Scripted::default(), config).await;
        let filters = [ext_authz(part), ext_authz("")];
        let envoy = Envoy::start(&filters, &agent.address.to_string(), upstream.address).await;
        for (case, at, path) in [("cut", 0, "/ok"), ("hidden", 1, "/more")] {
            for version in [Version::Http1, Version::Http2] {
                let case = format!("{case}-{version:?}-{passes}");
                let call = Call::post(&case, path, "").chunks(&["more than Envoy shows"]);
                let answer = call.send(envoy.address(at), version).await;
                let status = if passes { 200 } else { failed(413) };
                assert_eq!(answer.status, status, "{case}");
                assert_eq!(upstream.seen(&case).len(), usize::from(passes), "{case}");
            }
        }
        // The agent decides by the head alone, and looks at bodies as well.
        let call = Call::post("unseen", "/ok", "BLOCK");
        call.send(envoy.address(1), Version::Http1).await;
        assert_eq!(agent.counters.get().unseen_bodies, 1);
    }
}
