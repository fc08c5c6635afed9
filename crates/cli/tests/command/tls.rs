//! TLS options: trusted authorities, client certificates, and the messages for unusable files.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

use crate::certificates::{Authority, Identity};
use crate::grpc::works;
use crate::support::{Agent, TestDir, fails, run, succeeds, tollgate};
use rcgen::date_time_ymd;
use std::fs;
use tollgate::{AgentPool, ReverseConnectionConfig, ReverseConnectionListener, TlsServerConfig};

const ANYWHERE: &str = "grpcs://127.0.0.1:0";

impl Identity {
    fn agent(&self, listen: &str, more: &[&str]) -> Agent {
        let options = [&self.options()[..], &["--block-path", "/admin"], more].concat();
        Agent::start(listen, &options)
    }
}

/// Checks that `probe`, `send` and `load` fail with this status and a message with these parts.
fn all_fail(endpoint: &str, options: &[&str], status: i32, parts: &[&str]) {
    for command in ["probe", "send", "load"] {
        let output = run(&[&[command, endpoint], options].concat());
        fails(&output, status, parts);
    }
}

#[test]
fn agents_with_a_trusted_certificate_are_used() {
    let dir = TestDir::new();
    let authority = Authority::new(&dir, "ca");
    let identity = authority.identity(&dir, "127.0.0.1");
    for listen in [
        ANYWHERE,
        "grpc://127.0.0.1:0",
        "127.0.0.1:0",
        "https://127.0.0.1:0",
    ] {
        let agent = identity.agent(listen, &[]);
        let (scheme, address) = agent.endpoint().split_once("://").unwrap();
        assert_eq!(scheme, "grpcs");
        works(agent.endpoint(), &["--tls-ca", &authority.file]);
        works(
            &format!("https://{address}"),
            &["--tls-ca", &authority.file],
        );
    }
}

#[test]
fn agents_can_require_client_certificates() {
    let dir = TestDir::new();
    let authority = Authority::new(&dir, "ca");
    let clients = Authority::new(&dir, "clients");
    let strangers = Authority::new(&dir, "strangers");
    let agent = authority
        .identity(&dir, "127.0.0.1")
        .agent(ANYWHERE, &["--tls-client-ca", &clients.file]);
    let trust = ["--tls-ca", &authority.file];
    let known = clients.identity(&dir, "proxy.example");
    works(agent.endpoint(), &[&trust[..], &known.options()].concat());
    let reason = "rejected by the peer: CertificateRequired";
    all_fail(agent.endpoint(), &trust, 1, &[agent.endpoint(), reason]);
    let stranger = strangers.identity(&dir, "stranger.example");
    let options = [&trust[..], &stranger.options()].concat();
    let reason = "rejected by the peer: UnknownCA";
    all_fail(agent.endpoint(), &options, 1, &[agent.endpoint(), reason]);
}

