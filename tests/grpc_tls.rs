//! Agents over gRPC with TLS: who is taken for whom, and what is said if not.
#![cfg(feature = "grpc")]
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use common::{PATIENCE, ServedAgent, call, config, request, result_of, serve_grpc_with};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tollgate::{
    AgentPool, AgentPoolConfig, AgentProtocolError as Error, ConnectError, Decision, Encoding,
    TlsConfig, TlsFailure, TlsServerConfig,
};

/// An authority that is made for one test.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM form.
struct Identity {
    chain: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    fn identity(&self, name: &str) -> Identity {
        self.identity_with(name, |_| {})
    }

    fn identity_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        Identity {
            chain: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn trusted(&self) -> TlsConfig {
        TlsConfig::default()
            .with_roots_pem(self.pem.as_bytes())
            .unwrap()
    }
}

async fn serve(identity: &Identity) -> ServedAgent {
    serve_tls(
        TlsServerConfig::from_pem(identity.chain.as_bytes(), identity.key.as_bytes()).unwrap(),
    )
    .await
}

async fn serve_tls(tls: TlsServerConfig) -> ServedAgent {
    serve_grpc_with("grpcs://127.0.0.1:0", |server| server.with_tls(tls)).await
}

async fn connect(agent: &ServedAgent, tls: TlsConfig) -> Result<AgentPool, Error> {
    let pool = AgentPool::with_config(AgentPoolConfig {
        tls,
        connect_timeout: PATIENCE,
        ..config(Encoding::MessagePack)
    });
    let endpoint = agent.path.to_str().unwrap();
    pool.connect_agent("agent", endpoint).await.map(|()| pool)
}

async fn expect_works(agent: &ServedAgent, tls: TlsConfig) {
    let pool = connect(agent, tls).await.unwrap();
    let answer = result_of(call(&pool, "c-1")).await.unwrap();
    assert_eq!(answer.decision, Decision::Allow);
    let blocked = pool
        .send_request_headers("agent", "c-2", &request("c-2", "/block"))
        .await
        .unwrap();
    assert_ne!(blocked.decision, Decision::Allow);
}

async fn failure(agent: &ServedAgent, tls: TlsConfig) -> TlsFailure {
    match connect(agent, tls).await {
        Err(Error::ConnectionFailed {
            cause: ConnectError::Tls(failure),
            ..
        }) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_agent_with_the_right_certificate_is_asked() {
    let authority = Authority::new();
    let agent = serve(&authority.identity("127.0.0.1")).await;
    expect_works(&agent, authority.trusted()).await;
}

#[tokio::test]
async fn each_wrong_certificate_has_its_own_error() {
    let authority = Authority::new();
    let right = serve(&authority.identity("127.0.0.1")).await;
    let stranger = Authority::new().trusted();
    assert_eq!(
        failure(&right, stranger).await,
        TlsFailure::UnknownAuthority
    );
    let nobody = failure(&right, TlsConfig::default()).await;
    assert!(matches!(nobody, TlsFailure::Other(_)), "{nobody:?}");
    let other_host = serve(&authority.identity("waf.example")).await;
    assert_eq!(
        failure(&other_host, authority.trusted()).await,
        TlsFailure::WrongHost
    );
    let expired = authority.identity_with("127.0.0.1", |params| {
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    let expired = serve(&expired).await;
    assert_eq!(
        failure(&expired, authority.trusted()).await,
        TlsFailure::CertificateExpired
    );
    let early = authority.identity_with("127.0.0.1", |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
    });
    let early = serve(&early).await;
    assert_eq!(
        failure(&early, authority.trusted()).await,
        TlsFailure::CertificateNotYetValid
    );
    // What `openssl req -x509` makes: an authority that is also the server.
    let both = authority.identity_with("127.0.0.1", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    let both = serve(&both).await;
    let unusable = "the certificate cannot be used: CaUsedAsEndEntity";
    assert_eq!(
        failure(&both, authority.trusted()).await,
        TlsFailure::Other(unusable.to_owned())
    );
}

#[tokio::test]
async fn another_name_may_be_asked_for() {
    let authority = Authority::new();
    let agent = serve(&authority.identity("waf.example")).await;
    let tls = authority.trusted().with_server_name("waf.example");
    expect_works(&agent, tls).await;
}

#[tokio::test]
async fn a_name_that_is_none_is_told() {
    let authority = Authority::new();
    let agent = serve(&authority.identity("127.0.0.1")).await;
    let tls = authority.trusted().with_server_name("no name");
    let TlsFailure::Other(reason) = failure(&agent, tls).await else {
        panic!("another failure");
    };
    assert!(
        reason.starts_with("the server name \"no name\""),
        "{reason}"
    );
}

#[tokio::test]
async fn verification_is_off_only_by_its_name() {
    let agent = serve(&Authority::new().identity("elsewhere.example")).await;
    let tls = TlsConfig::default().dangerous_without_verification();
    expect_works(&agent, tls).await;
}

#[tokio::test]
async fn an_agent_may_want_to_know_its_proxies() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let identity = authority.identity("127.0.0.1");
    let tls = TlsServerConfig::from_pem(identity.chain.as_bytes(), identity.key.as_bytes())
        .unwrap()
        .with_client_roots_pem(clients.pem.as_bytes())
        .unwrap();
    let agent = serve_tls(tls).await;
    let known = clients.identity("proxy.example");
    let tls = authority
        .trusted()
        .with_identity_pem(known.chain.as_bytes(), known.key.as_bytes())
        .unwrap();
    expect_works(&agent, tls).await;
    let unknown = Authority::new().identity("proxy.example");
    let unknown = authority
        .trusted()
        .with_identity_pem(unknown.chain.as_bytes(), unknown.key.as_bytes())
        .unwrap();
    for (tls, reason) in [
        (authority.trusted(), "CertificateRequired"),
        // Both authorities have one name.
        (unknown, "DecryptError"),
    ] {
        let reason = TlsFailure::Refused(reason.to_owned());
        assert_eq!(failure(&agent, tls).await, reason);
    }
}

#[tokio::test]
async fn a_server_without_tls_is_told_apart() {
    let agent = common::serve_grpc().await;
    let address = agent.path.to_str().unwrap().replace("grpc://", "grpcs://");
    let pool = AgentPool::with_config(config(Encoding::MessagePack));
    let refused = pool.connect_agent("agent", address).await;
    let Err(Error::ConnectionFailed { cause, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert!(matches!(cause, ConnectError::Tls(_)), "{cause:?}");
}

/// What is said of TLS settings that cannot be used.
fn said<T>(settings: Result<T, Error>) -> String {
    match settings {
        Err(Error::InvalidTls { reason }) => reason,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it was taken"),
    }
}

#[test]
fn what_is_no_certificate_is_refused() {
    let identity = Authority::new().identity("a");
    let (chain, key) = (identity.chain.as_bytes(), identity.key.as_bytes());
    for nothing in [b"no PEM", key] {
        let roots = TlsConfig::default().with_roots_pem(nothing);
        assert!(said(roots).contains("no certificate"));
        let identity = TlsConfig::default().with_identity_pem(nothing, key);
        assert!(said(identity).contains("no certificate"));
    }
    let cut = TlsServerConfig::from_pem(&chain[..chain.len() / 2], key);
    assert!(said(cut).contains("certificate in PEM form is cut short"));
    let keyless = TlsServerConfig::from_pem(chain, chain);
    assert!(said(keyless).contains("no private key"));
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let [one, other] = ["a", "b"].map(|name| Authority::new().identity(name));
    let (chain, key) = (one.chain.as_bytes(), other.key.as_bytes());
    let server = TlsServerConfig::from_pem(chain, key);
    assert!(said(server).contains("not that of the certificate"));
    let client = TlsConfig::default().with_identity_pem(chain, key);
    assert!(said(client).contains("not that of the certificate"));
}

#[test]
fn what_is_called_a_certificate_and_is_none_is_refused() {
    let nonsense = b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    said(TlsConfig::default().with_roots_pem(nonsense));
    let identity = Authority::new().identity("a");
    said(TlsServerConfig::from_pem(nonsense, identity.key.as_bytes()));
}
