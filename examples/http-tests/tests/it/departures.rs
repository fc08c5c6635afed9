//! Clients that go away before they have the whole response.

use crate::rig::{Body, Connection, Event, Http2, Kind, Rig, Via, agent, get, post, reply};
use crate::{HEADS, REQUESTS, allow};
use std::time::Duration;
use tollgate::CancelReason;
use tollgate_example_settings::BodyMode;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Time after which an agent has to know that nobody waits for its answer.
const TOLD: Duration = Duration::from_secs(2);

fn has_head(events: &[Event]) -> bool {
    events
        .iter()
        .any(|event| matches!(event, Event::Request(_)))
}

fn is_cancelled(events: &[Event]) -> bool {
    events
        .iter()
        .any(|event| matches!(event, Event::Cancelled(CancelReason::ClientDisconnect)))
}

async fn silent(kind: Kind) -> Rig {
    let silent = agent(HEADS).answers(|_| None);
    Rig::start(kind, &[silent], reply(OK), |_| {})
        .await
        .unwrap()
}

async fn expect_cancel(rig: &Rig, description: &str) {
    let description = format!("{description} with {:?}", rig.kind);
    let record = rig.events(0);
    record.wait_at_most(TOLD, &description, is_cancelled).await;
    assert!(rig.received().all().is_empty(), "{description}: forwarded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_are_told_of_closed_connections() {
    for kind in Kind::ALL {
        let rig = silent(kind).await;
        for version in ["HTTP/1.0", "HTTP/1.1"] {
            rig.clear();
            let mut client = Connection::open(rig.address).await;
            client.send(get("/").bytes(version)).await;
            rig.events(0).wait("the head", has_head).await;
            drop(client);
            expect_cancel(&rig, version).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_are_told_of_reset_streams_and_closed_connections_of_http2() {
    for kind in Kind::ALL {
        let rig = silent(kind).await;
        let mut client = Http2::open(rig.address).await;
        let sent = client.head(&get("/"));
        rig.events(0).wait("the head", has_head).await;
        // Resets the stream.
        drop(sent);
        expect_cancel(&rig, "reset").await;
        rig.clear();
        let sent = client.head(&get("/"));
        rig.events(0).wait("the head", has_head).await;
        client.close().await;
        drop(sent);
        expect_cancel(&rig, "close").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_are_told_of_clients_that_are_gone_behind_unread_bytes() {
    let head = get("/").bytes("HTTP/1.1");
    let body = post("/", Body::whole("hello")).bytes("HTTP/1.1");
    let on_chunk = |event: &Event| (!matches!(event, Event::RequestChunk(_))).then(allow);
    let has_chunk = |events: &[Event]| {
        let mut events = events.iter();
        events.any(|event| matches!(event, Event::RequestChunk(_)))
    };
    for kind in Kind::ALL {
        let rig = silent(kind).await;
        for (name, bytes) in [
            ("another request", [&head[..], &head].concat()),
            ("a body", body.clone()),
        ] {
            rig.clear();
            let mut client = Connection::open(rig.address).await;
            client.send(bytes).await;
            rig.events(0).wait("the head", has_head).await;
            drop(client);
            expect_cancel(&rig, name).await;
        }
        for mode in [BodyMode::Stream, BodyMode::InspectFirst] {
            let agents = [agent(REQUESTS).request_body(mode).answers(on_chunk)];
            let rig = Rig::start(kind, &agents, reply(OK), |_| {}).await.unwrap();
            let mut client = Connection::open(rig.address).await;
            client.send([&body[..], &head].concat()).await;
            rig.events(0).wait("the chunk", has_chunk).await;
            drop(client);
            let description = format!("{mode:?} with {kind:?}");
            let record = rig.events(0);
            record.wait_at_most(TOLD, &description, is_cancelled).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_body_is_never_whole() {
    let head = "POST / HTTP/1.1\r\nhost: example.test\r\n";
    for kind in Kind::ALL {
        let rig = Rig::start(kind, &[agent(REQUESTS)], reply(OK), |_| {}).await;
        let rig = rig.unwrap();
        for half in [
            "content-length: 11\r\n\r\nhello",
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3",
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        ] {
            rig.clear();
            let mut client = Connection::open(rig.address).await;
            client.send(format!("{head}{half}")).await;
            rig.events(0).wait("the head", has_head).await;
            drop(client);
            let record = rig.events(0);
            let is_over = |events: &[Event]| events.iter().any(Event::is_end);
            record
                .wait(&format!("{kind:?}: the end of {half:?}"), is_over)
                .await;
            let is_whole = rig
                .received()
                .all()
                .iter()
                .any(|received| received.is_whole);
            assert!(!is_whole, "{kind:?}: {half:?}: {:?}", rig.received().all());
            for event in rig.events(0).all() {
                if let Event::RequestChunk(chunk) = event {
                    assert!(!chunk.is_last, "{kind:?}: {half:?}: the last chunk");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_body_of_http2_is_never_whole() {
    for kind in Kind::ALL {
        let rig = Rig::start(kind, &[agent(REQUESTS)], reply(OK), |_| {}).await;
        let rig = rig.unwrap();
        for closes in [false, true] {
            rig.clear();
            let mut client = Http2::open(rig.address).await;
            let (response, mut stream) = client.head(&post("/", Body::chunked(["hello"])));
            stream.send_data("hello".into(), false).unwrap();
            let has_chunk = |events: &[Event]| {
                let mut events = events.iter();
                events.any(|event| matches!(event, Event::RequestChunk(_)))
            };
            rig.events(0).wait("the chunk", has_chunk).await;
            if closes {
                client.close().await;
            }
            drop((response, stream));
            let description = format!("{kind:?}: the end");
            let is_over = |events: &[Event]| events.iter().any(Event::is_end);
            rig.events(0).wait(&description, is_over).await;
            let received = rig.received().all();
            assert!(
                !received.iter().any(|received| received.is_whole),
                "{kind:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_reset_at_any_byte_leave_nothing_behind() {
    let body = Body::chunked(["hello", "world"]).trailer("x-sum", "5");
    let request = post("/", body).header("cookie", "a=1").bytes("HTTP/1.1");
    for kind in Kind::ALL {
        let agent = agent(REQUESTS).answers(|_| Some(allow()));
        let rig = Rig::start(kind, &[agent], reply(OK), |_| {}).await.unwrap();
        for cut in 0..request.len() {
            let mut client = Connection::open(rig.address).await;
            client.send(&request[..cut]).await;
            client.writer.as_ref().set_zero_linger().unwrap();
            drop(client);
        }
        let reply = Via::Bytes11.send(rig.address, &get("/after")).await;
        assert_eq!(reply.unwrap().status, 200, "{kind:?}");
        let is_over = |events: &[Event]| {
            let ends = events.iter().filter(|event| event.is_end()).count();
            let heads = events
                .iter()
                .filter(|event| matches!(event, Event::Request(_)));
            ends == heads.count()
        };
        let description = format!("{kind:?}: the end of every request");
        rig.events(0).wait(&description, is_over).await;
        let whole = rig.received().all();
        let whole = whole.iter().filter(|received| received.is_whole).count();
        assert_eq!(whole, 1, "{kind:?}: only the last request is whole");
    }
}
