//! Heap budget: a warm exchange allocates nothing beside what a bare gRPC server over the same
//! HTTP/2 does for a stream.

#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::{BufMut, Bytes, BytesMut};
use envoy_types::pb::envoy::config::core::v3::{HeaderMap, HeaderValue};
use envoy_types::pb::envoy::extensions::filters::http::ext_proc::v3::processing_mode::BodySendMode;
use envoy_types::pb::envoy::service::ext_proc::v3::processing_request::Request as Phase;
use envoy_types::pb::envoy::service::ext_proc::v3::{
    HttpBody, HttpHeaders, ProcessingRequest, ProtocolConfiguration,
};
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use futures_util::stream::{FuturesUnordered, StreamExt};
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderValue as Field, Request, Response};
use prost::Message;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tollgate::{
    AgentCapabilities, AgentHandler, AgentResponse, AgentServer, BodyChunk, EventType,
    RequestHeadersView,
};
use tollgate_envoy::{EnvoyConfig, EnvoyListener};

/// Exchanges that grow buffers.
const WARM_UP: usize = 300;

/// Exchanges that are counted.
const COUNTED: usize = 1_000;

/// Looks at what it is asked about, and allows it.
struct Allow;

impl AgentHandler for Allow {
    fn capabilities(&self) -> AgentCapabilities {
        AgentCapabilities::new("allow", "Allow", "1").with_event(EventType::RequestBodyChunk)
    }

    async fn on_request_headers(&self, event: RequestHeadersView<'_>) -> AgentResponse {
        assert_eq!(event.metadata.client_ip, "203.0.113.7");
        if event.path().starts_with("/admin") || event.headers.get("x-attack").is_some() {
            return AgentResponse::block(403, None);
        }
        AgentResponse::default_allow()
    }

    async fn on_request_body_chunk(&self, event: BodyChunk<'_>) -> AgentResponse {
        assert_eq!(event.data.len(), 1000);
        AgentResponse::default_allow()
    }
}

async fn agent() -> SocketAddr {
    let config = EnvoyConfig::default();
    let listener = EnvoyListener::bind("envoy://127.0.0.1:0", config)
        .await
        .unwrap();
    let server = AgentServer::builder(Allow)
        .listen_on(listener)
        .bind()
        .await
        .unwrap();
    let endpoint = server.endpoints().remove(0);
    tokio::spawn(server.serve());
    endpoint.strip_prefix("envoy://").unwrap().parse().unwrap()
}

/// A server that reads messages and answers each with the same bytes, and knows nothing of them.
async fn bare() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut streams = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = connection.accept() => match accepted {
                    Some(accepted) => {
                        let (request, respond) = accepted.unwrap();
                        streams.push(echo(request.into_body(), respond));
                    }
                    None => return,
                },
                Some(()) = streams.next(), if !streams.is_empty() => {}
            }
        }
    });
    address
}

async fn echo(mut body: RecvStream, mut respond: SendResponse<Bytes>) {
    let mut sending: Option<SendStream<Bytes>> = None;
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        if data.is_empty() {
            continue;
        }
        let sending = sending.get_or_insert_with(|| {
            let mut head = Response::new(());
            let grpc = Field::from_static("application/grpc");
            head.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
            respond.send_response(head, false).unwrap()
        });
        let answer = Bytes::from_static(b"\0\0\0\0\x02\x0a\0");
        sending.reserve_capacity(answer.len());
        sending.send_data(answer, false).unwrap();
    }
    let mut trailers = http::HeaderMap::with_capacity(2);
    trailers.insert("grpc-status", Field::from(0));
    sending.unwrap().send_trailers(trailers).unwrap();
}

/// Messages of one exchange, framed.
fn messages(has_body: bool) -> Vec<Bytes> {
    let header = |key: &str, value: &str| HeaderValue {
        key: key.to_owned(),
        raw_value: value.as_bytes().to_vec(),
        ..Default::default()
    };
    let headers = vec![
        header(":method", "POST"),
        header(":path", "/articles/2024/index.html?page=3"),
        header(":scheme", "https"),
        header(":authority", "shop.example.com"),
        header(
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Firefox/130.0",
        ),
        header("accept", "text/html,application/xhtml+xml"),
        header("accept-encoding", "gzip, deflate, br"),
        header("cookie", "session=0123456789abcdef"),
        header("content-length", "1000"),
        header("x-request-id", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736"),
    ];
    let attribute = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    let fields = [
        ("source.address".to_owned(), attribute("203.0.113.7:4711")),
        ("request.protocol".to_owned(), attribute("HTTP/1.1")),
    ];
    let attributes = Struct {
        fields: fields.into(),
    };
    let mode = if has_body {
        BodySendMode::Streamed
    } else {
        BodySendMode::None
    };
    let head = ProcessingRequest {
        attributes: [("envoy.filters.http.ext_proc".to_owned(), attributes)].into(),
        protocol_config: Some(ProtocolConfiguration {
            request_body_mode: mode.into(),
            ..Default::default()
        }),
        request: Some(Phase::RequestHeaders(HttpHeaders {
            headers: Some(HeaderMap { headers }),
            end_of_stream: !has_body,
            ..Default::default()
        })),
        ..Default::default()
    };
    let body = ProcessingRequest {
        request: Some(Phase::RequestBody(HttpBody {
            body: vec![b'x'; 1000],
            end_of_stream: true,
            ..Default::default()
        })),
        ..Default::default()
    };
    let all = [Some(head), has_body.then_some(body)];
    all.into_iter()
        .flatten()
        .map(|message| framed(&message))
        .collect()
}

fn framed(message: &ProcessingRequest) -> Bytes {
    let message = message.encode_to_vec();
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.extend_from_slice(&message);
    frame.freeze()
}

/// Runs one exchange: each message is answered, and the status is 0.
async fn exchange(client: &mut SendRequest<Bytes>, messages: &[Bytes]) {
    let request = Request::post("http://agent/envoy.service.ext_proc.v3.ExternalProcessor/Process")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let (response, mut sending) = client.send_request(request, false).unwrap();
    sending.send_data(messages[0].clone(), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    let answered = async |body: &mut RecvStream| {
        let data = body.data().await.unwrap().unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
    };
    answered(&mut body).await;
    for message in &messages[1..] {
        sending.send_data(message.clone(), false).unwrap();
        answered(&mut body).await;
    }
    sending.send_data(Bytes::new(), true).unwrap();
    assert!(body.data().await.is_none());
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

/// Returns the allocations of both sides for the counted exchanges. The client is the same for each
/// server, and so are its allocations.
fn allocations(serve: impl AsyncFnOnce() -> SocketAddr, messages: &[Bytes]) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut client = runtime.block_on(async {
        let stream = TcpStream::connect(serve().await).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        client.ready().await.unwrap()
    });
    let mut run = |count| {
        runtime.block_on(async {
            for _ in 0..count {
                exchange(&mut client, messages).await;
            }
        });
    };
    run(WARM_UP);
    allocation_counter::measure(|| run(COUNTED)).count_total
}

#[test]
fn exchanges_allocate_what_http2_does() {
    for has_body in [false, true] {
        let messages = messages(has_body);
        let (ours, bare) = (allocations(agent, &messages), allocations(bare, &messages));

        // The buffers of HTTP/2 grow at times that differ.
        assert!(
            ours <= bare + COUNTED as u64 / 50,
            "{ours} instead of {bare}"
        );
    }
}
