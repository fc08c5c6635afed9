//! Agents and upstreams that fail.

use crate::rig::{Case, Event, Kind, Outcome, Rig, Step, Via, agent, get, reply, run};
use crate::{EVERYTHING, HEADS, RESPONSES};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tollgate_example_settings::BodyMode;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_agents_cost_a_504_or_nothing() {
    let never =
        || agent(HEADS).answers(|event| (!matches!(event, Event::Request(_))).then(crate::allow));
    run(vec![
        Case::new("fails closed", get("/"))
            .agents([never()])
            .settings(|settings| settings.agent_timeout_ms = 50)
            .agents_hang()
            // A few timeouts open the circuit breaker.
            .clients(&[Via::Bytes11, Via::H2])
            .expect(|outcome| {
                outcome.status(504).not_forwarded();
            }),
        Case::new("fails open", get("/"))
            .agents([never().fails_open()])
            .settings(|settings| settings.agent_timeout_ms = 50)
            .agents_hang()
            // A few timeouts open the circuit breaker.
            .clients(&[Via::Bytes11, Via::H2])
            .expect(|outcome| {
                outcome.status(200).client_body("hello\n");
            }),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_that_are_gone_cost_a_503_or_nothing() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    for kind in Kind::ALL {
        for (spec, status) in [(agent(HEADS), 503), (agent(HEADS).fails_open(), 200)] {
            let started = Rig::start(kind, &[spec], reply(ok), |_| {}).await;
            let mut rig = started.unwrap();
            let before = Via::Bytes11.send(rig.address, &get("/")).await.unwrap();
            assert_eq!(before.status, 200, "{kind:?}");
            rig.agents[0].kill().await;
            for via in Via::LIBRARIES {
                let after = via.send(rig.address, &get("/")).await.unwrap();
                assert_eq!(after.status, status, "{kind:?} {via:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_that_end_while_they_think_cost_a_503() {
    let has_head = |events: &[Event]| !events.is_empty();
    for kind in Kind::ALL {
        for via in [Via::Bytes10, Via::Bytes11, Via::H2] {
            let silent = agent(HEADS).answers(|_| None);
            let started = Rig::start(kind, &[silent], Vec::new(), |_| {}).await;
            let mut rig = started.unwrap();
            let (address, request) = (rig.address, get("/"));
            let sent = via.send(address, &request);
            let killed = async {
                rig.events(0).wait("the head", has_head).await;
                rig.agents[0].kill().await;
            };
            let (reply, ()) = tokio::join!(sent, killed);
            assert_eq!(reply.unwrap().status, 503, "{kind:?} {via:?}");
            assert!(rig.received().all().is_empty(), "{kind:?} {via:?}");
        }
    }
}

/// Checks that the client knows that it has not the whole response, and agents that it is over.
fn broken_off(outcome: &Outcome, is_held: bool) {
    if is_held {
        outcome.status(502);
    } else {
        outcome.rejected_or_broken(502);
    }
    let is_told = |event: &Event| match event {
        Event::Complete(complete) => complete.error.is_some(),
        event => event.is_end(),
    };
    assert!(
        outcome.agents[0].iter().any(is_told),
        "{:?}",
        outcome.agents[0]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_responses_break_off() {
    let broken = |response: &str| {
        vec![
            Step::ReadBody,
            Step::Send(response.as_bytes().to_vec()),
            Step::Close,
        ]
    };
    let partial = [
        "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n2",
    ];
    let mut rows = Vec::new();
    for response in partial {
        for (name, events, mode) in [
            ("nobody sees the body", HEADS, BodyMode::Stream),
            ("stream", RESPONSES, BodyMode::Stream),
            ("buffer", RESPONSES, BodyMode::Buffer),
        ] {
            rows.push(
                Case::new(name, get("/"))
                    .agents([agent(events).response_body(mode)])
                    .upstream(broken(response))
                    .expect(move |outcome| broken_off(outcome, mode == BodyMode::Buffer))
                    .pingora(
                        "Pingora sends the head of a response before its body is judged",
                        |outcome| broken_off(outcome, false),
                    ),
            );
        }
    }
    for (name, response) in [
        ("no response", ""),
        ("half a head", "HTTP/1.1 200 OK\r\ncontent-le"),
        ("garbage", "hello hello\r\n\r\n"),
    ] {
        rows.push(
            Case::new(name, get("/"))
                .agents([agent(RESPONSES)])
                .upstream(broken(response))
                .expect(|outcome| {
                    outcome.status(502);
                }),
        );
    }
    run(rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstreams_that_reset_at_any_byte_give_no_whole_response() {
    let response = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
        5\r\nhello\r\n5\r\nworld\r\n0\r\nx-sum: 5\r\n\r\n";
    for kind in Kind::ALL {
        for via in [Via::Bytes11, Via::H2] {
            let sent = Arc::<AtomicUsize>::default();
            let steps = vec![Step::SendMore(response.to_vec(), Arc::clone(&sent))];
            let agents = [agent(EVERYTHING).answers(|_| Some(crate::allow()))];
            let rig = Rig::start(kind, &agents, steps, |_| {}).await.unwrap();
            while sent.load(Ordering::Relaxed) < response.len() {
                // The end of a stream or a connection may overtake the head.
                if let Some(reply) = via.send(rig.address, &get("/")).await {
                    let is_told = reply.status == 502 || !reply.is_whole;
                    assert!(is_told, "{kind:?} {via:?} {sent:?}: {reply:?}");
                }
            }
            let reply = via.send(rig.address, &get("/")).await.unwrap();
            assert_eq!(reply.body, b"helloworld", "{kind:?} {via:?}");
            let is_over = |events: &[Event]| {
                let count =
                    |is: fn(&Event) -> bool| events.iter().filter(|event| is(event)).count();
                count(Event::is_end) == count(|event| matches!(event, Event::Request(_)))
            };
            let description = format!("{kind:?} {via:?}: the end of every request");
            rig.events(0).wait(&description, is_over).await;
        }
    }
}
