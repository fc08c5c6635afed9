//! One server at several endpoints: each kind of socket, limits for all of them, and one drain.

use crate::common::{
    Proxy, RawConnection, RuleAgent, TEST_TIMEOUT, config, eventually, expect_decides, message,
    offer_handshake, pool_with, serve_at,
};
use std::path::Path;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tollgate::error::BindError;
use tollgate::{AgentServer, AgentServerBuilder, Encoding};

fn builder() -> AgentServerBuilder<RuleAgent> {
    AgentServer::builder(RuleAgent::default())
}

async fn expect_served_at(endpoint: &str) {
    let pool = pool_with(config(Encoding::MessagePack), Path::new(endpoint)).await;
    expect_decides(&pool).await;
}

#[tokio::test]
async fn agent_is_served_over_tcp() {
    let agent = serve_at("tcp://127.0.0.1:0", |server| server).await;
    let endpoint = agent.path.display().to_string();
    assert!(endpoint.starts_with("tcp://127.0.0.1:"), "{endpoint}");
    assert!(!endpoint.ends_with(":0"), "{endpoint}");
    expect_served_at(&endpoint).await;
}

#[tokio::test]
async fn one_server_has_many_endpoints() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, third] = ["1", "2", "3"].map(|name| dir.path().join(name));
    let mut server = builder()
        .listen(first.display().to_string())
        .listen("tcp://127.0.0.1:0")
        .listen_on(UnixListener::bind(&second).unwrap())
        .listen_on(TcpListener::bind("127.0.0.1:0").await.unwrap());
    if cfg!(feature = "grpc") {
        server = server
            .listen("grpc://127.0.0.1:0")
            .listen(format!("grpc+unix://{}", third.display()));
    }
    let server = server.bind().await.unwrap();
    let endpoints = server.endpoints();
    assert_eq!(endpoints.len(), if cfg!(feature = "grpc") { 6 } else { 4 });
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let serving = tokio::spawn(server.serve_until(stopped));
    for endpoint in &endpoints {
        expect_served_at(endpoint).await;
    }

    drop(stop);
    let ended = timeout(TEST_TIMEOUT, serving).await;
    ended.expect("the server does not drain").unwrap().unwrap();
    assert!(!first.exists() && !third.exists(), "a socket file is left");
}

#[tokio::test]
async fn limit_of_connections_is_shared_by_all_endpoints() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second] = ["1", "2"].map(|name| dir.path().join(name));
    let server = builder()
        .listen(first.display().to_string())
        .listen(second.display().to_string())
        .max_connections(1);
    tokio::spawn(server.bind().await.unwrap().serve());

    let served = RawConnection::connect_in(&first, Encoding::Json).await;
    let mut waiting = RawConnection::connect(&second).await;
    waiting
        .send_value(message::HANDSHAKE_REQUEST, &offer_handshake("json"))
        .await;
    waiting.expect_silence();
    drop(served);
    assert_eq!(waiting.message().await.1["success"], true);
}

#[tokio::test]
async fn server_listens_and_dials() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::listen(&folder).await;
    let server = builder()
        .listen("tcp://127.0.0.1:0")
        .dial(&proxy.endpoint)
        .dial_connections(1)
        .agent_id("agent");
    let server = server.bind().await.unwrap();
    let (endpoint, control) = (server.endpoints().remove(0), server.control());
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async { drop(stopped.await) };
    let serving = tokio::spawn(server.serve_until(stopped));

    proxy.expect_connections("agent", 1).await;
    expect_decides(&proxy.pool).await;
    expect_served_at(&endpoint).await;
    eventually("only the dialed connection is left", async || {
        control.connections() == 1
    })
    .await;

    drop(stop);
    let ended = timeout(TEST_TIMEOUT, serving).await;
    ended.expect("the server does not drain").unwrap().unwrap();
    proxy.expect_connections("agent", 0).await;
}

#[tokio::test]
async fn sessions_end_with_a_server_that_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.sock");
    let server = builder().listen(path.display().to_string());
    let serving = tokio::spawn(server.bind().await.unwrap().serve());
    let mut connection = RawConnection::connect_in(&path, Encoding::Json).await;
    serving.abort();
    connection.expect_end().await;
    assert!(!path.exists(), "the socket file is left behind");
}

async fn reason_of(server: AgentServerBuilder<RuleAgent>) -> String {
    let rejected = server.bind().await.map(drop);
    let Err(BindError::InvalidEndpoint(error)) = rejected else {
        panic!("{rejected:?}");
    };
    error.to_string()
}

#[tokio::test]
async fn malformed_endpoints_are_rejected() {
    for endpoint in [
        "",
        "tcp://",
        "tcp://nowhere",
        "tcp://:1",
        "tls://:1",
        "udp://127.0.0.1:1",
        "unix:",
    ] {
        let reason = reason_of(builder().listen(endpoint)).await;
        assert!(reason.contains(&format!("'{endpoint}'")), "{reason}");
    }
}

