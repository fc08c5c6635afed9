//! A HAProxy that writes bytes, and agents for it.

use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tollgate::{AgentHandler, AgentServer, AgentServerBuilder};
use tollgate_haproxy::client::{Answer, Question, put_messages};
use tollgate_haproxy::wire::{
    AgentHello, Disconnect, Frame, FrameId, FrameKind, Hello, Value, Writer, put_frame,
};
use tollgate_haproxy::{SpopListener, SpopSettings};

/// Time in which anything that is waited for has to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Size limit of frames that the peers announce.
pub(crate) const MAX_FRAME: u32 = 65_532;

/// A server with an agent, on a TCP port.
pub(crate) struct Server {
    pub(crate) address: String,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(handler: impl AgentHandler) -> Self {
        Self::with(handler, SpopSettings::default(), |server| server).await
    }

    pub(crate) async fn with<H: AgentHandler>(
        handler: H,
        settings: SpopSettings,
        configure: impl FnOnce(AgentServerBuilder<H>) -> AgentServerBuilder<H>,
    ) -> Self {
        let endpoint = "haproxy://127.0.0.1:0".parse().unwrap();
        let listener = SpopListener::bind(&endpoint, settings).await.unwrap();
        let server = configure(AgentServer::builder(handler)).listen_on(listener);
        let server = server.bind().await.unwrap();
        let address = server.endpoints()[0]
            .strip_prefix("haproxy://")
            .unwrap()
            .to_owned();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            server.serve_until(stopped).await.unwrap();
        });
        Self {
            address,
            stop: Some(stop),
            served,
        }
    }

    /// Tells the server to stop.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until the server has stopped.
    pub(crate) async fn stopped(mut self) {
        self.stop();
        timeout(DEADLINE, self.served)
            .await
            .expect("stops")
            .unwrap();
    }

    /// Opens a connection without a hello.
    pub(crate) async fn open(&self) -> Peer {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream }
    }

    /// Opens a connection, with the hellos of both sides.
    pub(crate) async fn connect(&self) -> Peer {
        self.connect_with(MAX_FRAME).await
    }

    pub(crate) async fn connect_with(&self, max_frame_size: u32) -> Peer {
        let mut peer = self.open().await;
        peer.send(&hello(max_frame_size, false)).await;
        match peer.receive().await {
            Received::Hello(size) => assert_eq!(size, max_frame_size),
            other => panic!("{other:?}"),
        }
        peer
    }
}

/// A frame of the agent.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    Hello(u32),
    Ack(FrameId, Answer),
    Disconnect(u32),
    /// The agent has closed the connection.
    End,
}

/// A connection to the agent.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
}

impl Peer {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn receive(&mut self) -> Received {
        timeout(DEADLINE, self.try_receive())
            .await
            .expect("a frame")
    }

    async fn try_receive(&mut self) -> Received {
        let Ok(len) = self.stream.read_u32().await else {
            return Received::End;
        };
        let mut bytes = vec![0; len as usize];
        self.stream.read_exact(&mut bytes).await.unwrap();
        let frame = Frame::read(&bytes).unwrap();
        match frame.kind {
            FrameKind::AgentHello => {
                Received::Hello(AgentHello::read(frame.payload).unwrap().max_frame_size)
            }
            FrameKind::Ack => Received::Ack(frame.id, Answer::read(frame.payload).unwrap()),
            FrameKind::AgentDisconnect => {
                Received::Disconnect(Disconnect::read(frame.payload).unwrap().code)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Asks about one message.
    pub(crate) async fn ask(&mut self, name: &str, arguments: &[(&str, Value<'_>)]) -> Answer {
        self.ask_all(&[Question { name, arguments }]).await
    }

    /// Asks about several messages at once.
    pub(crate) async fn ask_all(&mut self, messages: &[Question<'_>]) -> Answer {
        let id = FrameId {
            stream: 0,
            frame: 1,
        };
        self.send(&notify(id, messages)).await;
        match self.receive().await {
            Received::Ack(answered, answer) => {
                assert_eq!(answered, id);
                answer
            }
            other => panic!("{other:?}"),
        }
    }

    /// Checks that the agent ends the connection with this status.
    pub(crate) async fn is_ended_with(&mut self, code: u32) {
        assert_eq!(self.receive().await, Received::Disconnect(code));
        assert_eq!(self.receive().await, Received::End);
    }
}

pub(crate) fn hello(max_frame_size: u32, is_health_check: bool) -> Vec<u8> {
    let mut out = Vec::new();
    put_frame(
        &mut out,
        FrameKind::HaproxyHello,
        FrameId::default(),
        |out| {
            let hello = Hello {
                max_frame_size,
                capabilities: b"pipelining,async",
                engine_id: Some(b"e-1"),
                is_health_check,
            };
            hello.write(out);
        },
    );
    out
}

pub(crate) fn notify(id: FrameId, messages: &[Question<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    put_frame(&mut out, FrameKind::Notify, id, |out| {
        put_messages(out, messages);
    });
    out
}

/// Writes the value of `req.hdrs_bin`.
pub(crate) fn header_list(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut list = Vec::new();
    let mut writer = Writer(&mut list);
    for (name, value) in pairs.iter().chain(&[("", "")]) {
        writer.string(name);
        writer.string(value);
    }
    list
}

/// Asks about a request for a path with a host.
pub(crate) async fn ask_path(peer: &mut Peer, path: &str) -> Answer {
    let headers = header_list(&[("host", "a.test")]);
    let arguments = [
        ("id", Value::from("r-1")),
        ("method", Value::from("GET")),
        ("path", Value::from(path)),
        ("headers", Value::Binary(&headers)),
    ];
    peer.ask("tollgate-req", &arguments).await
}
