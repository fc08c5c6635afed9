//! Agents that lie in the exchange of descriptors, or in the words of their shared memory.

use crate::common::{TEST_TIMEOUT, config, eventually, request};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde_json::json;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tollgate::{
    AddError, Agent, AgentConfig, AgentPool, CallError, Encoding, SharedMemory,
    stats::SharedMemoryRefusal,
};

const CONTROL: u64 = 4096;

const RING: u64 = 64 * 1024;

/// Offsets of words in the control page.
const HEAD: u64 = 0;
const TAIL: u64 = 128;
const WAKE_AT: u64 = 256;

/// An agent's end of a connection, up to the exchange of descriptors.
struct Liar {
    socket: UnixStream,
    /// The proxy's memory, which this side can read.
    of_proxy: OwnedFd,
}

impl Liar {
    /// Accepts a connection, completes the handshake and receives the proxy's descriptor.
    fn accept(listener: &UnixListener) -> Self {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
        let (message, _) = read_frame(&mut socket);
        assert_eq!(message, 0x01);
        let response = json!({
            "protocol_version": 2, "success": true, "error": null, "encoding": "msgpack",
            "capabilities": {"agent_id": "liar", "name": "Liar", "version": "1",
                "supported_events": [1]},
            "tollgate": {
                "version": 1, "shared_memory": {"versions": [1], "bytes": RING},
            },
        });
        socket
            .write_all(&frame(0x02, response.to_string().as_bytes()))
            .unwrap();
        let memory = receive_descriptor(&socket);
        Self {
            socket,
            of_proxy: memory,
        }
    }

    /// Says yes with these descriptors. Returns the proxy's confirmation, or `None` if it closed
    /// the connection.
    fn answer(&mut self, descriptors: &[BorrowedFd<'_>]) -> Option<u8> {
        let frame = frame(0x64, &[1]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        }
        let pieces = [IoSlice::new(&frame)];
        rustix::net::sendmsg(&self.socket, &pieces, &mut ancillary, SendFlags::NOSIGNAL).unwrap();
        let mut confirmation = [0; 6];
        match self.socket.read_exact(&mut confirmation) {
            Ok(()) => Some(confirmation[5]),
            Err(_) => None,
        }
    }

    /// Returns a word of the proxy's.
    fn word_of_proxy(&self, word: u64) -> u64 {
        let mut value = [0; 8];
        assert_eq!(rustix::io::pread(&self.of_proxy, &mut value, word), Ok(8));
        u64::from_ne_bytes(value)
    }

    /// Waits until the proxy has closed the connection.
    fn expect_closed(&mut self) {
        let mut rest = Vec::new();
        let ended = self.socket.read_to_end(&mut rest);
        // Unread doorbells reset the connection.
        if let Err(error) = ended {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }
}

fn frame(message: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len() + 1).unwrap().to_be_bytes();
    [&length[..], &[message], payload].concat()
}

fn read_frame(socket: &mut UnixStream) -> (u8, Vec<u8>) {
    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut frame).unwrap();
    (frame[0], frame[1..].to_vec())
}

fn receive_descriptor(socket: &UnixStream) -> OwnedFd {
    let mut bytes = [0; 6];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut pieces = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    rustix::net::recvmsg(socket, &mut pieces, &mut ancillary, flags).unwrap();
    assert_eq!(bytes, [0, 0, 0, 2, 0x64, 1]);
    let mut descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptors.next().expect("a descriptor")
}

/// Creates memory that the proxy accepts, and that this side can still write.
fn memory(len: u64, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("liar", flags).unwrap();
    ftruncate(&file, len).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

fn honest() -> OwnedFd {
    memory(CONTROL + RING, SealFlags::SHRINK | SealFlags::GROW)
}

fn set(memory: &OwnedFd, word: u64, value: u64) {
    let written = rustix::io::pwrite(memory, &value.to_ne_bytes(), word);
    assert_eq!(written, Ok(8));
}

/// Runs an agent that lies on its first connection, and a pool that connects to it.
async fn with_liar<T: Send + 'static>(
    lie: impl FnOnce(Liar) -> T + Send + 'static,
) -> (Result<Agent, AddError>, AgentPool, JoinHandle<T>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let liar = std::thread::spawn(move || lie(Liar::accept(&listener)));
    let pool = AgentPool::with_config(
        config(Encoding::MessagePack)
            .shared_memory(SharedMemory::Adaptive)
            .request_timeout(Duration::from_secs(1)),
    );
    let agent = AgentConfig::new("agent", path.to_str().unwrap()).require_connection();
    let added = pool.add(agent).await;
    (added, pool, liar, folder)
}

