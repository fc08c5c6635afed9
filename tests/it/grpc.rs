//! Agents over gRPC: behaviour that the tests over every transport do not cover.
use crate::common::http2::{RawServer, RawStream, grpc_config};
use crate::common::{
    TEST_TIMEOUT, call, config, eventually, faults, pool_with, request, result_of, serve_at,
    serve_grpc,
};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tollgate::{
    AddError, AgentConfig, AgentPool, CallError as Error, ConnectError, Decision, Encoding,
};

async fn expect_allowed(pool: &AgentPool) {
    let answer = result_of(call(pool, "c-1")).await.unwrap();
    assert_eq!(answer.decision, Decision::Allow);
}

#[tokio::test]
async fn every_form_of_endpoint_reaches_the_agent() {
    let agent = serve_grpc().await;
    let address = agent
        .path
        .to_str()
        .unwrap()
        .strip_prefix("grpc://")
        .unwrap();

    for endpoint in [
        format!("http://{address}"),
        format!("grpc://{address}/"),
        address.replace("127.0.0.1", "localhost"),
    ] {
        let pool = pool_with(config(Encoding::MessagePack), Path::new(&endpoint)).await;
        expect_allowed(&pool).await;
        assert_eq!(
            pool.agent("agent").unwrap().encoding(),
            Some(Encoding::Protobuf)
        );
    }

    let dir = tempfile::tempdir().unwrap();
    let endpoint = format!("grpc+unix://{}/agent.sock", dir.path().display());
    let agent = serve_at(&endpoint, |server| server).await;
    let pool = pool_with(config(Encoding::Json), &agent.path).await;
    expect_allowed(&pool).await;
    agent.stop().await;
    assert!(!dir.path().join("agent.sock").exists());
}

#[tokio::test]
async fn many_calls_at_once_share_few_connections() {
    let agent = serve_grpc().await;
    let config = config(Encoding::MessagePack)
        .connections_per_agent(4)
        .max_queued_calls(2000);
    let pool = pool_with(config, &agent.path).await;

    let calls: Vec<_> = (0..2000).map(|n| call(&pool, &format!("c-{n}"))).collect();
    for call in calls {
        assert_eq!(result_of(call).await.unwrap().decision, Decision::Allow);
    }

    assert_eq!(agent.seen.lock().unwrap().len(), 2000);
}

#[tokio::test]
async fn call_times_out_and_its_late_answer_is_dropped() {
    let agent = serve_grpc().await;
    let config = config(Encoding::MessagePack).request_timeout(Duration::from_millis(50));
    let pool = pool_with(config, &agent.path).await;

    let event = request("c-1", "/wait");
    let started = Instant::now();
    let late = pool.agent("agent").unwrap().send("c-1", &event).await;
    assert_fails!(late, Error::Timeout { .. });
    assert!(started.elapsed() < TEST_TIMEOUT / 2);

    agent.release.notify_one();
    eventually("the late answer is counted", async || {
        faults(&pool).await.late_answers == 1
    })
    .await;
    expect_allowed(&pool).await;
}

#[tokio::test]
async fn stopping_server_finishes_its_calls_and_is_reconnected() {
    let agent = serve_grpc().await;
    let endpoint = agent.path.clone();
    let config = config(Encoding::MessagePack).reconnect_interval(Duration::from_millis(10));
    let pool = pool_with(config, &endpoint).await;

    let asking = pool.clone();
    let waiting = tokio::spawn(async move {
        let event = request("c-1", "/wait");
        asking.agent("agent").unwrap().send("c-1", &event).await
    });
    eventually("the event arrives", async || {
        agent.seen.lock().unwrap().len() == 1
    })
    .await;

    let release = agent.release.clone();
    let stopped = tokio::spawn(agent.stop());
    eventually("the server has stopped listening", async || {
        let address = endpoint.to_str().unwrap().trim_start_matches("grpc://");
        tokio::net::TcpStream::connect(address).await.is_err()
    })
    .await;

    release.notify_one();
    assert_eq!(waiting.await.unwrap().unwrap().decision, Decision::Allow);
    stopped.await.unwrap();

    let _agent = serve_at(endpoint.to_str().unwrap(), |server| server).await;
    eventually("the pool is connected again", async || {
        result_of(call(&pool, "c-2")).await.is_ok()
    })
    .await;
}

/// Returns the error of connecting to an endpoint that is no agent.
async fn connect_error(endpoint: &str) -> ConnectError {
    let pool = AgentPool::with_config(
        config(Encoding::MessagePack).connect_timeout(Duration::from_millis(500)),
    );
    let started = Instant::now();
    let Err(AddError::Connect { source, .. }) = pool
        .add(AgentConfig::new("agent", endpoint).require_connection())
        .await
    else {
        panic!("connected to {endpoint}");
    };
    assert!(started.elapsed() < TEST_TIMEOUT / 2);
    source
}

