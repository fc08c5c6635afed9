use super::Answers;
use std::fmt;
use tollgate::{
    AgentPool, AgentResponse, BodyChunk, Bytes, CallError, Decision, Metadata, RequestBodyChunk,
    RequestComplete, RequestHeaders, ResponseHeaders,
};

pub const AGENT: &str = "agent";

/// Events that are sent to an agent repeatedly.
#[derive(Debug, Clone, PartialEq)]
pub enum Traffic {
    /// Head of a request with this many headers.
    Headers(usize),
    /// Head of a request with ten headers, of which this many values need escapes
    /// in JSON.
    Escaped(usize),
    /// Body chunk.
    Chunk(Bytes),
    ResponseHeaders,
    Complete,
    /// Headers, four chunks, response headers, completion.
    Exchange,
    /// Like `Exchange`, with the chunks pushed and their answers taken afterwards.
    Pipelined,
    /// Head of a request that is answered with three header operations.
    HeaderOps,
    /// Head of a request that is blocked with a body and two headers.
    Block,
}

impl Traffic {
    pub fn chunk(kib: usize) -> Self {
        Self::Chunk(vec![b'x'; kib * 1024].into())
    }

    /// Returns the traffic with this name.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = vec![
            Self::ResponseHeaders,
            Self::Complete,
            Self::Exchange,
            Self::Pipelined,
            Self::HeaderOps,
            Self::Block,
        ];
        all.extend([10, 40].map(Self::Headers));
        all.push(Self::Escaped(2));
        all.extend([1, 16, 64].map(Self::chunk));
        all.into_iter().find(|traffic| traffic.to_string() == name)
    }

    /// Returns the number of events.
    pub fn events(&self) -> u64 {
        match self {
            Self::Exchange | Self::Pipelined => 3 + BODY.len() as u64,
            _ => 1,
        }
    }

    /// Sends at least this many events to the agent. Returns how many it sent.
    pub async fn put(&self, pool: &AgentPool, ids: &mut Ids, events: u64) -> u64 {
        let times = events.div_ceil(self.events());
        for _ in 0..times {
            self.put_once(pool, ids).await;
        }
        times * self.events()
    }

    /// Sends the events once, under a new correlation id.
    async fn put_once(&self, pool: &AgentPool, ids: &mut Ids) {
        let id = ids.next();
        let outcome = match self {
            Self::Headers(count) => head(pool, id, "/", &HEADERS[..*count]).await,
            Self::Escaped(count) => head(pool, id, "/", &escaped(*count)).await,
            Self::HeaderOps => head(pool, id, Answers::HEADER_OPS, &HEADERS[..10]).await,
            Self::Block => head(pool, id, Answers::BLOCK, &HEADERS[..10]).await,
            Self::Chunk(data) => {
                pool.agent(AGENT)
                    .unwrap()
                    .send(id, &chunk(id, data, 0, true))
                    .await
            }
            Self::ResponseHeaders => {
                pool.agent(AGENT)
                    .unwrap()
                    .send(id, &response_headers(id))
                    .await
            }
            Self::Complete => pool.agent(AGENT).unwrap().send(id, &complete(id)).await,
            Self::Exchange => exchange(pool, id).await,
            Self::Pipelined => pipelined(pool, id).await,
        };
        let response = outcome.expect("an answer");
        assert!((self == &Self::Block) == (response.decision != Decision::Allow));
        let ops = if *self == Self::HeaderOps { 3 } else { 0 };
        assert_eq!(response.request_headers.len(), ops);
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Headers(count) => write!(f, "request headers ({count})"),
            Self::Escaped(count) => write!(f, "request headers (10, {count} escaped)"),
            Self::Chunk(data) => write!(f, "body chunk ({} KiB)", data.len() / 1024),
            Self::ResponseHeaders => f.write_str("response headers"),
            Self::Complete => f.write_str("request complete"),
            Self::Exchange => f.write_str("whole exchange"),
            Self::Pipelined => f.write_str("whole exchange (pipelined)"),
            Self::HeaderOps => f.write_str("allow with 3 header operations"),
            Self::Block => f.write_str("block with body and 2 headers"),
        }
    }
}

/// Correlation ids as long as UUIDs, formatted without allocating.
pub struct Ids {
    text: String,
    next: u64,
}

impl Default for Ids {
    fn default() -> Self {
        Self {
            text: String::with_capacity(36),
            next: 0,
        }
    }
}

impl Ids {
    /// Returns ids that no other caller has.
    pub fn of_caller(number: u64) -> Self {
        Self {
            next: number << 32,
            ..Self::default()
        }
    }

