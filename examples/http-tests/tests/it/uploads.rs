//! Clients that have not sent the whole request when the response comes.

use crate::rig::{
    Body, Case, Connection, Event, Http2, Kind, Rig, Step, Via, agent, post, reply, run,
};
use crate::{HEADS, REQUESTS, allow};
use tollgate::AgentResponse;
use tollgate_example_settings::BodyMode;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn large() -> Body {
    Body::whole(vec![b'a'; 1 << 20])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_responses_reach_the_client() {
    let early = || vec![Step::Send(OK.into()), Step::ReadBody];
    let rows = [
        ("nobody sees the body", HEADS),
        ("an agent sees the body", REQUESTS),
    ];
    let rows = rows.map(|(name, events)| {
        Case::new(name, post("/", large()))
            .agents([agent(events)])
            .upstream(early())
            .expect(|outcome| {
                outcome.status(200).client_body("ok");
            })
    });
    run(rows.into()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_ask_are_told_to_go_on() {
    for kind in Kind::ALL {
        for mode in [BodyMode::Stream, BodyMode::InspectFirst] {
            let agent = agent(REQUESTS).request_body(mode);
            // hyper's server tells the client itself, and Pingora lets the upstream do so.
            let mut steps = reply(OK);
            steps.insert(0, Step::Send("HTTP/1.1 100 Continue\r\n\r\n".into()));
            let rig = Rig::start(kind, &[agent], steps, |_| {}).await.unwrap();
            let mut client = Connection::open(rig.address).await;
            let request = post("/", Body::whole("hello")).header("expect", "100-continue");
            client.send(request.head("HTTP/1.1")).await;
            let interim = client.head().await;
            assert_eq!(interim.status(), 100, "{kind:?} {mode:?}");
            client.send("hello").await;
            let reply = client.reply().await.unwrap();
            assert_eq!(
                (reply.status, &reply.body[..]),
                (200, &b"ok"[..]),
                "{kind:?}"
            );
            assert_eq!(rig.received().all()[0].body, b"hello");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_ask_are_told_of_a_denial_instead() {
    for kind in Kind::ALL {
        let denies = agent(REQUESTS).on_head(|| AgentResponse::block(403, None));
        let rig = Rig::start(kind, &[denies], reply(OK), |_| {})
            .await
            .unwrap();
        let mut client = Connection::open(rig.address).await;
        let request = post("/", Body::whole("hello")).header("expect", "100-continue");
        client.send(request.head("HTTP/1.1")).await;
        let reply = client.reply().await.unwrap();
        assert_eq!(reply.status, 403, "{kind:?}");
        assert!(reply.interim.is_empty(), "{kind:?}: {:?}", reply.interim);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocked_uploads_are_read_until_the_client_reads() {
    let body = || Body::whole(vec![b'a'; 8 << 20]);
    let blocks = || Some(AgentResponse::block(403, Some("blocked\n".to_owned())));
    for kind in Kind::ALL {
        let on_head = agent(REQUESTS).answers(move |event| match event {
            Event::Request(_) => blocks(),
            _ => Some(allow()),
        });
        let on_body = agent(REQUESTS).answers(move |event| match event {
            Event::RequestChunk(_) => blocks(),
            _ => Some(allow()),
        });
        for (name, agent) in [("head", on_head), ("body", on_body)] {
            let rig = Rig::start(kind, &[agent], reply(OK), |_| {}).await.unwrap();
            for version in ["HTTP/1.0", "HTTP/1.1"] {
                let mut client = Connection::open(rig.address).await;
                // Does not read before everything is sent.
                client.send(post("/", body()).bytes(version)).await;
                let reply = client.reply().await;
                let reply = reply.unwrap_or_else(|| panic!("{kind:?} {version} {name}"));
                assert_eq!(reply.status, 403, "{kind:?} {version} {name}");
            }
            let reply = Via::H2.send(rig.address, &post("/", body())).await;
            assert_eq!(reply.unwrap().status, 403, "{kind:?} HTTP/2 {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn body_that_does_not_arrive_is_refused() {
    for kind in Kind::ALL {
        for mode in [BodyMode::Stream, BodyMode::InspectFirst] {
            let agents = [agent(REQUESTS).request_body(mode)];
            // The upstream answers only what it has received whole.
            let rig = Rig::start(kind, &agents, reply(OK), |settings| {
                settings.request_body_timeout_ms = 50;
            });
            let rig = rig.await.unwrap();
            let mut client = Connection::open(rig.address).await;
            let request = post("/", Body::whole("hello"));
            client.send(request.head("HTTP/1.1")).await;
            client.send("hel").await;
            let reply = client.reply().await.unwrap();
            assert_eq!(reply.status, 408, "{kind:?} {mode:?}");

            // Pingora has no such limit for HTTP/2.
            if matches!(kind, Kind::Pingora) {
                continue;
            }
            let mut client = Http2::open(rig.address).await;
            let (response, mut stream) = client.head(&request);
            stream.send_data("hel".into(), false).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status(), 408, "{kind:?} {mode:?} HTTP/2");
        }
    }
}
