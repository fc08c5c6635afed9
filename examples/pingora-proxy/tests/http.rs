//! Requests through the proxy: what the client, the upstream and the agents see.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod common;

use bytes::Bytes;
use common::*;
use http::Method;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Empty};
use tollgate::CancelReason;
use tollgate_pingora::client::{self, Client};
use tollgate_pingora::config::{Connections, FailureMode};

/// One connection after HTTP/1.1 and one after HTTP/2.
async fn both(place: &Place) -> [Client; 2] {
    [place.client().await, place.http2_client().await]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_on_one_connection_are_each_judged() {
    let place = Place::with(&[decides("waf", HEADS)]).await;
    for mut client in both(&place).await {
        for round in 0..20 {
            let allowed = client.get(&format!("/{round}")).await.unwrap();
            assert_eq!(
                (allowed.status.as_u16(), &allowed.body[..]),
                (200, &b"hello\n"[..])
            );
            assert_eq!(values(&allowed.headers, "x-seen-by"), ["waf"]);
            assert_eq!(place.last_seen().path, format!("/{round}"));
            assert_eq!(values(&place.last_seen().headers, "x-agent"), ["waf"]);
            let before = place.seen().len();
            let blocked = client.get("/blocked").await.unwrap();
            assert_eq!(
                (blocked.status.as_u16(), &blocked.body[..]),
                (403, &b"blocked by waf\n"[..])
            );
            assert_eq!(values(&blocked.headers, "x-blocked-by"), ["waf"]);
            assert_eq!(
                place.seen().len(),
                before,
                "the upstream saw a blocked request"
            );
        }
    }
    let protocols: Vec<_> = {
        let notes = place.notes[0].read();
        let mut clients: Vec<_> = notes.clients.iter().cloned().collect();
        clients.sort();
        clients
    };
    let expected =
        ["HTTP/1.1", "HTTP/2.0"].map(|protocol| (protocol.to_owned(), "127.0.0.1".to_owned()));
    assert_eq!(protocols, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_and_challenges_reach_the_client() {
    let place = Place::with(&[decides("waf", HEADS)]).await;
    for mut client in both(&place).await {
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
    assert!(place.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_changes_of_several_agents_come_in_their_order() {
    let place = Place::with(&[
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
    let answer = place.client().await.send(request).await.unwrap();
    assert_eq!(
        values(&answer.headers, "x-seen-by"),
        ["first", "second", "third"]
    );
    let seen = place.last_seen();
    assert_eq!(
        values(&seen.headers, "x-agent"),
        ["client", "first", "second", "third"]
    );
    assert!(!seen.headers.contains_key("x-secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_agent_to_block_wins_while_another_still_thinks() {
    let place = Place::with(&[decides("slow", HEADS), decides("waf", HEADS)]).await;
    let mut client = place.client().await;
    let answer = client.get("/hang/slow").await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (403, &b"blocked by waf\n"[..])
    );
    assert_eq!(
        client.get("/hang/waf").await.unwrap().body,
        "blocked by slow\n"
    );
    assert!(place.seen().is_empty());
    for notes in &place.notes {
        let cancelled = || notes.read().cancelled.clone();
        eventually("the slow one is told", || !cancelled().is_empty()).await;
        assert_eq!(cancelled()[0].1, CancelReason::BlockedByAgent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_in_a_body_is_found_however_the_body_is_cut() {
    let place = Place::with(&[decides("waf", REQUESTS)]).await;
    let cut: [&[&str]; 4] = [
        &["attack"],
        &["an att", "ack"],
        &["a", "t", "t", "a", "c", "k", "!"],
        &["quiet, then ", "at", "tac", "k in the middle"],
    ];
    for chunks in cut {
        let [mut http1, mut http2] = both(&place).await;
        for client in [&mut http1, &mut http2] {
            let answer = client.post_chunks("/", chunks).await.unwrap();
            assert_eq!(answer.status, 403, "{chunks:?}");
            assert_eq!(answer.body, "blocked by waf\n");
        }
    }
    for seen in place.seen() {
        assert!(!seen.is_whole);
        let body = String::from_utf8(seen.body.to_vec()).unwrap();
        assert!(
            ["", "an ", "quiet, then "].contains(&&*body),
            "the upstream saw {body:?}"
        );
    }
}

/// A proxy that kept what is judged until more arrives would wait for a client that waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_that_is_allowed_goes_on_while_the_client_holds_back_the_rest() {
    let place = Place::with(&[decides("waf", EVERYTHING), changes("mask", EVERYTHING)]).await;
    for mut client in both(&place).await {
        let talk = async {
            let (mut sender, body) = Channel::<Bytes, _>::new(1);
            sender.send_data("first".into()).await.unwrap();
            let request = client::request(Method::POST, "/echo", body.boxed());
            let mut answer = client.begin(request).await.unwrap().into_body();
            assert_eq!(next_piece(&mut answer).await, "first");
            for piece in ["second", "third"] {
                sender.send_data(piece.into()).await.unwrap();
                assert_eq!(next_piece(&mut answer).await, piece);
            }
            drop(sender);
            assert!(answer.collect().await.unwrap().to_bytes().is_empty());
        };
        tokio::time::timeout(PATIENCE, talk).await.unwrap();
    }
}

async fn next_piece(body: &mut hyper::body::Incoming) -> Bytes {
    let frame = body.frame().await.unwrap().unwrap();
    frame.into_data().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_is_answered_while_the_client_holds_back_the_rest() {
    let place = Place::with(&[decides("waf", REQUESTS)]).await;
    for mut client in both(&place).await {
        let (mut sender, body) = Channel::<Bytes, _>::new(1);
        sender.send_data("an attack".into()).await.unwrap();
        let request = client::request(Method::POST, "/", body.boxed());
        let answer = tokio::time::timeout(PATIENCE, client.send(request)).await;
        assert_eq!(answer.unwrap().unwrap().status, 403);
        drop(sender);
    }
    assert!(place.seen().iter().all(|seen| seen.body.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_pass_whole_whether_their_length_is_announced_or_not() {
    let place = Place::with(&[decides("waf", REQUESTS), decides("heads", HEADS)]).await;
    let mut client = place.client().await;
    let sized = client.post("/", "a quiet body, at").await.unwrap();
    assert_eq!(sized.body, "a quiet body, at");
    let seen = place.last_seen();
    assert_eq!(values(&seen.headers, "content-length"), ["16"]);
    assert!(seen.is_whole);
    let chunked = client
        .post_chunks("/", &["at", "tic ", "or at"])
        .await
        .unwrap();
    assert_eq!(chunked.body, "attic or at");
    let seen = place.last_seen();
    assert_eq!(values(&seen.headers, "transfer-encoding"), ["chunked"]);
    assert!(seen.is_whole);
    let http2 = place
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
async fn large_bodies_pass_unharmed_in_both_directions() {
    let wanted = [decides("waf", EVERYTHING), changes("mask", EVERYTHING)];
    // Chunks may end like the word begins, and are kept back then.
    let place = Place::configured(&wanted, |config| config.max_held_body = 1 << 20).await;
    let large: &'static str = Box::leak("0123456789abcdef".repeat(1 << 16).into_boxed_str());
    for mut client in both(&place).await {
        let answer = client.post("/", large).await.unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.body == large, "the body came back changed");
        assert!(
            place.last_seen().body == large,
            "the upstream saw another body"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_of_a_request_are_replaced_and_dropped() {
    let place = Place::with(&[changes("mask", REQUESTS)]).await;
    let mut client = place.client().await;
    let chunks = &["<", "drop me", "replace me", ">"];
    client.post_chunks("/", chunks).await.unwrap();
    assert_eq!(place.last_seen().body, "<mask was here>");
    client.post("/", "replace me").await.unwrap();
    assert_eq!(place.last_seen().body, "mask was here");
    assert!(!place.last_seen().headers.contains_key("content-length"));
    client.post("/", "drop me").await.unwrap();
    assert_eq!(place.last_seen().body, "");
    assert!(place.seen().iter().all(|seen| seen.is_whole));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_only_decides_cannot_change_a_body() {
    let place = Place::with(&[decides("waf", REQUESTS)]).await;
    let answer = place.client().await.post("/", "replace me").await.unwrap();
    assert_eq!(answer.status, 502);
    assert!(place.seen().iter().all(|seen| seen.body.is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_are_judged_and_changed() {
    let place = Place::with(&[changes("mask", EVERYTHING)]).await;
    for mut client in both(&place).await {
        let answer = client
            .get("/chunks/(/drop%20me/replace%20me/)")
            .await
            .unwrap();
        assert_eq!(answer.body, "(mask was here)");
        assert_eq!(values(&answer.headers, "x-passed-by"), ["mask"]);
        let answer = client.get("/leak").await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (502, &b"the upstream says too much\n"[..])
        );
    }
    let bodiless = place.client().await.get("/status/204").await.unwrap();
    assert_eq!((bodiless.status.as_u16(), bodiless.body.len()), (204, 0));
    let head = client::request(Method::HEAD, "/", Empty::new().boxed());
    let head = place.client().await.send(head).await.unwrap();
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}

/// Whether the head is gone by then is a matter of chance; the word itself never gets there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_with_the_word_does_not_get_to_the_client() {
    let place = Place::with(&[decides("waf", EVERYTHING)]).await;
    for mut client in both(&place).await {
        match client.get("/chunks/an%20att/ack/rest").await {
            Ok(answer) => assert_eq!(answer.status, 403),
            Err(_cut_off) => {}
        }
    }
    let mut client = place.client().await;
    assert_eq!(client.get("/").await.unwrap().body, "hello\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_may_be_kept_back_is_too_much() {
    let wanted = [decides("waf", REQUESTS)];
    let place = Place::configured(&wanted, |config| config.max_held_body = 2).await;
    let mut client = place.client().await;
    let answer = client
        .post_chunks("/", &["a", "t", "t", "a"])
        .await
        .unwrap();
    assert_eq!(answer.status, 413);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_learn_how_requests_ended() {
    let place = Place::with(&[decides("waf", REQUESTS)]).await;
    let mut client = place.client().await;
    client.post("/", "12345").await.unwrap();
    client.get("/status/418").await.unwrap();
    client.get("/blocked").await.unwrap();
    let completed = || place.notes[0].read().completed.clone();
    eventually("three requests are over", || completed().len() == 3).await;
    let mut ended: Vec<_> = completed()
        .iter()
        .map(|event| {
            let sizes = (event.request_body_size, event.response_body_size);
            (event.status, sizes, event.upstream_attempts)
        })
        .collect();
    // They went over different connections.
    ended.sort_unstable();
    assert_eq!(
        ended,
        [(200, (5, 5), 1), (403, (0, 0), 0), (418, (0, 0), 1)]
    );
    assert!(place.notes[0].read().cancelled.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_gone_fails_as_it_is_set_to_and_is_found_again() {
    let mut place = Place::with(&[
        decides("closed", HEADS),
        Wanted {
            failure_mode: FailureMode::Open,
            ..decides("open", HEADS)
        },
    ])
    .await;
    let mut client = place.client().await;
    place.kill(1).await;
    let without_open = client.get("/").await.unwrap();
    assert_eq!(values(&without_open.headers, "x-seen-by"), ["closed"]);
    place.kill(0).await;
    assert_eq!(client.get("/").await.unwrap().status, 503);
    assert_eq!(place.seen().len(), 1);
    let again = place.start_again("closed", HEADS).await;
    let mut found = false;
    for _ in 0..2_000 {
        found = client.get("/").await.unwrap().status == 200;
        if found {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(found, "the agent is not found again");
    drop(again);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_does_not_answer_in_time_is_a_gateway_timeout() {
    let wanted = [decides("waf", HEADS)];
    let place = Place::configured(&wanted, |config| config.agent_timeout_ms = 50).await;
    let mut client = place.client().await;
    assert_eq!(client.get("/hang").await.unwrap().status, 504);
    assert_eq!(client.get("/").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_is_refused_since_nobody_could_look_at_it() {
    let place = Place::with(&[decides("waf", HEADS)]).await;
    let mut request = client::request(Method::GET, "/", Empty::new().boxed());
    request
        .headers_mut()
        .insert("connection", "upgrade".parse().unwrap());
    request
        .headers_mut()
        .insert("upgrade", "websocket".parse().unwrap());
    let answer = place.client().await.send(request).await.unwrap();
    assert_eq!(answer.status, 501);
    assert!(place.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_at_once_through_workers_that_share_tasks() {
    a_hundred_clients_at_once_each_get_their_own_answer(true, Connections::PerRuntime).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_at_once_through_workers_of_their_own() {
    a_hundred_clients_at_once_each_get_their_own_answer(false, Connections::PerRuntime).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_clients_at_once_through_workers_with_connections_elsewhere() {
    a_hundred_clients_at_once_each_get_their_own_answer(false, Connections::Shared).await;
}

async fn a_hundred_clients_at_once_each_get_their_own_answer(
    work_stealing: bool,
    connections: Connections,
) {
    let wanted = [decides("waf", REQUESTS), changes("tag", HEADS)];
    let place = Place::configured(&wanted, |config| {
        config.threads = 4;
        config.work_stealing = work_stealing;
        config.connections = connections;
    })
    .await;
    let clients = (0..100).map(async |number| {
        let mut client = place.client().await;
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
    tokio::time::timeout(PATIENCE, together).await.unwrap();
    assert_eq!(place.seen().len(), 750);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_learn_that_a_client_went_away_while_they_thought() {
    let place = Place::with(&[decides("waf", HEADS)]).await;
    let mut client = place.client().await;
    let asking = tokio::spawn(async move { client.get("/hang").await.map(drop) });
    eventually("the agent is asked", || {
        place.notes[0].read().asked.len() == 1
    })
    .await;
    asking.abort();
    eventually("the agent is told", || {
        !place.notes[0].read().cancelled.is_empty()
    })
    .await;
    let (_, reason) = place.notes[0].read().cancelled[0].clone();
    assert_eq!(reason, CancelReason::ClientDisconnect);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_learn_that_a_client_went_away_in_the_middle_of_a_body() {
    let place = Place::with(&[decides("waf", REQUESTS)]).await;
    let mut client = place.client().await;
    let (mut sender, body) = Channel::<Bytes, _>::new(1);
    let request = client::request(Method::POST, "/", body.boxed());
    let asking = tokio::spawn(async move { client.send(request).await.map(drop) });
    sender.send_data("half a".into()).await.unwrap();
    eventually("the agent is asked", || {
        place.notes[0].read().asked.len() == 1
    })
    .await;
    asking.abort();
    eventually("the agent is told", || {
        !place.notes[0].read().cancelled.is_empty()
    })
    .await;
    eventually("the upstream is told", || {
        place.seen().iter().any(|seen| !seen.is_whole)
    })
    .await;
    assert!(place.notes[0].read().completed.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hang_up_change_nothing_for_the_others() {
    let place = Place::with(&[decides("waf", REQUESTS)]).await;
    let mut steady = place.client().await;
    let mut hanging = Vec::new();
    for number in 0..100 {
        let mut client = place.client().await;
        hanging.push(tokio::spawn(async move {
            let (_open, body) = Channel::<Bytes, _>::new(1);
            let request = match number % 2 {
                0 => client::request(Method::GET, "/hang", Empty::new().boxed()),
                _ => client::request(Method::POST, "/half", body.boxed()),
            };
            client.send(request).await.map(drop)
        }));
    }
    let asked = || place.notes[0].read().asked.len();
    eventually("all are asked about", || asked() == 100).await;
    for client in &hanging {
        client.abort();
        let answer = steady.get("/").await.unwrap();
        assert_eq!(
            (answer.status.as_u16(), &answer.body[..]),
            (200, &b"hello\n"[..])
        );
        assert_eq!(steady.get("/blocked").await.unwrap().status, 403);
    }
    eventually("the agent is told of all", || {
        place.notes[0].read().cancelled.len() >= 100
    })
    .await;
    let answer = place
        .client()
        .await
        .post_chunks("/", &["att", "ack"])
        .await
        .unwrap();
    assert_eq!(answer.status, 403);
}
