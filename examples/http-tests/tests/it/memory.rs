//! Memory of the proxies, whatever clients send.

use crate::rig::{Body, Connection, Event, Kind, ProxyProcess, Via, agent, get, post, run_proxy};
use crate::{HEADS, REQUESTS, allow};
use futures_util::future::join_all;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tollgate::EventType;

const BODIES: &[EventType] = &[EventType::RequestBodyChunk];

const MIB: usize = 1024 * 1024;

/// Default of the memory limit of a pool, and what the process may hold beside that.
const BUDGET: usize = 256 * MIB;
const BESIDE: usize = 96 * MIB;

/// Bombs that a proxy gets at once, and the size of each when it is decoded.
const BOMBS: usize = 110;
const BOMB: usize = 24 * MIB;

const _: () = assert!(BOMBS * BOMB > 10 * BUDGET, "ten times the limit");

/// Time within which a client is served beside a flood.
const SERVED: Duration = Duration::from_secs(2);

/// Descriptors that a proxy may keep open after a flood: connections to the upstream.
const KEPT_OPEN: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is the process that other tests start"]
async fn proxy_process() {
    run_proxy().await.unwrap();
}

/// Starts a proxy that has answered a request, and returns its memory as well.
async fn warm(kind: Kind, spec: &crate::rig::AgentSpec) -> (ProxyProcess, usize) {
    let proxy = ProxyProcess::start(kind, spec).await.unwrap();
    let body = Body::whole(vec![b'a'; 100_000]);
    let reply = Via::Bytes11.send(proxy.address, &post("/", body)).await;
    assert_eq!(reply.unwrap().status, 200, "{kind:?}");
    let before = proxy.peak();
    (proxy, before)
}

/// Bytes that become 48 times larger by decoding, which the limits allow, and begin with zeros.
fn bomb() -> Vec<u8> {
    let mut data = vec![0; BOMB];
    let mut random = 1_u32;
    for block in data.chunks_mut(96 * 1024) {
        for byte in &mut block[94 * 1024..] {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (random >> 24) as u8;
        }
    }
    zstd::encode_all(&data[..], 0).unwrap()
}

/// Sends requests that no agent is asked about, one after another until a flood is over, and checks
/// that each is answered in time. Returns what came of the flood.
async fn answered_beside<T>(address: SocketAddr, mut flood: JoinHandle<T>) -> T {
    let mut served = 0;
    loop {
        let request = get("/");
        let answered = timeout(SERVED, Via::Bytes11.send(address, &request));
        let reply = tokio::select! {
            flooded = &mut flood => {
                assert!(served > 0, "nobody else was served");
                return flooded.unwrap();
            }
            reply = answered => reply.expect("no response in time").unwrap(),
        };
        // Refused once the agent counts as unavailable, since it reads and answers nothing.
        assert!(matches!(reply.status, 200 | 503), "{reply:?}");
        served += usize::from(reply.status == 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_grow_by_decoding_are_charged_while_agents_think() {
    let bomb = bomb();
    for kind in Kind::ALL {
        // Never answers the chunks of bombs. What it is not asked about waits behind none of them.
        let thinks = agent(BODIES).answers(|event| match event {
            Event::RequestChunk(chunk) if chunk.data.first() == Some(&0) => None,
            _ => Some(allow()),
        });
        let (proxy, before) = warm(kind, &thinks).await;
        let descriptors = proxy.descriptors();
        let address = proxy.address;
        let request = post("/", Body::whole(bomb.clone())).header("content-encoding", "zstd");
        let flood = tokio::spawn(async move {
            let sent = (0..BOMBS).map(|_| Via::Bytes11.send(address, &request));
            join_all(sent).await
        });
        for reply in answered_beside(address, flood).await.into_iter().flatten() {
            assert!(matches!(reply.status, 503 | 504), "{kind:?}: {reply:?}");
        }
        let grown = proxy.grown_since(before);
        let most = BUDGET + BESIDE + BOMBS * bomb.len();
        assert!(grown < most, "{kind:?}: {} MiB", grown / MIB);
        proxy.closes_all_but(descriptors + KEPT_OPEN).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_of_one_byte_leave_memory_flat() {
    // Pingora asks about each chunk as it is sent.
    for (kind, count) in [(Kind::Hyper, MIB), (Kind::Pingora, MIB / 64)] {
        let (proxy, before) = warm(kind, &agent(REQUESTS)).await;
        let mut client = Connection::open(proxy.address).await;
        let head = post("/", Body::chunked([""; 0])).head("HTTP/1.1");
        client
            .send([&head[..], &b"1\r\na\r\n".repeat(count), b"0\r\n\r\n"].concat())
            .await;
        // A build without optimisation takes some 10 µs for each chunk.
        let reply = timeout(Duration::from_secs(150), client.reader.reply(false));
        let reply = reply.await.expect("no response in time").unwrap();
        assert_eq!(reply.status, 200, "{kind:?}");
        let received = proxy.upstream.record.all();
        assert_eq!(received.last().unwrap().body.len(), count, "{kind:?}");
        let grown = proxy.grown_since(before);
        assert!(grown < 32 * MIB, "{kind:?}: {} MiB", grown / MIB);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_heads_cost_little_and_leave_others_served() {
    let endless = [
        &b"GET / HTTP/1.1\r\nhost: a.test\r\nx-long: "[..],
        &vec![b'a'; MIB],
    ]
    .concat();
    // Pingora parses anew with each read what it has of a head.
    for (kind, count) in [(Kind::Hyper, 64), (Kind::Pingora, 8)] {
        let (proxy, before) = warm(kind, &agent(HEADS)).await;
        let mut clients = Vec::new();
        for _ in 0..count {
            let mut client = Connection::open(proxy.address).await;
            // Fails, or takes for ever, once the proxy does not read any more.
            let sent = client.writer.write_all(&endless);
            let _ = timeout(Duration::from_millis(200), sent).await;
            clients.push(client);
        }
        let began = Instant::now();
        let reply = Via::Bytes11.send(proxy.address, &get("/")).await.unwrap();
        assert_eq!(reply.status, 200, "{kind:?}");
        assert!(began.elapsed() < SERVED, "{kind:?}");
        let grown = proxy.grown_since(before);
        assert!(grown < BESIDE, "{kind:?}: {} MiB", grown / MIB);
        let events = proxy.agent.record.all();
        let heads = events
            .iter()
            .filter(|event| matches!(event, Event::Request(_)));
        assert_eq!(heads.count(), 2, "{kind:?}: {events:?}");
    }
}
