//! Requests through the proxy, as the client, the upstream and the agents see them.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod common;

use bytes::Bytes;
use common::*;
use http::Method;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Empty};
use tollgate::CancelReason;
use tollgate_example_settings::{Connections, FailureMode};
use tollgate_pingora::client::{self, Client};

/// Returns one connection with HTTP/1.1 and one with HTTP/2.
async fn both_clients(setup: &Setup) -> [Client; 2] {
    [setup.client().await, setup.http2_client().await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_on_a_connection_is_judged() {
    let setup = Setup::with(&[decides("waf", HEADS)]).await;
    for mut client in both_clients(&setup).await {
        for round in 0..20 {
            let allowed = client.get(&format!("/{round}")).await.unwrap();
            assert_eq!(
                (allowed.status.as_u16(), &allowed.body[..]),
                (200, &b"hello\n"[..])
            );
            assert_eq!(values(&allowed.headers, "x-seen-by"), ["waf"]);
            assert_eq!(setup.last_seen().path, format!("/{round}"));
            assert_eq!(values(&setup.last_seen().headers, "x-agent"), ["waf"]);
            let before = setup.seen().len();
            let blocked = client.get("/blocked").await.unwrap();
            assert_eq!(
                (blocked.status.as_u16(), &blocked.body[..]),
                (403, &b"blocked by waf\n"[..])
            );
            assert_eq!(values(&blocked.headers, "x-blocked-by"), ["waf"]);
            assert_eq!(
                setup.seen().len(),
                before,
                "the upstream received a blocked request"
            );
        }
    }
    let protocols: Vec<_> = {
        let records = setup.records[0].lock();
        let mut clients: Vec<_> = records.clients.iter().cloned().collect();
        clients.sort();
        clients
    };
    let expected =
        ["HTTP/1.1", "HTTP/2.0"].map(|protocol| (protocol.to_owned(), "127.0.0.1".to_owned()));
    assert_eq!(protocols, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_and_challenges_reach_the_client() {
    let setup = Setup::with(&[decides("waf", HEADS)]).await;
    for mut client in both_clients(&setup).await {
        let moved = client.get("/moved").await.unwrap();
        assert_eq!(moved.status, 302);
        assert_eq!(values(&moved.headers, "location"), ["/elsewhere"]);
        let challenged = client.get("/members").await.unwrap();
        assert_eq!(challenged.status, 401);
        assert_eq!(
            values(&challenged.headers, "www-authenticate"),
            ["Bearer realm=\"members\""]
        );
    }
    assert!(setup.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_changes_apply_in_the_order_of_agents() {
    let setup = Setup::with(&[
        decides("first", HEADS),
        decides("second", HEADS),
        changes("third", HEADS),
    ])
    .await;
    let mut request = client::request(Method::GET, "/", Empty::new().boxed());
    request
        .headers_mut()
        .insert("x-secret", "s".parse().unwrap());
    request
        .headers_mut()
        .insert("x-agent", "client".parse().unwrap());
    let answer = setup.client().await.send(request).await.unwrap();
    assert_eq!(
        values(&answer.headers, "x-seen-by"),
        ["first", "second", "third"]
    );
    let seen = setup.last_seen();
    assert_eq!(
        values(&seen.headers, "x-agent"),
        ["client", "first", "second", "third"]
    );
    assert!(!seen.headers.contains_key("x-secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_block_wins_over_unanswered_agents() {
    let setup = Setup::with(&[decides("slow", HEADS), decides("waf", HEADS)]).await;
    let mut client = setup.client().await;
    let answer = client.get("/hang/slow").await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (403, &b"blocked by waf\n"[..])
    );
    assert_eq!(
        client.get("/hang/waf").await.unwrap().body,
        "blocked by slow\n"
    );
    assert!(setup.seen().is_empty());
    for records in &setup.records {
        let cancelled = || records.lock().cancelled.clone();
        eventually("the slow agent's exchange is cancelled", || {
            !cancelled().is_empty()
        })
        .await;
        assert_eq!(cancelled()[0].1, CancelReason::BlockedByAgent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocked_word_is_found_across_chunks() {
    let setup = Setup::with(&[decides("waf", REQUESTS)]).await;
    let cut: [&[&str]; 4] = [
        &["attack"],
        &["an att", "ack"],
        &["a", "t", "t", "a", "c", "k", "!"],
        &["quiet, then ", "at", "tac", "k in the middle"],
    ];
    for chunks in cut {
        let [mut http1, mut http2] = both_clients(&setup).await;
        for client in [&mut http1, &mut http2] {
            let answer = client.post_chunks("/", chunks).await.unwrap();
            assert_eq!(answer.status, 403, "{chunks:?}");
            assert_eq!(answer.body, "blocked by waf\n");
        }
    }
    for seen in setup.seen() {
        assert!(!seen.is_whole);
        let body = String::from_utf8(seen.body.to_vec()).unwrap();
        assert!(
            ["", "an ", "quiet, then "].contains(&&*body),
            "the upstream received {body:?}"
        );
    }
}

/// A proxy that held allowed chunks until more data arrives would deadlock with a client that waits
/// for the response to what it has sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn allowed_chunks_are_forwarded_immediately() {
    let setup = Setup::with(&[decides("waf", EVERYTHING), changes("mask", EVERYTHING)]).await;
    for mut client in both_clients(&setup).await {
        let talk = async {
            let (mut sender, body) = Channel::<Bytes, _>::new(1);
            sender.send_data("first".into()).await.unwrap();
            let request = client::request(Method::POST, "/echo", body.boxed());
            let mut answer = client.begin(request).await.unwrap().into_body();
            assert_eq!(next_chunk(&mut answer).await, "first");
            for chunk in ["second", "third"] {
                sender.send_data(chunk.into()).await.unwrap();
                assert_eq!(next_chunk(&mut answer).await, chunk);
            }
            drop(sender);
            assert!(answer.collect().await.unwrap().to_bytes().is_empty());
        };
        tokio::time::timeout(TEST_TIMEOUT, talk).await.unwrap();
    }
}

async fn next_chunk(body: &mut hyper::body::Incoming) -> Bytes {
    let frame = body.frame().await.unwrap().unwrap();
    frame.into_data().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocked_word_is_answered_before_the_body_ends() {
    let setup = Setup::with(&[decides("waf", REQUESTS)]).await;
    for mut client in both_clients(&setup).await {
        let (mut sender, body) = Channel::<Bytes, _>::new(1);
        sender.send_data("an attack".into()).await.unwrap();
        let request = client::request(Method::POST, "/", body.boxed());
        let answer = tokio::time::timeout(TEST_TIMEOUT, client.send(request)).await;
        assert_eq!(answer.unwrap().unwrap().status, 403);
        drop(sender);
    }
    assert!(setup.seen().iter().all(|seen| seen.body.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_pass_with_and_without_a_length() {
    let setup = Setup::with(&[decides("waf", REQUESTS), decides("heads", HEADS)]).await;
    let mut client = setup.client().await;
    let sized = client.post("/", "a quiet body, at").await.unwrap();
    assert_eq!(sized.body, "a quiet body, at");
    let seen = setup.last_seen();
    assert_eq!(values(&seen.headers, "content-length"), ["16"]);
    assert!(seen.is_whole);
    let chunked = client
        .post_chunks("/", &["at", "tic ", "or at"])
        .await
        .unwrap();
    assert_eq!(chunked.body, "attic or at");
    let seen = setup.last_seen();
    assert_eq!(values(&seen.headers, "transfer-encoding"), ["chunked"]);
    assert!(seen.is_whole);
    let http2 = setup
        .http2_client()
        .await
        .post("/", "over two")
        .await
        .unwrap();
    assert_eq!(http2.body, "over two");
    let empty = client.post("/", "").await.unwrap();
    assert_eq!((empty.status.as_u16(), empty.body.len()), (200, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_unchanged_in_both_directions() {
    let agents = [decides("waf", EVERYTHING), changes("mask", EVERYTHING)];
    // A chunk that ends like the beginning of the word is held back.
    let setup = Setup::configured(&agents, |settings| settings.max_held_body = 1 << 20).await;
    let large: &'static str = Box::leak("0123456789abcdef".repeat(1 << 16).into_boxed_str());
    for mut client in both_clients(&setup).await {
        let answer = client.post("/", large).await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.body == large, "the body came back changed");
        assert!(
            setup.last_seen().body == large,
            "the upstream received another body"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_of_a_request_are_replaced_and_dropped() {
    let setup = Setup::with(&[changes("mask", REQUESTS)]).await;
    let mut client = setup.client().await;
    let chunks = &["<", "drop me", "replace me", ">"];
    client.post_chunks("/", chunks).await.unwrap();
    assert_eq!(setup.last_seen().body, "<mask was here>");
    client.post("/", "replace me").await.unwrap();
    assert_eq!(setup.last_seen().body, "mask was here");
    assert!(!setup.last_seen().headers.contains_key("content-length"));
    client.post("/", "drop me").await.unwrap();
    assert_eq!(setup.last_seen().body, "");
    assert!(setup.seen().iter().all(|seen| seen.is_whole));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deciding_agent_cannot_change_a_body() {
    let setup = Setup::with(&[decides("waf", REQUESTS)]).await;
    let answer = setup.client().await.post("/", "replace me").await.unwrap();
    assert_eq!(answer.status, 502);
    assert!(setup.seen().iter().all(|seen| seen.body.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_are_blocked_and_changed() {
    let setup = Setup::with(&[changes("mask", EVERYTHING)]).await;
    for mut client in both_clients(&setup).await {
        let answer = client
            .get("/chunks/(/drop%20me/replace%20me/)")
            .await
            .unwrap();
        assert_eq!(answer.body, "(mask was here)");
        assert_eq!(values(&answer.headers, "x-passed-by"), ["mask"]);
        let answer = client.get("/leak").await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (502, &b"the response leaks data\n"[..])
        );
    }
    let bodiless = setup.client().await.get("/status/204").await.unwrap();
    assert_eq!((bodiless.status.as_u16(), bodiless.body.len()), (204, 0));
    let head = client::request(Method::HEAD, "/", Empty::new().boxed());
    let head = setup.client().await.send(head).await.unwrap();
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}

/// The response head may or may not have been sent before the word is found. The word itself is
/// never delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn response_with_blocked_word_is_not_delivered() {
    let setup = Setup::with(&[decides("waf", EVERYTHING)]).await;
    for mut client in both_clients(&setup).await {
        match client.get("/chunks/an%20att/ack/rest").await {
            Ok(answer) => assert_eq!(answer.status, 403),
            Err(_cut_off) => {}
        }
    }
    let mut client = setup.client().await;
    assert_eq!(client.get("/").await.unwrap().body, "hello\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exceeding_the_held_body_limit_is_a_413() {
    let agents = [decides("waf", REQUESTS)];
    let setup = Setup::configured(&agents, |settings| settings.max_held_body = 2).await;
    let mut client = setup.client().await;
    let answer = client
        .post_chunks("/", &["a", "t", "t", "a"])
        .await
        .unwrap();
    assert_eq!(answer.status, 413);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_receive_completed_requests() {
    let setup = Setup::with(&[decides("waf", REQUESTS)]).await;
    let mut client = setup.client().await;
    client.post("/", "12345").await.unwrap();
    client.get("/status/418").await.unwrap();
    client.get("/blocked").await.unwrap();
    let completed = || setup.records[0].lock().completed.clone();
    eventually("three requests are complete", || completed().len() == 3).await;
    let mut ended: Vec<_> = completed()
        .iter()
        .map(|event| {
            let sizes = (event.request_body_size, event.response_body_size);
            (event.status, sizes, event.upstream_attempts)
        })
        .collect();
    // The events used different connections, so their order is not fixed.
    ended.sort_unstable();
    assert_eq!(
        ended,
        [(200, (5, 5), 1), (403, (0, 0), 0), (418, (0, 0), 1)]
    );
    assert!(setup.records[0].lock().cancelled.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_mode_applies_until_the_agent_is_back() {
    let mut setup = Setup::with(&[
        decides("closed", HEADS),
        AgentSetup {
            failure_mode: FailureMode::Open,
            ..decides("open", HEADS)
        },
    ])
    .await;
    let mut client = setup.client().await;
    setup.kill(1).await;
    let without_open = client.get("/").await.unwrap();
    assert_eq!(values(&without_open.headers, "x-seen-by"), ["closed"]);
    setup.kill(0).await;
    assert_eq!(client.get("/").await.unwrap().status, 503);
    assert_eq!(setup.seen().len(), 1);
    let again = setup.start_again("closed", HEADS).await;
    let mut found = false;
    for _ in 0..2_000 {
        found = client.get("/").await.unwrap().status == 200;
        if found {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(found, "the proxy did not reconnect to the agent");
    drop(again);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_answer_is_a_gateway_timeout() {
    let agents = [decides("waf", HEADS)];
    let setup = Setup::configured(&agents, |settings| settings.agent_timeout_ms = 50).await;
    let mut client = setup.client().await;
    assert_eq!(client.get("/hang").await.unwrap().status, 504);
    assert_eq!(client.get("/").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundred_clients_with_shared_workers() {
    hundred_clients_get_their_own_answers(true, Connections::PerRuntime).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundred_clients_with_separate_workers() {
    hundred_clients_get_their_own_answers(false, Connections::PerRuntime).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundred_clients_with_shared_connections() {
    hundred_clients_get_their_own_answers(false, Connections::Shared).await;
}

async fn hundred_clients_get_their_own_answers(work_stealing: bool, connections: Connections) {
    let agents = [decides("waf", REQUESTS), changes("tag", HEADS)];
    let setup = Setup::configured(&agents, |settings| {
        settings.threads = 4;
        settings.work_stealing = work_stealing;
        settings.connections = connections;
    })
    .await;
    let clients = (0..100).map(async |number| {
        let mut client = setup.client().await;
        for round in 0..10 {
            let path = format!("/{number}/{round}");
            match (number + round) % 4 {
                0 => assert_eq!(client.get("/blocked").await.unwrap().status, 403),
                1 => assert_eq!(client.get(&path).await.unwrap().body, "hello\n"),
                2 => assert_eq!(client.post(&path, "sized").await.unwrap().body, "sized"),
                _ => {
                    let chunks = &["in ", "at", "oms"];
                    let answer = client.post_chunks(&path, chunks).await.unwrap();
                    assert_eq!(answer.body, "in atoms");
                    assert_eq!(values(&answer.headers, "x-seen-by"), ["waf", "tag"]);
                }
            }
        }
    });
    let together = futures_util::future::join_all(clients);
    tokio::time::timeout(TEST_TIMEOUT, together).await.unwrap();
    assert_eq!(setup.seen().len(), 750);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disconnect_during_a_call_cancels_the_exchange() {
    let setup = Setup::with(&[decides("waf", HEADS)]).await;
    let mut client = setup.client().await;
    let asking = tokio::spawn(async move { client.get("/hang").await.map(drop) });
    eventually("the agent is asked", || {
        setup.records[0].lock().asked.len() == 1
    })
    .await;
    asking.abort();
    eventually("the exchange is cancelled", || {
        !setup.records[0].lock().cancelled.is_empty()
    })
    .await;
    let (_, reason) = setup.records[0].lock().cancelled[0].clone();
    assert_eq!(reason, CancelReason::ClientDisconnect);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disconnect_during_a_body_cancels_the_exchange() {
    let setup = Setup::with(&[decides("waf", REQUESTS)]).await;
    let mut client = setup.client().await;
    let (mut sender, body) = Channel::<Bytes, _>::new(1);
    let request = client::request(Method::POST, "/", body.boxed());
    let asking = tokio::spawn(async move { client.send(request).await.map(drop) });
    sender.send_data("half a".into()).await.unwrap();
    eventually("the agent is asked", || {
        setup.records[0].lock().asked.len() == 1
    })
    .await;
    asking.abort();
    eventually("the exchange is cancelled", || {
        !setup.records[0].lock().cancelled.is_empty()
    })
    .await;
    eventually("the upstream sees the body break off", || {
        setup.seen().iter().any(|seen| !seen.is_whole)
    })
    .await;
    assert!(setup.records[0].lock().completed.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disconnects_do_not_affect_other_clients() {
    let setup = Setup::with(&[decides("waf", REQUESTS)]).await;
    let mut steady = setup.client().await;
    let mut hanging = Vec::new();
    for number in 0..100 {
        let mut client = setup.client().await;
        hanging.push(tokio::spawn(async move {
            let (_open, body) = Channel::<Bytes, _>::new(1);
            let request = match number % 2 {
                0 => client::request(Method::GET, "/hang", Empty::new().boxed()),
                _ => client::request(Method::POST, "/half", body.boxed()),
            };
            client.send(request).await.map(drop)
        }));
    }
    let asked = || setup.records[0].lock().asked.len();
    eventually("the agent has received all requests", || asked() == 100).await;
    for client in &hanging {
        client.abort();
        let answer = steady.get("/").await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (200, &b"hello\n"[..])
        );
        assert_eq!(steady.get("/blocked").await.unwrap().status, 403);
    }
    eventually("all exchanges are cancelled", || {
        setup.records[0].lock().cancelled.len() >= 100
    })
    .await;
    let answer = setup
        .client()
        .await
        .post_chunks("/", &["att", "ack"])
        .await
        .unwrap();
    assert_eq!(answer.status, 403);
}
