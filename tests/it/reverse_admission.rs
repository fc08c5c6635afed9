//! Admission of reverse connections: tokens, ids, users, limits, and what a rejected peer is told.

use crate::common::{
    Proxy, RawConnection, config, dial, dial_with, eventually, in_virtual_time, message,
    registration, request, serve,
};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tollgate::error::{AcceptError, BindError};
use tollgate::{
    AgentConfig, AgentPool, AgentPoolConfig, Encoding, ReverseConnectionConfig,
    ReverseConnectionListener, error::RegistrationError,
};

fn set(texts: &[&str]) -> HashSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

async fn listening(
    change: impl FnOnce(&mut ReverseConnectionConfig),
) -> (Proxy, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Proxy::listen_as(&folder, AgentPoolConfig::default(), change).await;
    (proxy, folder)
}

/// Registers with this message and returns the response.
async fn answer(proxy: &Proxy, registration: &Value) -> (RawConnection, Value) {
    RawConnection::register(proxy.path(), registration).await
}

async fn expect_accepted(proxy: &Proxy, registration: &Value) -> RawConnection {
    let (connection, response) = answer(proxy, registration).await;
    assert_eq!(response["success"], true, "{registration}");
    connection
}

/// Asserts that a registration is rejected, with a response that does not tell the reason.
async fn expect_rejected(proxy: &Proxy, registration: &Value) {
    let (mut connection, response) = answer(proxy, registration).await;
    let expected = json!({
        "success": false, "error": "rejected", "proxy_id": "", "proxy_version": "", "connection_id": "",
    });
    assert_eq!(response, expected, "{registration}");
    connection.expect_end().await;
}