    pub fn next(&mut self) -> &str {
        use std::fmt::Write;
        self.text.clear();
        write!(self.text, "0f8fad5b-d9cb-469f-a165-{:012x}", self.next).unwrap();
        self.next += 1;
        &self.text
    }
}

type Outcome = Result<AgentResponse, CallError>;
type Header = (&'static str, &'static str);

/// Returns the head of a request.
pub fn request<'a>(uri: &'a str, headers: &'a [Header]) -> RequestHeaders<'a, &'a [Header]> {
    RequestHeaders {
        metadata: Metadata {
            request_id: "0f8fad5b-d9cb-469f-a165-70867728950e",
            client_ip: "192.0.2.7",
            client_port: 54321,
            protocol: "HTTP/1.1",
            timestamp: "2026-01-02T03:04:05Z",
            ..Metadata::default()
        },
        method: "GET",
        uri,
        headers,
    }
}

async fn head(pool: &AgentPool, id: &str, uri: &str, headers: &[Header]) -> Outcome {
    let mut exchange = pool.agent(AGENT).unwrap().exchange(id)?;
    exchange.send(&request(uri, headers)).await
}

async fn exchange(pool: &AgentPool, id: &str) -> Outcome {
    let mut exchange = pool.agent(AGENT).unwrap().exchange(id)?;
    exchange.send(&request("/", &HEADERS[..10])).await?;
    for (index, data) in BODY.into_iter().enumerate() {
        let chunk = chunk(
            id,
            &Bytes::from_static(data),
            index,
            index + 1 == BODY.len(),
        );
        exchange.send(&chunk).await?;
    }
    exchange.send(&response_headers(id)).await?;
    exchange.send(&complete(id)).await
}

async fn pipelined(pool: &AgentPool, id: &str) -> Outcome {
    let mut exchange = pool.agent(AGENT).unwrap().exchange(id)?;
    exchange.send(&request("/", &HEADERS[..10])).await?;
    for (index, data) in BODY.into_iter().enumerate() {
        let chunk = chunk(
            id,
            &Bytes::from_static(data),
            index,
            index + 1 == BODY.len(),
        );
        exchange.push(&chunk).await?;
    }
    while let Some(answer) = exchange.next_answer().await {
        answer?;
    }
    exchange.send(&response_headers(id)).await?;
    exchange.send(&complete(id)).await
}

/// Four chunks of 4 KiB.
const BODY: [&[u8]; 4] = [&[b'x'; 4096]; 4];

fn chunk<'a>(id: &'a str, data: &Bytes, index: usize, is_last: bool) -> RequestBodyChunk<'a> {
    RequestBodyChunk(BodyChunk::new(id, data.clone(), index as u32, is_last))
}

fn response_headers(id: &str) -> ResponseHeaders<'_, &'static [Header]> {
    ResponseHeaders {
        correlation_id: id,
        status: 200,
        headers: &HEADERS[..10],
    }
}

fn complete(id: &str) -> RequestComplete<'_> {
    RequestComplete {
        correlation_id: id,
        status: 200,
        duration_ms: 12,
        request_body_size: 16384,
        response_body_size: 0,
        upstream_attempts: 1,
        error: None,
    }
}

/// Ten headers, of which `count` values hold quotation marks and long runs of digits.
fn escaped(count: usize) -> [Header; 10] {
    let mut headers: [Header; 10] = HEADERS[..10].try_into().expect("ten headers");
    for (_, value) in &mut headers[..count] {
        *value = "\"Chromium\";v=\"126\", _ga=GA1.1.1234567890.1234567890";
    }
    headers
}

/// Forty headers with names and values of usual length.
pub const HEADERS: [Header; 40] = {
    const NAMES: [&str; 40] = [
        "host",
        "user-agent",
        "accept",
        "accept-language",
        "accept-encoding",
        "cookie",
        "referer",
        "sec-fetch-dest",
        "sec-fetch-mode",
        "x-forwarded-for",
        "sec-fetch-site",
        "sec-fetch-user",
        "sec-ch-ua",
        "sec-ch-ua-mobile",
        "sec-ch-ua-platform",
        "cache-control",
        "pragma",
        "connection",
        "upgrade-insecure-requests",
        "dnt",
        "te",
        "origin",
        "content-type",
        "content-length",
        "authorization",
        "if-none-match",
        "if-modified-since",
        "range",
        "x-request-id",
        "x-real-ip",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-amzn-trace-id",
        "traceparent",
        "tracestate",
        "baggage",
        "via",
        "forwarded",
        "x-device",
        "x-client-version",
    ];
    let mut headers = [(
        "",
        "a value as long as those of browsers are on average, more or less",
    ); 40];
    let mut at = 0;
    while at < NAMES.len() {
        headers[at].0 = NAMES[at];
        at += 1;
    }
    headers
};