/// Serves the same bytes on every connection, then either closes it or stays silent.
async fn serve_bytes(words: &'static [u8], ends: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("grpc://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = stream.write_all(words).await;
                if !ends {
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            });
        }
    });
    endpoint
}

#[tokio::test]
async fn connect_errors_tell_why_an_endpoint_is_no_agent() {
    let unused = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();

    assert!(matches!(
        connect_error(&unused.to_string()).await,
        ConnectError::Refused
    ));

    let http_1 = serve_bytes(
        b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
        true,
    )
    .await;
    assert!(matches!(
        connect_error(&http_1).await,
        ConnectError::Rpc { .. }
    ));

    let silent = serve_bytes(b"", false).await;
    assert!(matches!(
        connect_error(&silent).await,
        ConnectError::TimedOut(_)
    ));

    let ending = serve_bytes(b"", true).await;
    let error = connect_error(&ending).await;
    assert!(matches!(error, ConnectError::Rpc { .. }), "{error:?}");
}

#[tokio::test]
async fn grpc_server_without_the_service_is_reported() {
    let (_, health) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("grpc://{}", listener.local_addr().unwrap());
    let incoming = futures_util::stream::poll_fn(move |cx| {
        listener
            .poll_accept(cx)
            .map(|accepted| Some(accepted.map(|(stream, _)| stream)))
    });
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(health)
            .serve_with_incoming(incoming),
    );

    let ConnectError::Rpc { status, .. } = connect_error(&endpoint).await else {
        panic!("another error");
    };
    assert_eq!(status, "Unimplemented");
}

#[tokio::test]
async fn oversized_message_ends_its_stream_and_the_pool_reconnects() {
    let agent = serve_at("grpc://127.0.0.1:0", |server| server.max_message_size(4096)).await;
    let config = config(Encoding::MessagePack).reconnect_interval(Duration::from_millis(10));
    let pool = pool_with(config, &agent.path).await;

    let event = request("c-1", &"/".repeat(5000));
    let rejected = pool.agent("agent").unwrap().send("c-1", &event).await;
    assert_fails!(rejected, Error::ConnectionClosed { .. });

    eventually("the pool is connected again", async || {
        result_of(call(&pool, "c-2")).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn bodies_larger_than_the_windows_pass() {
    let agent = serve_grpc().await;
    let pool = pool_with(config(Encoding::MessagePack), &agent.path).await;
    for size in [100_000, 1_000_000, 4_000_000, 8_000_000] {
        let data = bytes::Bytes::from(vec![7; size]);
        let event = tollgate::events::RequestBodyChunkEvent::new("c-1", data, 0, true);
        let answer = pool.agent("agent").unwrap().send("c-1", &event).await;
        assert_eq!(answer.unwrap().decision, Decision::Allow);
    }
}

/// Returns the index of the connection on which the next event arrives.
async fn next_connection(streams: &mut [RawStream; 2]) -> usize {
    let [first, second] = streams;
    tokio::select! {
        _ = first.event() => 0,
        _ = second.event() => 1,
    }
}

/// Calls made at the same time share one HTTP/2 batch on one connection. Single calls gain nothing
/// from sharing, so they take turns.
#[tokio::test]
async fn concurrent_calls_share_a_connection_single_ones_rotate() {
    let agent = RawServer::listen().await;
    let pool = AgentPool::with_config(grpc_config().connections_per_agent(2));

    let (added, (first, second)) = tokio::join!(
        pool.add(AgentConfig::new("agent", &*agent.endpoint).require_connection()),
        async {
            (
                agent.accept_handshake().await,
                agent.accept_handshake().await,
            )
        }
    );
    added.unwrap();
    let ((_first, first), (_second, second)) = (first, second);

    let mut streams = [first, second];
    let mut unanswered = Vec::new();
    let mut connections = Vec::new();
    for number in 0..6 {
        unanswered.push(call(&pool, &format!("lone-{number}")));
        connections.push(next_connection(&mut streams).await);
    }
    let [one, other] = [connections[0], connections[1]];
    assert_ne!(one, other);
    assert_eq!(connections, [one, other, one, other, one, other]);

    for number in 0..3 {
        unanswered.push(call(&pool, &format!("together-{number}")));
    }
    for _ in 0..3 {
        assert_eq!(next_connection(&mut streams).await, one);
    }

    unanswered.push(call(&pool, "lone-again"));
    assert_eq!(next_connection(&mut streams).await, other);
}
