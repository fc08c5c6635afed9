//! The unary method `ProcessEvent`, and requests that are for no method.

use super::grpc_bad_proxies::{
    DEADLINE_EXCEEDED, INVALID_ARGUMENT, OK, RESOURCE_EXHAUSTED, UNIMPLEMENTED, connect,
    expect_serves, serve_with,
};
use crate::common::http2::{CONTROL_STREAM, PROCESS_EVENT, PROCESS_STREAM, SendHalf, framed};
use crate::common::proto::{bytes, find, number, offer_handshake, request};
use crate::common::{ServedAgent, serve_grpc};
use std::time::Duration;

/// Makes a unary call with these bytes. Returns its gRPC status and message.
async fn called(agent: &ServedAgent, said: impl Into<Vec<u8>>) -> (String, String) {
    let mut connection = connect(agent).await;
    let mut opened = connection.open(PROCESS_EVENT).await;
    opened.send_bytes(said.into());
    opened.end();
    opened.status().await
}

#[tokio::test]
async fn unary_call_is_answered() {
    let agent = serve_grpc().await;
    let mut connection = connect(&agent).await;

    for (message, field) in [
        (request("c-1", "/block"), 2),
        (offer_handshake(), 1),
        (bytes(11, number(1, 7)), 7),
    ] {
        let mut opened = connection.open(PROCESS_EVENT).await;
        opened.send_message(&message);
        opened.end();
        let mut stream = opened.responded().await;
        find(&stream.expect_message().await, field).expect("an answer");
        assert_eq!(stream.status().await.0, OK);
    }
}

#[tokio::test]
async fn invalid_unary_call_fails_with_a_reason() {
    let agent = serve_with(|server| server.max_message_size(4096)).await;
    let event = framed(&request("c-1", "/"));
    for (said, expected) in [
        (vec![], INVALID_ARGUMENT),
        (framed(b""), INVALID_ARGUMENT),
        (framed(b"\xff\xff"), INVALID_ARGUMENT),
        (framed(&bytes(99, "x")), INVALID_ARGUMENT),
        (framed(&bytes(9, bytes(1, "c-1"))), INVALID_ARGUMENT),
        (framed(&bytes(2, [0x0a, 0x7f])), INVALID_ARGUMENT),
        (framed(&bytes(1, [0x0a, 0x7f])), INVALID_ARGUMENT),
        (event[..event.len() - 1].to_vec(), INVALID_ARGUMENT),
        ([&event[..], &event].concat(), INVALID_ARGUMENT),
        (event.repeat(10), INVALID_ARGUMENT),
        ([&event[..], b"\0"].concat(), INVALID_ARGUMENT),
        (
            framed(&request("c-1", &"x".repeat(5000))),
            RESOURCE_EXHAUSTED,
        ),
        (
            framed(&request("c-1", &"x".repeat(40_960))),
            RESOURCE_EXHAUSTED,
        ),
        (b"\0\xff\xff\xff\xff".to_vec(), RESOURCE_EXHAUSTED),
        (b"\x01\0\0\0\x01x".to_vec(), UNIMPLEMENTED),
    ] {
        let (status, reason) = called(&agent, said.clone()).await;
        assert_eq!(status, expected, "{said:?}: {reason}");
        assert!(!reason.is_empty());
    }

    assert!(agent.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn unary_calls_without_a_message_do_not_block_others() {
    let agent = serve_with(|server| {
        server
            .max_connections(2)
            .handshake_timeout(Duration::from_secs(1))
    })
    .await;
    let mut connection = connect(&agent).await;

    let (mut first, mut second) = (
        connection.open(PROCESS_EVENT).await,
        connection.open(PROCESS_EVENT).await,
    );
    for call in [&mut first, &mut second] {
        call.send_bytes(framed(&request("c-1", "/"))[..9].to_vec());
    }

    let mut third = connection.open(PROCESS_EVENT).await;
    third.send_message(&request("c-3", "/"));
    assert_eq!(first.status().await.0, RESOURCE_EXHAUSTED);

    third.end();
    third.responded().await.expect_message().await;
    assert_eq!(second.status().await.0, DEADLINE_EXCEEDED);
    expect_serves(&agent).await;
}

#[tokio::test]
async fn unknown_paths_and_content_types_are_rejected() {
    let agent = serve_grpc().await;
    let mut connection = connect(&agent).await;

    for path in [
        "/zentinel.agent.v2.AgentServiceV2/Nothing",
        "/zentinel.agent.v2.AgentServiceV2/",
        "/zentinel.agent.v1.AgentService/ProcessStream",
        "/",
    ] {
        let opened = connection.open(path).await;
        assert_eq!(opened.status().await.0, UNIMPLEMENTED, "{path}");
    }

    for content_type in ["application/json", "application/grpc-web", "text/html", ""] {
        for path in [PROCESS_STREAM, PROCESS_EVENT, CONTROL_STREAM] {
            let opened = connection.open_as(path, content_type).await;
            let (response, _) = opened.response().await.unwrap();
            assert_eq!(response.status(), 415, "{content_type}");
        }
    }

    let mut opened = connection
        .open_as(PROCESS_STREAM, "application/grpc+proto")
        .await;
    opened.send_message(&offer_handshake());
    opened.responded().await.expect_message().await;
}
