//! Requests that reach the upstream in another form than the client sent them, or do not reach it.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod common;

use bytes::Bytes;
use common::*;
use http::{HeaderValue, Method};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Empty};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use tollgate::CancelReason;
use tollgate_example_settings::{BodyMode, WebSockets};
use tollgate_pingora::client::{self, Body};

/// Sends raw bytes, and returns all that comes until the proxy closes the connection.
async fn raw(setup: &Setup, sent: impl Into<Vec<u8>>) -> String {
    let (address, sent) = (setup.proxy.as_ref().unwrap().address(), sent.into());
    let exchange = move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        stream.write_all(&sent).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        stream.shutdown(Shutdown::Both).ok();
        String::from_utf8(received).unwrap()
    };
    tokio::task::spawn_blocking(exchange).await.unwrap()
}

fn websocket(key: Option<&'static str>) -> http::Request<Body> {
    let mut request = client::request(Method::GET, "/", Empty::new().boxed());
    let headers = request.headers_mut();
    headers.insert("connection", HeaderValue::from_static("upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    if let Some(key) = key {
        headers.insert("sec-websocket-key", HeaderValue::from_static(key));
        headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
    }
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_that_nobody_inspects_are_refused_and_other_offers_dropped() {
    let setup = Setup::with(&[decides("waf", HEADS)]).await;
    let mut client = setup.client().await;
    let refused = client
        .send(websocket(Some("dGhlIHNhbXBsZSBub25jZQ==")))
        .await;
    assert_eq!(refused.unwrap().status, 501);
    assert!(setup.seen().is_empty());
    let dropped = client.send(websocket(None)).await.unwrap();
    assert_eq!(dropped.status, 200);
    assert!(!setup.last_seen().headers.contains_key("upgrade"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_are_forwarded_if_the_settings_say_so() {
    let agents = [decides("waf", EVERYTHING)];
    let setup = Setup::configured(&agents, |settings| settings.websockets = WebSockets::Pass).await;
    let request = websocket(Some("dGhlIHNhbXBsZSBub25jZQ=="));
    setup.client().await.send(request).await.unwrap();
    assert_eq!(values(&setup.last_seen().headers, "upgrade"), ["websocket"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_shorter_than_the_preface_of_http2_are_answered() {
    let setup = Setup::with(&[decides("waf", HEADS)]).await;
    for request in ["GET / HTTP/1.0\r\n\r\n", "POST / HTTP/1.0\r\n\r\n"] {
        let answer = raw(&setup, request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let cut_off = raw(&setup, "PRI * HTTP/2.0\r\n\r\nno").await;
    assert!(!cut_off.starts_with("HTTP/1.1 200"), "{cut_off}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_spellings_of_a_path_are_judged() {
    let setup = Setup::with(&[decides("waf", HEADS)]).await;
    let rest = " HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
    for target in [
        "/x/../blocked",
        "//blocked",
        "/%62locked",
        "http://a.test/blocked",
    ] {
        let answer = raw(&setup, format!("GET {target}{rest}")).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{target}: {answer}");
    }
    assert!(setup.seen().is_empty());
    raw(&setup, format!("GET http://a.test/a?b{rest}")).await;
    let seen = setup.last_seen();
    assert_eq!(
        (&*seen.path, values(&seen.headers, "host")),
        ("/a?b", vec!["a.test".to_owned()])
    );
}

/// The client is still sending when it is answered, and must not see a reset.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocked_upload_gets_its_answer() {
    let setup = Setup::with(&[decides("waf", REQUESTS)]).await;
    for (path, word) in [("/blocked", &b""[..]), ("/", b"attack")] {
        let mut request =
            format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 4194304\r\n\r\n");
        request.push_str(str::from_utf8(word).unwrap());
        request.push_str(&"x".repeat(4_194_304 - word.len()));
        let answer = raw(&setup, request).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(
            answer.to_lowercase().contains("connection: close"),
            "{answer}"
        );
        assert!(answer.ends_with("blocked by waf\n"), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_request_that_has_arrived_leaves_the_connection_open() {
    let setup = Setup::with(&[decides("waf", HEADS)]).await;
    let mut client = setup.client().await;
    assert_eq!(client.post("/blocked", "small").await.unwrap().status, 403);
    assert_eq!(client.get("/").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reset_of_a_stream_cancels_the_exchange() {
    let setup = Setup::with(&[decides("waf", HEADS)]).await;
    for number in 1..=2 {
        let mut client = setup.http2_client().await;
        let (_open, body) = Channel::<Bytes, _>::new(1);
        let request = match number {
            1 => client::request(Method::GET, "/hang", Empty::new().boxed()),
            _ => client::request(Method::POST, "/hang", body.boxed()),
        };
        let asking = tokio::spawn(async move { client.send(request).await.map(drop) });
        let record = || setup.records[0].lock();
        eventually("the agent is asked", || record().asked.len() == number).await;
        asking.abort();
        eventually("the exchange is cancelled", || {
            record().cancelled.len() == number
        })
        .await;
        assert_eq!(
            record().cancelled[number - 1].1,
            CancelReason::ClientDisconnect
        );
    }
}

async fn with_request_mode(mode: BodyMode, agent: AgentSetup) -> Setup {
    Setup::configured(&[agent], |settings| {
        settings.agents[0].request_body = mode;
        settings.max_held_body = 1 << 20;
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn body_is_judged_before_the_upstream_hears_of_it() {
    for mode in [BodyMode::Buffer, BodyMode::InspectFirst] {
        let setup = with_request_mode(mode, decides("waf", REQUESTS)).await;
        for mut client in [setup.client().await, setup.http2_client().await] {
            for chunks in [&["an att", "ack"][..], &["quiet", " and then an attack"]] {
                let answer = client.post_chunks("/", chunks).await.unwrap();
                assert_eq!(answer.status, 403);
            }
        }
        let mut client = setup.client().await;
        assert_eq!(client.post("/", "an attack").await.unwrap().status, 403);
        assert!(setup.seen().is_empty(), "the upstream was contacted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_are_judged_first_arrive_whole() {
    let modes = [BodyMode::Hybrid, BodyMode::Buffer, BodyMode::InspectFirst];
    for (mode, agent) in modes.into_iter().zip([decides, changes, decides]) {
        let setup = with_request_mode(mode, agent("waf", REQUESTS)).await;
        for mut client in [setup.client().await, setup.http2_client().await] {
            for length in [0, 1, 65_535, 65_536, 65_537, 131_073, 300_000] {
                let body: &'static str = "x".repeat(length).leak();
                let answer = client.post("/", body).await.unwrap();
                assert_eq!(
                    (answer.status.as_u16(), answer.body.len()),
                    (200, length),
                    "{mode:?}"
                );
                assert!(setup.last_seen().is_whole);
            }
            let answer = client.post_chunks("/", &["a", "b", "c"]).await.unwrap();
            assert_eq!(answer.body, "abc");
            let answer = client.post_chunks("/", &[]).await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn body_that_was_changed_first_has_its_length() {
    let setup = with_request_mode(BodyMode::InspectFirst, changes("mask", REQUESTS)).await;
    let mut client = setup.client().await;
    client.post("/", "replace me").await.unwrap();
    let seen = setup.last_seen();
    assert_eq!(seen.body, "mask was here");
    assert_eq!(values(&seen.headers, "content-length"), ["13"]);
    client.post("/", "drop me").await.unwrap();
    assert_eq!(values(&setup.last_seen().headers, "content-length"), ["0"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn body_without_a_length_must_fit_into_the_buffer() {
    let setup = with_request_mode(BodyMode::Buffer, decides("waf", REQUESTS)).await;
    let half: &'static str = "x".repeat(40_000).leak();
    let (fits, too_large) = (vec![half].leak(), vec![half, half].leak());
    let [mut http1, mut http2] = [setup.client().await, setup.http2_client().await];
    for client in [&mut http1, &mut http2] {
        assert_eq!(client.post_chunks("/", fits).await.unwrap().status, 200);
        let answer = client.post_chunks("/", too_large).await.unwrap();
        assert_eq!(answer.status, 413);
    }
    assert_eq!(setup.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_waits_for_100_continue_is_told_to_go_on() {
    let setup = with_request_mode(BodyMode::InspectFirst, decides("waf", REQUESTS)).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n";
    let answer = raw(&setup, format!("{head}expect: 100-continue\r\n\r\nquiet")).await;
    assert!(
        answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"),
        "{answer}"
    );
    assert!(!setup.last_seen().headers.contains_key("expect"));
}
