//! Reverse connections over TLS, with and without client certificates.

use crate::common::{DialingAgent, Proxy, dial_with, eventually, request};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate::error::{BindError, InvalidTls};
use tollgate::{
    AgentPoolConfig, AgentServer, AgentServerBuilder, Encoding, ReverseConnectionConfig,
    ReverseConnectionListener, TlsConfig, TlsServerConfig, events::RequestBodyChunkEvent,
};

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn root(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Pair {
            certificate,
            key: key.serialize_pem(),
        }
    }

    /// Returns the settings of a proxy named `localhost`.
    fn server(&self) -> TlsServerConfig {
        let Pair { certificate, key } = self.issue("localhost");
        TlsServerConfig::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap()
    }

    /// Returns the settings of a client that trusts this authority.
    fn client(&self) -> TlsConfig {
        TlsConfig::default()
            .with_roots_pem(self.root().as_bytes())
            .unwrap()
    }

    /// Like [`Authority::client`], with a certificate for this name.
    fn client_named(&self, name: &str) -> TlsConfig {
        let Pair { certificate, key } = self.issue(name);
        let client = self.client();
        client
            .with_identity_pem(certificate.as_bytes(), key.as_bytes())
            .unwrap()
    }
}

async fn listen(tls: TlsServerConfig, change: impl FnOnce(&mut ReverseConnectionConfig)) -> Proxy {
    let mut config = ReverseConnectionConfig::default();
    change(&mut config);
    let listener = ReverseConnectionListener::bind_tls("127.0.0.1:0", tls, config)
        .await
        .unwrap();
    let endpoint = format!("tls://localhost:{}", listener.local_addr().unwrap().port());
    Proxy::accept(listener, AgentPoolConfig::default(), endpoint)
}

fn with_token(config: &mut ReverseConnectionConfig) {
    config.auth_tokens = ["right".to_owned()].into();
}

fn dial(proxy: &Proxy, tls: TlsConfig, configure: Configure) -> DialingAgent {
    dial_with(|dialer| {
        let dialer = dialer.dial(&proxy.endpoint).dial_tls(tls);
        configure(dialer.reconnect_interval(Duration::from_millis(20)))
    })
}

type Configure = fn(
    AgentServerBuilder<crate::common::RuleAgent>,
) -> AgentServerBuilder<crate::common::RuleAgent>;