#[test]
fn each_certificate_error_has_its_message() {
    let dir = TestDir::new();
    let authority = Authority::new(&dir, "ca");
    let stranger = Authority::new(&dir, "stranger");
    let trust = ["--tls-ca", &authority.file];
    let agent = authority.identity(&dir, "127.0.0.1").agent(ANYWHERE, &[]);
    let endpoint = agent.endpoint();
    all_fail(
        endpoint,
        &["--tls-ca", &stranger.file],
        1,
        &[endpoint, "unknown authority"],
    );
    let elsewhere = ["--tls-server-name", "elsewhere.example"];
    let elsewhere = [&trust[..], &elsewhere].concat();
    all_fail(endpoint, &elsewhere, 1, &[endpoint, "for another host"]);
    let expired = authority.identity_with(&dir, "127.0.0.1", |params| {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    let agent = expired.agent(ANYWHERE, &[]);
    all_fail(
        agent.endpoint(),
        &trust,
        1,
        &[agent.endpoint(), "has expired"],
    );
}

#[test]
fn server_name_can_be_overridden() {
    let dir = TestDir::new();
    let authority = Authority::new(&dir, "ca");
    let agent = authority.identity(&dir, "waf.example").agent(ANYWHERE, &[]);
    let trust = ["--tls-ca", &authority.file];
    all_fail(agent.endpoint(), &trust, 1, &["for another host"]);
    let name = ["--tls-server-name", "waf.example"];
    works(agent.endpoint(), &[&trust[..], &name].concat());
    let nonsense = ["--tls-server-name", "no name"];
    let nonsense = [&trust[..], &nonsense].concat();
    all_fail(
        agent.endpoint(),
        &nonsense,
        1,
        &["\"no name\"", "neither a DNS name"],
    );
}

#[test]
fn verification_is_disabled_only_explicitly() {
    let dir = TestDir::new();
    let authority = Authority::new(&dir, "ca");
    let agent = authority.identity(&dir, "waf.example").agent(ANYWHERE, &[]);
    all_fail(
        agent.endpoint(),
        &[],
        2,
        &[agent.endpoint(), "no authority is trusted", "--tls-ca"],
    );
    works(agent.endpoint(), &["--dangerous-tls-without-verification"]);
}

#[test]
fn mismatched_tls_and_plaintext_fail() {
    let dir = TestDir::new();
    let authority = Authority::new(&dir, "ca");
    let agent = Agent::start("grpc://127.0.0.1:0", &[]);
    let endpoint = agent.endpoint().replace("grpc://", "grpcs://");
    all_fail(
        &endpoint,
        &["--tls-ca", &authority.file],
        1,
        &[&endpoint, "TLS"],
    );
    let encrypted = authority.identity(&dir, "127.0.0.1").agent(ANYWHERE, &[]);
    let endpoint = encrypted.endpoint().replace("grpcs://", "grpc://");
    all_fail(&endpoint, &["--timeout", "2s"], 1, &[&endpoint]);
}

#[test]
fn unusable_files_are_named() {
    let dir = TestDir::new();
    let authority = Authority::new(&dir, "ca");
    let one = authority.identity(&dir, "one.example");
    let other = authority.identity(&dir, "other.example");
    let missing = dir.path("missing.pem");
    let text = dir.file("text", "no certificate");
    let cut = dir.file("cut.pem", &fs::read_to_string(&one.cert).unwrap()[..100]);
    let trust = ["--tls-ca", authority.file.as_str()];
    let identity = |cert, key| ["--tls-cert", cert, "--tls-key", key];
    for (cert, key, parts) in [
        (&missing, &one.key, [&missing, "--tls-cert", "No such file"]),
        (&one.cert, &missing, [&missing, "--tls-key", "No such file"]),
        (
            &text,
            &one.key,
            [&text, "--tls-cert", "no certificate found in the PEM text"],
        ),
        (&cut, &one.key, [&cut, "--tls-cert", "is cut short"]),
        (
            &one.cert,
            &text,
            [&text, "--tls-key", "no private key found in the PEM text"],
        ),
        (
            &one.cert,
            &other.key,
            [&other.key, &one.cert, "not that of the certificate"],
        ),
    ] {
        let identity = identity(cert, key);
        all_fail(
            "grpcs://127.0.0.1:1",
            &[&trust[..], &identity].concat(),
            2,
            &parts,
        );
        fails(
            &run(&[&["agent", "--listen", ANYWHERE], &identity[..]].concat()),
            2,
            &parts,
        );
    }
    for (file, cause) in [
        (&missing, "No such file"),
        (&text, "no certificate found in the PEM text"),
    ] {
        all_fail(
            "grpcs://127.0.0.1:1",
            &["--tls-ca", file],
            2,
            &["--tls-ca", file, cause],
        );
        let clients = ["--tls-client-ca", file];
        let agent = [
            &["agent", "--listen", ANYWHERE],
            &one.options()[..],
            &clients,
        ]
        .concat();
        fails(&run(&agent), 2, &["--tls-client-ca", file, cause]);
    }
}

#[test]
fn tls_options_without_tls_are_rejected() {
    let dir = TestDir::new();
    let authority = Authority::new(&dir, "ca");
    let identity = authority.identity(&dir, "one.example");
    let (ca, options) = (["--tls-ca", authority.file.as_str()], identity.options());
    let socket = dir.path("agent.sock");
    for endpoint in [&socket, "grpc://127.0.0.1:1", "127.0.0.1:1"] {
        all_fail(endpoint, &ca, 2, &["--tls-ca", "no TLS at", endpoint]);
        all_fail(
            endpoint,
            &options,
            2,
            &["--tls-cert", "no TLS at", endpoint],
        );
    }
    for way in [["--listen", &socket], ["--dial", &socket]] {
        let output = run(&[&["agent"], &way[..], &options].concat());
        fails(&output, 2, &["--tls-cert", "no TLS at", &socket]);
    }
    fails(
        &run(&["agent", "--listen", ANYWHERE]),
        2,
        &[ANYWHERE, "--tls-cert", "--tls-key"],
    );
    let on_socket = format!("grpc+unix://{socket}");
    let output = run(&[&["agent", "--listen", &on_socket], &options[..]].concat());
    fails(&output, 2, &["--tls-cert", "no TLS at", &on_socket]);
}

#[test]
fn only_endpoints_with_tls_use_the_certificate() {
    let dir = TestDir::new();
    let authority = Authority::new(&dir, "ca");
    let identity = authority.identity(&dir, "127.0.0.1");
    let socket = dir.path("agent.sock");
    let agent = identity.agent(&socket, &["--listen", "grpc://127.0.0.1:0"]);
    let (plain, encrypted) = agent.endpoint().split_once(", ").unwrap();
    assert_eq!(plain, socket);
    works(encrypted, &["--tls-ca", &authority.file]);
    succeeds(run(&["probe", plain, "--json"]));
}

#[test]
fn agent_dials_a_proxy_over_tls() {
    let dir = TestDir::new();
    let authority = Authority::new(&dir, "ca");
    let proxy = authority.identity(&dir, "127.0.0.1");
    let identity = authority.identity(&dir, "waf");
    let read = |file: &str| fs::read(file).unwrap();
    let tls = TlsServerConfig::from_pem(&read(&proxy.cert), &read(&proxy.key)).unwrap();
    let tls = tls.with_client_roots_pem(&read(&authority.file)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener =
        ReverseConnectionListener::bind_tls("127.0.0.1:0", tls, ReverseConnectionConfig::default());
    let listener = runtime.block_on(listener).unwrap();
    let endpoint = format!("tls://{}", listener.local_addr().unwrap());
    let dial = ["agent", "--dial", &endpoint];
    let trust = ["--tls-ca", &authority.file, "--agent-id", "waf"];
    let mut agent = tollgate(&[&dial[..], &trust, &identity.options()].concat())
        .spawn()
        .unwrap();
    let accepted = runtime.block_on(async {
        let pool = AgentPool::new();
        let accepting = listener.accept_one(&pool);
        let limit = std::time::Duration::from_secs(10);
        let accepted = tokio::time::timeout(limit, accepting).await;
        accepted.map(|agent| agent.unwrap().id().to_owned())
    });
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert_eq!(accepted.unwrap(), "waf");

    let no_trust = "no authority is trusted";
    fails(&run(&dial), 2, &[&endpoint, no_trust, "--tls-ca"]);
    let listening = ["agent", "--listen", ANYWHERE, "--tls-ca", &authority.file];
    let listening = [&listening[..], &identity.options()].concat();
    fails(&run(&listening), 2, &["--tls-ca", "no TLS at", ANYWHERE]);
}

#[test]
fn certificates_require_their_keys() {
    let halves: [&[&str]; 5] = [
        &["probe", "grpcs://a:1", "--tls-cert", "c"],
        &["send", "grpcs://a:1", "--tls-key", "k"],
        &[
            "load",
            "grpcs://a:1",
            "--tls-ca",
            "a",
            "--dangerous-tls-without-verification",
        ],
        &["agent", "--listen", ANYWHERE, "--tls-cert", "c"],
        &["agent", "--listen", ANYWHERE, "--tls-client-ca", "a"],
    ];
    for args in halves {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("--tls-"), "{args:?}: {message}");
    }
}
