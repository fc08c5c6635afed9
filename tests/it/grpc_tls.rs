//! Agents over gRPC with TLS: accepted certificates, and the errors of rejected ones.
use crate::common::{ServedAgent, TEST_TIMEOUT, call, config, request, result_of, serve_at};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tollgate::{
    AddError, AgentConfig, AgentPool, ConnectError, Decision, Encoding, TlsConfig, TlsServerConfig,
    error::{InvalidTls, TlsFailure},
};

/// Certificate authority of one test.
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
    serve_at("grpcs://127.0.0.1:0", |server| server.tls(tls)).await
}

async fn connect(agent: &ServedAgent, tls: TlsConfig) -> Result<AgentPool, AddError> {
    let pool = AgentPool::with_config(
        config(Encoding::MessagePack)
            .tls(tls)
            .connect_timeout(TEST_TIMEOUT),
    );
    let endpoint = agent.path.to_str().unwrap();
    pool.add(AgentConfig::new("agent", endpoint).require_connection())
        .await
        .map(|_| pool)
}

async fn expect_works(agent: &ServedAgent, tls: TlsConfig) {
    let pool = connect(agent, tls).await.unwrap();
    let answer = result_of(call(&pool, "c-1")).await.unwrap();
    assert_eq!(answer.decision, Decision::Allow);
    let blocked = pool
        .agent("agent")
        .unwrap()
        .send("c-2", &request("c-2", "/block"))
        .await
        .unwrap();
    assert_ne!(blocked.decision, Decision::Allow);
}

async fn failure(agent: &ServedAgent, tls: TlsConfig) -> TlsFailure {
    match connect(agent, tls).await {
        Err(AddError::Connect {
            source: ConnectError::Tls(failure),
            ..
        }) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn agent_with_a_valid_certificate_is_used() {
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

    let no_roots = failure(&right, TlsConfig::default()).await;
    assert!(matches!(no_roots, TlsFailure::Other(_)), "{no_roots:?}");

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

    // As made by `openssl req -x509`: the server's certificate is itself an authority.
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
async fn server_name_can_be_overridden() {
    let authority = Authority::new();
    let agent = serve(&authority.identity("waf.example")).await;
    let tls = authority.trusted().with_server_name("waf.example");
    expect_works(&agent, tls).await;
}

#[tokio::test]
async fn invalid_server_name_is_reported() {
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
async fn verification_can_be_disabled_explicitly() {
    let agent = serve(&Authority::new().identity("elsewhere.example")).await;
    let tls = TlsConfig::default().dangerous_without_verification();
    expect_works(&agent, tls).await;
}

#[tokio::test]
async fn agent_can_require_client_certificates() {
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
        // Both authorities have the same name.
        (unknown, "DecryptError"),
    ] {
        let reason = TlsFailure::Refused(reason.to_owned());
        assert_eq!(failure(&agent, tls).await, reason);
    }
}

#[tokio::test]
async fn server_without_tls_is_a_tls_error() {
    let agent = crate::common::serve_grpc().await;
    let address = agent.path.to_str().unwrap().replace("grpc://", "grpcs://");
    let pool = AgentPool::with_config(config(Encoding::MessagePack));
    let rejected = pool
        .add(AgentConfig::new("agent", address).require_connection())
        .await;
    let Err(AddError::Connect { source, .. }) = rejected else {
        panic!("{rejected:?}");
    };
    assert!(matches!(source, ConnectError::Tls(_)), "{source:?}");
}

/// Returns the error text of invalid TLS settings.
fn reason_of<T>(settings: Result<T, InvalidTls>) -> String {
    match settings {
        Err(error) => error.reason().to_owned(),
        Ok(_) => panic!("the settings were accepted"),
    }
}

#[test]
fn text_that_is_no_certificate_is_rejected() {
    let identity = Authority::new().identity("a");
    let (chain, key) = (identity.chain.as_bytes(), identity.key.as_bytes());
    for nothing in [b"no PEM", key] {
        let roots = TlsConfig::default().with_roots_pem(nothing);
        assert!(reason_of(roots).contains("no certificate"));
        let identity = TlsConfig::default().with_identity_pem(nothing, key);
        assert!(reason_of(identity).contains("no certificate"));
    }
    let cut = TlsServerConfig::from_pem(&chain[..chain.len() / 2], key);
    assert!(reason_of(cut).contains("certificate in PEM form is cut short"));
    let keyless = TlsServerConfig::from_pem(chain, chain);
    assert!(reason_of(keyless).contains("no private key"));
}

#[test]
fn key_of_another_certificate_is_rejected() {
    let [one, other] = ["a", "b"].map(|name| Authority::new().identity(name));
    let (chain, key) = (one.chain.as_bytes(), other.key.as_bytes());
    let server = TlsServerConfig::from_pem(chain, key);
    assert!(reason_of(server).contains("not that of the certificate"));
    let client = TlsConfig::default().with_identity_pem(chain, key);
    assert!(reason_of(client).contains("not that of the certificate"));
}

#[test]
fn malformed_certificate_is_rejected() {
    let nonsense = b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    reason_of(TlsConfig::default().with_roots_pem(nonsense));
    let identity = Authority::new().identity("a");
    reason_of(TlsServerConfig::from_pem(nonsense, identity.key.as_bytes()));
}