fn showing_the_token(
    dialer: AgentServerBuilder<crate::common::RuleAgent>,
) -> AgentServerBuilder<crate::common::RuleAgent> {
    dialer.token("right")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_and_large_bodies_pass() {
    let authority = Authority::new();
    let proxy = listen(authority.server(), with_token).await;
    let agent = dial(&proxy, authority.client(), showing_the_token);
    proxy.expect_connections("agent", 1).await;
    let handle = proxy.agent();
    assert_eq!(handle.encoding(), Some(Encoding::MessagePack));

    let callers: Vec<_> = (0..64)
        .map(|caller| {
            let (pool, handle) = (Arc::clone(&proxy.pool), handle.clone());
            tokio::spawn(async move {
                for n in 0..20 {
                    let id = format!("{caller}-{n}");
                    handle.send(&id, &request(&id, "/headers")).await.unwrap();
                    let data = vec![n as u8; 1000 + caller * 100];
                    let event = RequestBodyChunkEvent::new(id.as_str(), data, 0, true);
                    handle.send(&id, &event).await.unwrap();
                    pool.unpin(&id);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }

    // More than any buffer on the way holds, in both directions.
    let large: Vec<u8> = (0..1024 * 1024_u32).map(|at| (at % 251) as u8).collect();
    let event = tollgate::events::ResponseBodyChunkEvent::new("large", large.clone(), 0, true);
    let answer = handle.send("large", &event).await.unwrap();
    let echoed = answer.response_body_mutation.unwrap().data.unwrap();
    assert!(echoed == large, "the body came back changed");

    assert_eq!(agent.seen.lock().unwrap().len(), 64 * 20 * 2 + 1);
    agent.stop().await;
    eventually("the agent is disconnected", async || {
        proxy.listener.connections() == 0
    })
    .await;
}

#[tokio::test]
async fn certificate_is_valid_only_for_its_own_name() {
    let authority = Authority::new();
    let server = authority.server();
    let mutual = server
        .with_client_roots_pem(authority.root().as_bytes())
        .unwrap();
    let proxy = listen(mutual, |_| {}).await;
    let _agent = dial(&proxy, authority.client_named("agent"), |dialer| dialer);
    proxy.expect_connections("agent", 1).await;
    // A second agent with the same name may connect as well.
    let _replica = dial(&proxy, authority.client_named("agent"), |dialer| dialer);
    proxy.expect_connections("agent", 2).await;

    let other = authority.client_named("other");
    let _impostor = dial(&proxy, other, |dialer| dialer);
    eventually("the other name is rejected", async || {
        proxy.listener.refused() >= 1
    })
    .await;
    let before = proxy.listener.refused();
    let _stranger = dial(&proxy, Authority::new().client_named("agent"), |dialer| {
        dialer
    });
    let _anonymous = dial(&proxy, authority.client(), |dialer| dialer);
    eventually("other clients are rejected", async || {
        proxy.listener.refused() >= before + 4
    })
    .await;
    assert_eq!(proxy.connections_of("agent").await, 2);
    assert_eq!(crate::common::agent_ids(&proxy.pool), ["agent"]);
}

#[tokio::test]
async fn agent_sends_its_token_only_to_a_verified_proxy() {
    let authority = Authority::new();
    let proxy = listen(authority.server(), with_token).await;
    let expect_distrust = async |tls: TlsConfig| {
        let before = proxy.listener.refused();
        let agent = dial(&proxy, tls, showing_the_token);
        eventually("the handshake fails", async || {
            proxy.listener.refused() > before
        })
        .await;
        assert_eq!(agent.control.connections(), 0);
        agent.stop().await;
    };
    expect_distrust(Authority::new().client()).await;
    expect_distrust(authority.client().with_server_name("elsewhere.example")).await;
    assert_eq!(proxy.listener.registered(), 0);

    let trusting = TlsConfig::default().dangerous_without_verification();
    let _agent = dial(&proxy, trusting, showing_the_token);
    proxy.expect_connections("agent", 1).await;
}

#[tokio::test]
async fn insecure_tls_configurations_are_rejected() {
    let authority = Authority::new();
    let config = ReverseConnectionConfig::default();
    let rejected =
        ReverseConnectionListener::bind_tls("127.0.0.1:0", authority.server(), config).await;
    assert_fails!(rejected, BindError::InvalidConfiguration { .. });
    let dialer =
        AgentServer::builder(crate::common::RuleAgent::default()).dial("tls://localhost:1");
    assert_fails!(dialer.serve().await, BindError::InvalidTls(_));
    for pem in ["", "nonsense", &authority.issue("a").key] {
        let roots = TlsConfig::default().with_roots_pem(pem.as_bytes());
        assert_fails!(roots, InvalidTls { .. });
    }
}

#[tokio::test]
async fn clients_without_tls_are_rejected_in_time() {
    let authority = Authority::new();
    let proxy = listen(authority.server(), |config| {
        with_token(config);
        config.handshake_timeout = Duration::from_millis(200);
    })
    .await;
    let _agent = dial(&proxy, authority.client(), showing_the_token);
    proxy.expect_connections("agent", 1).await;

    let address = proxy.listener.local_addr().unwrap();
    let started = Instant::now();
    let mut strangers = Vec::new();
    for bytes in [
        &b""[..],
        b"\x16\x03\x01",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0; 300],
    ] {
        let mut stranger = TcpStream::connect(address).await.unwrap();
        stranger.write_all(bytes).await.unwrap();
        strangers.push(stranger);
    }

    for mut stranger in strangers {
        // Only an alert, the end or a reset may come.
        let mut answer = Vec::new();
        let _ = stranger.read_to_end(&mut answer).await;
        assert!(answer.len() < 16, "{answer:?}");
    }
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );

    eventually("each rejection is counted", async || {
        proxy.listener.refused() == 4
    })
    .await;
    proxy.agent().send("c", &request("c", "/")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_is_valid_for_ids_spelled_like_its_names() {
    let authority = Authority::new();
    let tls = authority
        .server()
        .with_client_roots_pem(authority.root().as_bytes())
        .unwrap();
    let proxy = listen(tls, |_| {}).await;
    for (name, id, is_valid) in [
        ("waf", "waf", true),
        ("waf", "WAF", false),
        ("waf", "waf.", false),
        ("Auth", "Auth", true),
        ("Auth", "auth", false),
        ("*.agents.example", "a.agents.example", true),
        ("*.agents.example", "a.agents.EXAMPLE", false),
        ("192.0.2.7", "192.0.2.7", false),
    ] {
        let rejected = proxy.listener.refused();
        let agent = dial_with(|dialer| {
            let dialer = dialer.dial(&proxy.endpoint).agent_id(id);
            dialer.dial_tls(authority.client_named(name))
        });
        eventually("the registration has ended", async || {
            proxy.connections_of(id).await == 1 || proxy.listener.refused() > rejected
        })
        .await;
        assert_eq!(proxy.connections_of(id).await == 1, is_valid, "{name} {id}");
        agent.kill();
    }
}