/// Returns the error that the listener reports for one rejected registration.
async fn reason(config: ReverseConnectionConfig, registration: &Value) -> RegistrationError {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.sock");
    let listener = ReverseConnectionListener::bind_uds(&path, config)
        .await
        .unwrap();
    let pool = AgentPool::new();
    let (accepted, _) = tokio::join!(
        listener.accept_one(&pool),
        RawConnection::register(&path, registration)
    );
    match accepted {
        Err(AcceptError::Registration { source: cause, .. }) => cause,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn any_of_several_tokens_is_accepted() {
    let (proxy, _folder) = listening(|config| config.auth_tokens = set(&["old", "new"])).await;
    let mut connections = Vec::new();
    for token in ["old", "new"] {
        connections.push(expect_accepted(&proxy, &registration("agent", Some(token))).await);
    }

    for token in [None, Some(""), Some("ol"), Some("old "), Some("OLD")] {
        expect_rejected(&proxy, &registration("agent", token)).await;
    }

    assert_eq!(proxy.connections_of("agent").await, 2);
    assert_eq!(
        (proxy.listener.registered(), proxy.listener.refused()),
        (2, 5)
    );
}

#[tokio::test]
async fn listener_reports_why_it_rejected_a_registration() {
    let with_tokens = || {
        ReverseConnectionConfig::default()
            .auth_tokens(set(&["right"]))
            .allowed_agents(set(&["waf", "auth-*"]))
    };
    let wrong = reason(with_tokens(), &registration("waf", Some("wrong"))).await;
    assert!(matches!(wrong, RegistrationError::TokenWrong), "{wrong}");

    let missing = reason(with_tokens(), &registration("auth-7", None)).await;
    assert!(
        matches!(missing, RegistrationError::TokenMissing),
        "{missing}"
    );

    for id in ["other", "waf2", "auth"] {
        let unlisted = reason(with_tokens(), &registration(id, Some("right"))).await;
        assert!(matches!(unlisted, RegistrationError::NotAllowed), "{id}");
    }

    for id in [
        "",
        "a\n",
        "\0",
        "a b",
        "waf\u{202e}",
        "w\u{e4}f",
        &"x".repeat(129),
    ] {
        let nameless = reason(with_tokens(), &registration(id, Some("right"))).await;
        assert!(
            matches!(nameless, RegistrationError::InvalidId),
            "{nameless}"
        );
    }

    let mut old = registration("waf", Some("right"));
    old["protocol_version"] = json!(1);
    let old = reason(with_tokens(), &old).await;
    assert!(matches!(old, RegistrationError::Handshake(_)), "{old}");
}

#[tokio::test]
async fn listener_without_authentication_is_rejected() {
    let without = ReverseConnectionConfig::default;
    let rejected = ReverseConnectionListener::bind_tcp("127.0.0.1:0", without()).await;
    assert_fails!(rejected, BindError::InvalidConfiguration { .. });

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.sock");
    let tokens = |tokens: &[&str]| without().auth_tokens(set(tokens));
    let mut pattern_without_token = tokens(&["right"]);
    let agent_tokens = &mut pattern_without_token.agent_tokens;
    agent_tokens.insert("a".to_owned(), HashSet::new());
    for unusable in [
        tokens(&["right", ""]),
        tokens(&[&"x".repeat(513)]),
        pattern_without_token,
    ] {
        let rejected = ReverseConnectionListener::bind_uds(&path, unusable).await;
        assert_fails!(rejected, BindError::InvalidConfiguration { .. });
        assert!(!path.exists());
    }

    let mut open = without();
    open.require_auth = false;
    ReverseConnectionListener::bind_tcp("127.0.0.1:0", open)
        .await
        .unwrap();
    ReverseConnectionListener::bind_tcp("127.0.0.1:0", tokens(&["right"]))
        .await
        .unwrap();
}

#[test]
fn debug_output_hides_tokens() {
    let config = ReverseConnectionConfig::default()
        .auth_tokens(set(&["s3cret"]))
        .agent_tokens(HashMap::from([("a".to_owned(), set(&["hidden"]))]));
    let shown = format!("{config:?}");
    assert!(!shown.contains("s3cret") && !shown.contains("hidden"));
}

#[tokio::test]
async fn unix_socket_admits_only_the_allowed_users() {
    let (proxy, _folder) = listening(|_| {}).await;
    let mode = std::fs::metadata(proxy.path())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    expect_accepted(&proxy, &registration("agent", None)).await;

    // This user is not on the list, so the connection ends before anything is read.
    let (proxy, _folder) =
        listening(|config| config.allowed_uids = HashSet::from([4_000_000])).await;
    RawConnection::connect(proxy.path())
        .await
        .expect_end()
        .await;
    eventually("the rejection is counted", async || {
        proxy.listener.refused() == 1
    })
    .await;
}

#[tokio::test]
async fn id_of_a_forward_agent_cannot_be_taken() {
    let served = serve().await;
    let proxy = Proxy::listen_on_tcp(config(Encoding::Json)).await;
    proxy
        .pool
        .add(AgentConfig::new("agent", served.path.to_str().unwrap()))
        .await
        .unwrap();

    let intruder = dial(&proxy.endpoint);
    eventually("the intruder is rejected", async || {
        proxy.listener.refused() == 1
    })
    .await;

    for n in 0..20 {
        let id = n.to_string();
        proxy.agent().send(&id, &request(&id, "/")).await.unwrap();
    }

    assert!(intruder.seen.lock().unwrap().is_empty());
    assert_eq!(served.seen.lock().unwrap().len(), 20);
}

/// Two loopback addresses represent two hosts. The id has no token of its own.
#[tokio::test]
async fn id_without_its_own_token_belongs_to_the_first_host() {
    let tokens = ReverseConnectionConfig::default()
        .auth_tokens(set(&["shared"]))
        .agent_tokens(HashMap::from([
            ("bound-*".to_owned(), set(&["own", "own-too"])),
            ("other".to_owned(), set(&["other-own"])),
        ]))
        .grace_time(Duration::from_millis(300));

    let listener = ReverseConnectionListener::bind_tcp("127.0.0.1:0", tokens)
        .await
        .unwrap();

    let address = listener.local_addr().unwrap();
    let proxy = Proxy::accept(listener, AgentPoolConfig::default(), String::new());

    let register = async |from: &str, id: &str, token: &str| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        let hello = registration(id, Some(token)).to_string();
        let response = exchange(
            &mut stream,
            &crate::common::frame(message::HANDSHAKE_REQUEST, hello.as_bytes()),
        )
        .await;
        (stream, response["success"] == true)
    };

    let (first, accepted) = register("127.0.0.1", "agent", "shared").await;
    assert!(accepted);
    assert!(register("127.0.0.1", "agent", "shared").await.1);
    assert!(!register("127.0.0.2", "agent", "shared").await.1);

    drop(first);
    proxy.expect_connections("agent", 0).await;
    assert!(
        !register("127.0.0.2", "agent", "shared").await.1,
        "another host took the id within the grace time"
    );

    eventually("the agent is forgotten", async || {
        crate::common::agent_ids(&proxy.pool).is_empty()
    })
    .await;
    assert!(register("127.0.0.2", "agent", "shared").await.1);

    let (_first, accepted) = register("127.0.0.1", "bound-1", "own").await;
    assert!(accepted);
    assert!(
        register("127.0.0.2", "bound-1", "own-too").await.1,
        "a replica on another host is rejected"
    );
    assert!(!register("127.0.0.1", "bound-1", "shared").await.1);
    assert!(!register("127.0.0.1", "other", "own").await.1);
    assert!(!register("127.0.0.1", "agent-2", "own").await.1);
}

async fn exchange(stream: &mut tokio::net::TcpStream, bytes: &[u8]) -> Value {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    stream.write_all(bytes).await.unwrap();
    let length = stream.read_u32().await.unwrap();
    let mut frame = vec![0; length as usize];
    stream.read_exact(&mut frame).await.unwrap();
    serde_json::from_slice(&frame[1..]).unwrap()
}

#[tokio::test]
async fn connections_are_limited_and_none_is_evicted() {
    let (proxy, _folder) = listening(|config| {
        config.max_connections_per_agent = 2;
        config.max_connections = 3;
    })
    .await;

    let first = expect_accepted(&proxy, &registration("a", None)).await;
    let _second = expect_accepted(&proxy, &registration("a", None)).await;
    expect_rejected(&proxy, &registration("a", None)).await;
    let _other = expect_accepted(&proxy, &registration("b", None)).await;
    expect_rejected(&proxy, &registration("c", None)).await;

    assert_eq!(proxy.connections_of("a").await, 2);

    drop(first);
    eventually("a connection is free", async || {
        proxy.listener.connections() == 2
    })
    .await;
    expect_accepted(&proxy, &registration("a", None)).await;
}

#[test]
fn number_of_remembered_agents_is_limited() {
    in_virtual_time(async {
        let (proxy, _folder) = listening(|config| config.max_connections = 10).await;

        for n in 0..100 {
            let id = format!("agent-{n}");
            drop(expect_accepted(&proxy, &registration(&id, None)).await);
            eventually("the connection is closed", async || {
                proxy.listener.connections() == 0 && proxy.connections_of(&id).await == 0
            })
            .await;
        }

        let known = crate::common::agent_ids(&proxy.pool).len();
        assert!((1..=10).contains(&known), "{known}");
    });
}

#[tokio::test]
async fn peer_that_connects_too_often_is_closed_at_once() {
    let (proxy, _folder) = listening(|config| config.max_registrations_per_second = 5).await;
    let mut accepted = 0;
    for n in 0..20 {
        let mut connection = RawConnection::connect(proxy.path()).await;
        let hello = registration(&n.to_string(), None).to_string();
        // The connection may be closed already.
        let _ = connection
            .try_send(&crate::common::frame(
                message::HANDSHAKE_REQUEST,
                hello.as_bytes(),
            ))
            .await;
        accepted += usize::from(connection.receive().await.is_some());
    }

    assert!((5..15).contains(&accepted), "{accepted}");

    eventually("the rate allows another registration", async || {
        let mut connection = RawConnection::connect(proxy.path()).await;
        let hello = registration("late", None).to_string();
        let _ = connection
            .try_send(&crate::common::frame(
                message::HANDSHAKE_REQUEST,
                hello.as_bytes(),
            ))
            .await;
        connection.receive().await.is_some()
    })
    .await;
}

/// A rejected agent retries with increasing delays, and registers once its token is right.
#[tokio::test]
async fn dialer_reads_its_token_file_again() {
    let (proxy, folder) = listening(|config| config.auth_tokens = set(&["right"])).await;
    let file = folder.path().join("token");
    std::fs::write(&file, "wrong\n").unwrap();

    let agent = dial_with(|dialer| {
        dialer
            .dial(&proxy.endpoint)
            .token_file(&file)
            .reconnect_interval(Duration::from_millis(20))
    });

    eventually("the agent is rejected twice", async || {
        proxy.listener.refused() >= 2
    })
    .await;
    assert_eq!(agent.control.connections(), 0);

    std::fs::write(&file, "  right\n").unwrap();
    proxy.expect_connections("agent", 1).await;

    std::fs::remove_file(&file).unwrap();
    agent.stop().await;
}