/// Waits for the agent's thread, while this runtime goes on.
async fn join<T: Send + 'static>(liar: JoinHandle<T>) -> T {
    tokio::task::spawn_blocking(|| liar.join().unwrap())
        .await
        .unwrap()
}

/// Descriptors that could fault when they are read end the connection.
#[tokio::test]
async fn invalid_descriptors_are_rejected() {
    let fixed = SealFlags::SHRINK | SealFlags::GROW;
    let (end, _other) = UnixStream::pair().unwrap();
    let descriptors: Vec<OwnedFd> = vec![
        end.into(),
        File::open("/dev/zero").unwrap().into(),
        tempfile::tempfile().unwrap().into(),
        memory(CONTROL + RING, SealFlags::empty()),
        memory(CONTROL + RING, SealFlags::SHRINK),
        memory(CONTROL + RING - 1, fixed),
        memory(CONTROL + 2 * RING, fixed),
        memory(0, fixed),
    ];
    for descriptor in descriptors {
        let name = format!("{descriptor:?}");
        let lie = move |mut liar: Liar| liar.answer(&[descriptor.as_fd()]);
        let (added, _pool, liar, _folder) = with_liar(lie).await;
        assert!(
            matches!(added, Err(AddError::Connect { .. })),
            "{name}: {added:?}"
        );
        assert_eq!(join(liar).await, None, "{name} was confirmed");
    }
}

/// A missing descriptor may be nobody's fault, and more than one is never looked at.
#[tokio::test]
async fn missing_descriptors_leave_the_socket() {
    for count in [0, 2, 4] {
        let lie = move |mut liar: Liar| {
            let memory = honest();
            let confirmed = liar.answer(&vec![memory.as_fd(); count]);
            // The settings and events come over the socket.
            (confirmed, read_frame(&mut liar.socket).0)
        };
        let (added, _pool, liar, _folder) = with_liar(lie).await;
        let agent = added.unwrap();
        let stats = agent.stats().shared_memory;
        assert_eq!(stats.refusal, Some(SharedMemoryRefusal::NoDescriptor));
        assert_eq!((stats.connections, stats.failed), (0, 1));
        let called = agent.send("c", &request("c", "/")).await;
        called.unwrap_err();
        assert_eq!(join(liar).await, (Some(0), 0x10), "{count} descriptors");
    }
}

/// Positions that are not possible end the connection at once, and with it its calls.
#[tokio::test]
async fn impossible_positions_end_the_connection() {
    for (word, value) in [
        (HEAD, RING + 1),
        (HEAD, u64::MAX / 2),
        (HEAD, u64::MAX),
        (TAIL, 1),
        (TAIL, u64::MAX / 2),
        (TAIL, u64::MAX),
    ] {
        let lie = move |mut liar: Liar| {
            let memory = honest();
            set(&memory, word, value);
            assert_eq!(liar.answer(&[memory.as_fd()]), Some(1));
            // Fails if the proxy has found out without being woken.
            let _ = liar.socket.write_all(&[0]);
            liar.expect_closed();
        };
        let (added, pool, liar, _folder) = with_liar(lie).await;
        let began = Instant::now();
        // The writer of the ring reads `tail` when its copy says that there is no room.
        let body = "x".repeat(1024 * 1024);
        if let Ok(agent) = added {
            let called = agent.send("c", &request("c", &body)).await;
            assert!(
                matches!(
                    called,
                    Err(CallError::ConnectionClosed { .. } | CallError::Unavailable { .. })
                ),
                "{word} {value}: {called:?}"
            );
        }
        assert!(
            began.elapsed() < Duration::from_millis(900),
            "{:?}",
            began.elapsed()
        );
        join(liar).await;
        drop(pool);
    }
}

