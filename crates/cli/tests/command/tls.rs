//! TLS by options: who is trusted, who is let in, and what is said if files are not what they should be.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use crate::grpc::works;
use crate::support::{Agent, Workplace, fails, run};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use std::fs;

const ANYWHERE: &str = "grpcs://127.0.0.1:0";

/// An authority that is made for one test, with its certificate in a file.
struct Authority {
    file: String,
    issuer: Issuer<'static, KeyPair>,
}

/// The files of a certificate and its key.
struct Identity {
    cert: String,
    key: String,
}

impl Authority {
    fn new(place: &Workplace, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            file: place.file(&format!("{name}.pem"), &pem),
            issuer: Issuer::new(params, key),
        }
    }

    fn identity(&self, place: &Workplace, name: &str) -> Identity {
        self.identity_with(place, name, |_| {})
    }

    fn identity_with(
        &self,
        place: &Workplace,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity {
            cert: place.file(&format!("{name}.crt"), &cert),
            key: place.file(&format!("{name}.key"), &key.serialize_pem()),
        }
    }
}

impl Identity {
    fn options(&self) -> [&str; 4] {
        ["--tls-cert", &self.cert, "--tls-key", &self.key]
    }

    fn agent(&self, listen: &str, more: &[&str]) -> Agent {
        let options = [&self.options()[..], &["--block-path", "/admin"], more].concat();
        Agent::start(listen, &options)
    }
}

/// What each command that asks an agent says, with a status.
fn refused(endpoint: &str, options: &[&str], status: i32, parts: &[&str]) {
    for command in ["probe", "send", "load"] {
        let output = run(&[&[command, endpoint], options].concat());
        fails(&output, status, parts);
    }
}

#[test]
fn agents_with_a_certificate_are_asked() {
    let place = Workplace::new();
    let authority = Authority::new(&place, "ca");
    let identity = authority.identity(&place, "127.0.0.1");
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
fn agents_may_want_certificates_of_proxies() {
    let place = Workplace::new();
    let authority = Authority::new(&place, "ca");
    let clients = Authority::new(&place, "clients");
    let strangers = Authority::new(&place, "strangers");
    let agent = authority
        .identity(&place, "127.0.0.1")
        .agent(ANYWHERE, &["--tls-client-ca", &clients.file]);
    let trust = ["--tls-ca", &authority.file];
    let known = clients.identity(&place, "proxy.example");
    works(agent.endpoint(), &[&trust[..], &known.options()].concat());
    let reason = "refused by the other side: CertificateRequired";
    refused(agent.endpoint(), &trust, 1, &[agent.endpoint(), reason]);
    let stranger = strangers.identity(&place, "stranger.example");
    let options = [&trust[..], &stranger.options()].concat();
    let reason = "refused by the other side: UnknownCA";
    refused(agent.endpoint(), &options, 1, &[agent.endpoint(), reason]);
}

#[test]
fn each_wrong_certificate_is_told_apart() {
    let place = Workplace::new();
    let authority = Authority::new(&place, "ca");
    let stranger = Authority::new(&place, "stranger");
    let trust = ["--tls-ca", &authority.file];
    let agent = authority.identity(&place, "127.0.0.1").agent(ANYWHERE, &[]);
    let endpoint = agent.endpoint();
    refused(
        endpoint,
        &["--tls-ca", &stranger.file],
        1,
        &[endpoint, "unknown authority"],
    );
    let elsewhere = ["--tls-server-name", "elsewhere.example"];
    let elsewhere = [&trust[..], &elsewhere].concat();
    refused(endpoint, &elsewhere, 1, &[endpoint, "for another host"]);
    let expired = authority.identity_with(&place, "127.0.0.1", |params| {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    let agent = expired.agent(ANYWHERE, &[]);
    refused(
        agent.endpoint(),
        &trust,
        1,
        &[agent.endpoint(), "has expired"],
    );
}

#[test]
fn another_name_may_be_expected() {
    let place = Workplace::new();
    let authority = Authority::new(&place, "ca");
    let agent = authority
        .identity(&place, "waf.example")
        .agent(ANYWHERE, &[]);
    let trust = ["--tls-ca", &authority.file];
    refused(agent.endpoint(), &trust, 1, &["for another host"]);
    let name = ["--tls-server-name", "waf.example"];
    works(agent.endpoint(), &[&trust[..], &name].concat());
    let nonsense = ["--tls-server-name", "no name"];
    let nonsense = [&trust[..], &nonsense].concat();
    refused(
        agent.endpoint(),
        &nonsense,
        1,
        &["\"no name\"", "neither a DNS name"],
    );
}

#[test]
fn verification_is_off_only_by_its_name() {
    let place = Workplace::new();
    let authority = Authority::new(&place, "ca");
    let agent = authority
        .identity(&place, "waf.example")
        .agent(ANYWHERE, &[]);
    refused(
        agent.endpoint(),
        &[],
        2,
        &[agent.endpoint(), "no authority is trusted", "--tls-ca"],
    );
    works(agent.endpoint(), &["--dangerous-tls-without-verification"]);
}

#[test]
fn agents_without_tls_are_told_apart() {
    let place = Workplace::new();
    let authority = Authority::new(&place, "ca");
    let agent = Agent::start("grpc://127.0.0.1:0", &[]);
    let endpoint = agent.endpoint().replace("grpc://", "grpcs://");
    refused(
        &endpoint,
        &["--tls-ca", &authority.file],
        1,
        &[&endpoint, "TLS"],
    );
    let encrypted = authority.identity(&place, "127.0.0.1").agent(ANYWHERE, &[]);
    let endpoint = encrypted.endpoint().replace("grpcs://", "grpc://");
    refused(&endpoint, &["--timeout", "2s"], 1, &[&endpoint]);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let place = Workplace::new();
    let authority = Authority::new(&place, "ca");
    let one = authority.identity(&place, "one.example");
    let other = authority.identity(&place, "other.example");
    let missing = place.path("missing.pem");
    let text = place.file("text", "no certificate");
    let cut = place.file("cut.pem", &fs::read_to_string(&one.cert).unwrap()[..100]);
    let trust = ["--tls-ca", authority.file.as_str()];
    let identity = |cert, key| ["--tls-cert", cert, "--tls-key", key];
    for (cert, key, parts) in [
        (&missing, &one.key, [&missing, "--tls-cert", "No such file"]),
        (&one.cert, &missing, [&missing, "--tls-key", "No such file"]),
        (
            &text,
            &one.key,
            [&text, "--tls-cert", "no certificate in PEM form"],
        ),
        (&cut, &one.key, [&cut, "--tls-cert", "is cut short"]),
        (
            &one.cert,
            &text,
            [&text, "--tls-key", "no private key in PEM form"],
        ),
        (
            &one.cert,
            &other.key,
            [&other.key, &one.cert, "not that of the certificate"],
        ),
    ] {
        let identity = identity(cert, key);
        refused(
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
        (&text, "no certificate in PEM form"),
    ] {
        refused(
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
fn options_that_mean_nothing_are_refused() {
    let place = Workplace::new();
    let authority = Authority::new(&place, "ca");
    let identity = authority.identity(&place, "one.example");
    let (ca, options) = (["--tls-ca", authority.file.as_str()], identity.options());
    let socket = place.path("agent.sock");
    for endpoint in [&socket, "grpc://127.0.0.1:1", "127.0.0.1:1"] {
        refused(endpoint, &ca, 2, &["--tls-ca", "no TLS at", endpoint]);
        refused(
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
fn certificates_come_with_their_keys() {
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
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("--tls-"), "{args:?}: {said}");
    }
}
