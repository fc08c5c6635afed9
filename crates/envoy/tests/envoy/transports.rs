//! Unix sockets, health and reflection, and TLS.

use crate::agent::{Agent, listen_at};
use crate::client::{Call, Version};
use crate::proxy::{Envoy, ext_proc};
use crate::upstream::Upstream;
use bytes::{BufMut, Bytes, BytesMut};
use http::Request;
use std::net::SocketAddr;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn envoy_connects_to_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let serving = listen_at(&path).await;
    let upstream = Upstream::start().await;
    let filters = [ext_proc("NONE", "")];
    let envoy = Envoy::start(&filters, path.to_str().unwrap(), upstream.address).await;
    let answer = Call::get("unix", "/deny")
        .send(envoy.address(0), Version::Http1)
        .await;
    assert_eq!(answer.status, 403);
    serving.abort();
}

/// Calls a method with one message. Returns the answer and the status.
pub(crate) async fn call(
    address: SocketAddr,
    method: &str,
    message: &[u8],
) -> (Option<Bytes>, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = Request::post(format!("http://agent{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut sending) = client.send_request(request, false).unwrap();
    sending.send_data(framed(message), true).unwrap();
    let response = response.await.unwrap();
    let status = |headers: &http::HeaderMap| {
        let status = headers.get("grpc-status");
        status.map(|status| status.to_str().unwrap().to_owned())
    };
    if let Some(status) = status(response.headers()) {
        return (None, status);
    }
    let mut body = response.into_body();
    let mut received = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        received.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.unwrap().unwrap();
    let answer = (received.len() >= 5).then(|| received.split_off(5).freeze());
    (answer, status(&trailers).unwrap())
}

/// Returns a message with its prefix.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.extend_from_slice(message);
    frame.freeze()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer() {
    let agent = Agent::start().await;
    let serving = (Some(Bytes::from_static(&[8, 1])), "0".to_owned());
    let health = "/grpc.health.v1.Health/Check";
    assert_eq!(call(agent.address, health, &[]).await, serving);
    let service = b"envoy.service.ext_proc.v3.ExternalProcessor";
    let mut question = vec![10, service.len() as u8];
    question.extend_from_slice(service);
    assert_eq!(call(agent.address, health, &question).await, serving);
    assert_eq!(call(agent.address, health, b"\x0a\x01x").await.1, "5");
    assert_eq!(call(agent.address, "/nothing.Here/Is", &[]).await.1, "12");

    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let (services, status) = call(agent.address, reflection, b"\x3a\x01*").await;
    assert_eq!(status, "0");
    let services = String::from_utf8_lossy(&services.unwrap()).into_owned();
    assert!(
        services.contains("envoy.service.auth.v3.Authorization"),
        "{services}"
    );
    let mut question = vec![34, service.len() as u8];
    question.extend_from_slice(service);
    let (files, status) = call(agent.address, reflection, &question).await;
    assert_eq!(status, "0");
    let files = String::from_utf8_lossy(&files.unwrap()).into_owned();
    assert!(files.contains("external_processor.proto"), "{files}");
    assert!(files.contains("google/protobuf/struct.proto"), "{files}");
}