/// Frames arrive whole although their bytes are published one by one.
#[tokio::test]
async fn frames_are_joined_from_single_bytes() {
    let lie = |mut liar: Liar| {
        let memory = honest();
        assert_eq!(liar.answer(&[memory.as_fd()]), Some(1));
        let pings = (1..=3).flat_map(|number| frame(0x41, &[number; 40]));
        for (at, byte) in (0..).zip(pings) {
            assert_eq!(rustix::io::pwrite(&memory, &[byte], CONTROL + at), Ok(1));
            set(&memory, HEAD, at + 1);
            if liar.word_of_proxy(WAKE_AT) == at {
                liar.socket.write_all(&[0]).unwrap();
            }
        }
        let pongs = [1, 2, 3].map(|number| frame(0x42, &[number; 40])).concat();
        let deadline = Instant::now() + TEST_TIMEOUT;
        while Instant::now() < deadline {
            let mut written = vec![0; liar.word_of_proxy(HEAD) as usize];
            let read = rustix::io::pread(&liar.of_proxy, &mut written, CONTROL);
            assert_eq!(read, Ok(written.len()));
            if written.windows(pongs.len()).any(|bytes| bytes == pongs) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    };
    let (added, _pool, liar, _folder) = with_liar(lie).await;
    added.unwrap();
    assert!(join(liar).await, "the pings are not answered");
}

/// Bytes that are no frames end the connection as on a socket.
#[tokio::test]
async fn garbage_in_the_ring_ends_the_connection() {
    let lie = |mut liar: Liar| {
        let memory = honest();
        assert_eq!(liar.answer(&[memory.as_fd()]), Some(1));
        let garbage = vec![0xff; 1024];
        assert_eq!(rustix::io::pwrite(&memory, &garbage, CONTROL), Ok(1024));
        set(&memory, HEAD, 1024);
        let _ = liar.socket.write_all(&[0]);
        liar.expect_closed();
    };
    let (added, pool, liar, _folder) = with_liar(lie).await;
    added.unwrap();
    eventually("the fault is counted", async || {
        crate::common::faults(&pool).await.invalid_frames == 1
    })
    .await;
    join(liar).await;
}

/// Doorbells that nobody asked for end the connection.
#[tokio::test]
async fn floods_of_doorbells_end_the_connection() {
    let lie = |mut liar: Liar| {
        let memory = honest();
        assert_eq!(liar.answer(&[memory.as_fd()]), Some(1));
        let began = Instant::now();
        while began.elapsed() < TEST_TIMEOUT {
            if liar.socket.write_all(&[0; 64]).is_err() {
                return true;
            }
        }
        false
    };
    let (added, pool, liar, _folder) = with_liar(lie).await;
    added.unwrap();
    eventually("the connection ends", async || {
        crate::common::faults(&pool).await.connections_lost == 1
    })
    .await;
    assert!(join(liar).await, "the flood went on");
}

/// An agent that never takes anything fills its own ring. Calls end by their deadline, and others
/// are not delayed.
#[tokio::test]
async fn agent_that_never_reads_delays_its_own_calls_only() {
    let lie = |mut liar: Liar| {
        let memory = honest();
        assert_eq!(liar.answer(&[memory.as_fd()]), Some(1));
        liar.expect_closed();
    };
    let (added, pool, liar, _folder) = with_liar(lie).await;
    let agent = added.unwrap();
    let body = "x".repeat(1024 * 1024);
    let calls = (0..4).map(|call| {
        let (agent, body) = (agent.clone(), body.clone());
        tokio::spawn(async move {
            let id = format!("c-{call}");
            agent.send(&id, &request(&id, &body)).await
        })
    });
    for call in calls.collect::<Vec<_>>() {
        let called = call.await.unwrap();
        assert!(
            matches!(called, Err(CallError::Timeout { .. })),
            "{called:?}"
        );
    }
    pool.remove("agent").unwrap();
    join(liar).await;
}