#[tokio::test]
async fn missing_features_are_named() {
    #[cfg(not(feature = "grpc"))]
    for endpoint in [
        "grpc://127.0.0.1:0",
        "grpcs://[::1]:0",
        "grpc+unix:///run/a",
        "grpc+systemd:",
    ] {
        let reason = reason_of(builder().listen(endpoint)).await;
        assert!(reason.contains("built without `grpc`"), "{reason}");
    }
    #[cfg(not(feature = "tls"))]
    for server in [
        builder().listen("tls://127.0.0.1:0"),
        builder().listen("tls+systemd:"),
        builder().dial("tls://127.0.0.1:1"),
    ] {
        let reason = reason_of(server).await;
        assert!(reason.contains("built without `tls`"), "{reason}");
    }
}

#[tokio::test]
async fn wrong_number_of_inherited_sockets_is_named() {
    // This process has none. The command's tests pass some.
    let bound = builder().listen("systemd:").bind().await;
    let error = bound.map(drop).unwrap_err().to_string();
    assert!(error.contains("LISTEN_FDS is not set"), "{error}");
}

#[cfg(feature = "tls")]
mod tls {
    use super::*;
    use rcgen::generate_simple_self_signed;
    use rustls::crypto::ring;
    use rustls::{ClientConfig, RootCertStore};
    use std::path::PathBuf;
    use std::sync::Arc;
    use tempfile::TempDir;
    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tollgate::TlsServerConfig;

    fn certificate() -> (TlsServerConfig, TlsConnector) {
        let issued = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (chain, key) = (issued.cert.pem(), issued.signing_key.serialize_pem());
        let server = TlsServerConfig::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(issued.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        (server, TlsConnector::from(Arc::new(client)))
    }

    /// Adds TLS to connections to a socket file, since a pool cannot connect to `tls://` itself.
    fn relay(address: String, connector: TlsConnector, folder: &TempDir) -> PathBuf {
        let path = folder.path().join("relay.sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            loop {
                let (mut accepted, _) = listener.accept().await.unwrap();
                let stream = TcpStream::connect(&address).await.unwrap();
                let name = "localhost".try_into().unwrap();
                let mut stream = connector.connect(name, stream).await.unwrap();
                tokio::spawn(async move {
                    tokio::io::copy_bidirectional(&mut accepted, &mut stream).await
                });
            }
        });
        path
    }

    #[tokio::test]
    async fn agent_is_served_over_tls() {
        let folder = tempfile::tempdir().unwrap();
        let (server, connector) = certificate();
        let agent = serve_at("tls://127.0.0.1:0", |builder| builder.tls(server)).await;
        let endpoint = agent.path.display().to_string();
        let address = endpoint.strip_prefix("tls://").unwrap().to_owned();
        let path = relay(address.clone(), connector, &folder);
        expect_served_at(path.to_str().unwrap()).await;

        // A peer without TLS is not served, and a silent one is closed like one without handshake.
        let mut plain = TcpStream::connect(address).await.unwrap();
        let hello = crate::common::frame(message::PING, b"{}");
        tokio::io::AsyncWriteExt::write_all(&mut plain, &hello)
            .await
            .unwrap();
        let mut received = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut plain, &mut received);
        // The end may be a reset.
        let _ = timeout(TEST_TIMEOUT, read).await.expect("it stays open");
    }

    #[tokio::test]
    async fn silent_tls_handshakes_give_way() {
        let folder = tempfile::tempdir().unwrap();
        let (server, connector) = certificate();
        let agent = serve_at("tls://127.0.0.1:0", |builder| {
            builder
                .tls(server)
                .max_connections(4)
                .handshake_timeout(6 * TEST_TIMEOUT)
        })
        .await;
        let endpoint = agent.path.display().to_string();
        let address = endpoint.strip_prefix("tls://").unwrap().to_owned();
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(TcpStream::connect(&address).await.unwrap());
        }
        let path = relay(address, connector, &folder);
        expect_served_at(path.to_str().unwrap()).await;
        let mut received = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut silent[0], &mut received);
        // The end may be a reset.
        let _ = timeout(TEST_TIMEOUT, read).await.expect("the oldest stays");
    }

    #[tokio::test]
    async fn certificate_and_endpoints_have_to_fit() {
        let missing = reason_of(builder().listen("tls://127.0.0.1:0")).await;
        assert!(missing.contains("TLS needs a certificate"), "{missing}");
        let (server, _) = certificate();
        let unused = reason_of(builder().listen("tcp://127.0.0.1:0").tls(server)).await;
        assert!(unused.contains("no endpoint with TLS"), "{unused}");
    }
}
