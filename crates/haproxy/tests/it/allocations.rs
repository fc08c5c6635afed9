//! Heap budget: answering a question that is allowed allocates nothing, once the connection is
//! warm.

use crate::peer::{MAX_FRAME, header_list, hello, notify};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollgate::{
    AgentCapabilities, AgentHandler, AgentResponse, AgentServer, BodyChunk, EventType,
    RequestHeadersView, ResponseHeadersView,
};
use tollgate_haproxy::client::Question;
use tollgate_haproxy::wire::{FrameId, Value};
use tollgate_haproxy::{SpopListener, SpopSettings};

/// Questions that grow buffers.
const WARM_UP: usize = 200;

/// Questions that are counted.
const COUNTED: usize = 1_000;

/// Looks at what it is asked about, and allows it.
struct Allow;

impl AgentHandler for Allow {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("allow", "Allow", "1")
            .with_event(EventType::RequestBodyChunk)
            .with_event(EventType::ResponseHeaders)
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        if event.path().starts_with("/admin") || event.headers.get("x-attack").is_some() {
            return AgentResponse::block(403, None);
        }
        AgentResponse::default_allow()
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        assert!(event.is_last);
        AgentResponse::default_allow()
    }

    async fn on_response_headers(&self, event: ResponseHeadersView<'_>) -> AgentResponse {
        assert_eq!(event.status, 200);
        AgentResponse::default_allow()
    }
}

/// Counts the allocations of the agent, and of its runtime, for these questions.
fn allocations_for(questions: &[Question<'_>]) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let question = notify(
        FrameId {
            stream: 1,
            frame: 1,
        },
        questions,
    );
    let mut stream = runtime.block_on(async {
        let endpoint = "haproxy://127.0.0.1:0".parse().unwrap();
        let settings = SpopSettings::default();
        let listener = SpopListener::bind(&endpoint, settings).await.unwrap();
        let server = AgentServer::builder(Allow).listen_on(listener);
        let server = server.bind().await.unwrap();
        let address = server.endpoints()[0].clone();
        tokio::spawn(server.serve());
        let address = address.strip_prefix("haproxy://").unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&hello(MAX_FRAME, false)).await.unwrap();
        let len = stream.read_u32().await.unwrap();
        let mut hello = vec![0; len as usize];
        stream.read_exact(&mut hello).await.unwrap();
        stream
    });
    let mut buffer = [0; 1024];
    let mut ask = |count: usize| {
        runtime.block_on(async {
            for _ in 0..count {
                stream.write_all(&question).await.unwrap();
                let len = stream.read_u32().await.unwrap() as usize;
                stream.read_exact(&mut buffer[..len]).await.unwrap();
                let allow = b"action\x08\x05allow";
                let is_allowed = buffer[..len].windows(allow.len()).any(|it| it == allow);
                assert!(is_allowed);
            }
        });
    };
    ask(WARM_UP);
    allocation_counter::measure(|| ask(COUNTED)).count_total
}

#[test]
fn allowed_questions_allocate_nothing() {
    let headers = header_list(&[
        ("host", "shop.example.com"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
        ),
        ("accept", "text/html"),
        ("accept-encoding", "gzip, deflate, br"),
        ("cookie", "session=0123456789abcdef"),
        ("cookie", "theme=dark"),
        ("content-length", "5"),
    ]);
    let request = [
        (
            "id",
            Value::from("7F000001:8430_7F000001:46A0_6B0D2D6D_0000:17C3"),
        ),
        ("src-ip", Value::Ipv4([203, 0, 113, 7].into())),
        ("src-port", Value::Int64(4711)),
        ("method", Value::from("POST")),
        ("path", Value::from("/articles/2024/index.html")),
        ("query", Value::from("page=3")),
        ("version", Value::from("1.1")),
        ("frontend", Value::from("www")),
        ("headers", Value::Binary(&headers)),
        ("body-len", Value::Int64(5)),
        ("body-size", Value::Int64(5)),
        ("body", Value::Binary(b"hello")),
    ];
    let question = |name, arguments| Question { name, arguments };
    let request = question("tollgate-req-body", &request[..]);
    assert_eq!(allocations_for(&[request]), 0);
}

#[test]
fn allowed_responses_allocate_nothing() {
    let headers = header_list(&[("content-type", "text/html"), ("server", "a")]);
    let response = [
        ("id", Value::from("r-1")),
        ("method", Value::from("GET")),
        ("path", Value::from("/a")),
        ("status", Value::Int64(200)),
        ("headers", Value::Binary(&headers)),
        ("res-del", Value::Null),
    ];
    let response = Question {
        name: "tollgate-res",
        arguments: &response,
    };
    // The answer has `res_action`, in which `action` is found as well.
    assert_eq!(allocations_for(&[response]), 0);
}
