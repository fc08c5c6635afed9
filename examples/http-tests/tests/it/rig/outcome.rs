//! The results of a situation: what the client, the upstream and the agents have got.

use super::agent::{Chunk, Complete, Event, Head};
use super::clients::Via;
use super::proxy::Kind;
use super::upstream::Received;
use super::wire::{HeadText, joined};

/// A response as the client got it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// `false` if the body broke off.
    pub(crate) is_whole: bool,
    pub(crate) interim: Vec<HeadText>,
}

impl Reply {
    /// Returns all values of a header, joined by `|`; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> String {
        joined(&self.headers, name).unwrap_or_default()
    }
}

/// Everything that happened by one request.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) proxy: Kind,
    pub(crate) via: Via,
    /// `None` if the connection ended without a response.
    pub(crate) reply: Option<Reply>,
    pub(crate) upstream: Vec<Received>,
    pub(crate) agents: Vec<Vec<Event>>,
}

impl Outcome {
    /// Returns the response of the client.
    pub(crate) fn reply(&self) -> &Reply {
        self.reply.as_ref().expect("the client got no response")
    }

    /// Checks the status of the response, which is whole.
    pub(crate) fn status(&self, status: u16) -> &Self {
        let reply = self.reply();
        assert_eq!(reply.status, status, "status: {reply:?}");
        assert!(reply.is_whole, "the response broke off: {reply:?}");
        self
    }

    /// Checks that the client got another response, or knows that it has not the whole one.
    pub(crate) fn rejected_or_broken(&self, status: u16) {
        // The end of a stream or a connection may overtake the head.
        let Some(reply) = &self.reply else { return };
        let is_answer = reply.status == status && reply.is_whole;
        // HTTP/1.0 has no end of a body without a length that differs from the connection's.
        let is_broken = !reply.is_whole || self.via.is_http10();
        assert!(is_answer || reply.status == 200 && is_broken, "{reply:?}");
    }

    /// Checks that the upstream got nothing.
    pub(crate) fn not_forwarded(&self) -> &Self {
        assert!(self.upstream.is_empty(), "forwarded: {:?}", self.upstream);
        self
    }

    /// Checks that no agent was asked.
    pub(crate) fn not_asked(&self) -> &Self {
        assert!(
            self.agents.iter().all(Vec::is_empty),
            "asked: {:?}",
            self.agents
        );
        self
    }

    /// Checks the refusal of a request that agents are not asked about.
    pub(crate) fn refused(&self, status: u16) {
        self.status(status).not_forwarded().not_asked();
    }

    /// Returns the only request that the upstream got.
    pub(crate) fn received(&self) -> &Received {
        let [only] = &self.upstream[..] else {
            panic!("one request is expected: {:?}", self.upstream);
        };
        only
    }

    /// Returns a header that the upstream got, empty if there was none.
    pub(crate) fn forwarded(&self, name: &str) -> String {
        self.received().head.get(name).unwrap_or_default()
    }

    /// Checks that the upstream got this whole body.
    pub(crate) fn upstream_body(&self, body: impl AsRef<[u8]>) -> &Self {
        let received = self.received();
        let body = body.as_ref();
        assert!(received.is_whole, "a part of a request: {received:?}");
        assert!(
            received.body == body,
            "forwarded {} bytes: {}",
            received.body.len(),
            start(&received.body)
        );
        self
    }

    /// Checks that the client got this whole body.
    pub(crate) fn client_body(&self, body: impl AsRef<[u8]>) -> &Self {
        let reply = self.reply();
        assert!(reply.is_whole, "the response broke off: {reply:?}");
        assert!(
            reply.body == body.as_ref(),
            "{} bytes: {}",
            reply.body.len(),
            start(&reply.body)
        );
        self
    }

    /// Returns the head that an agent was asked about.
    pub(crate) fn asked(&self, agent: usize) -> &Head {
        let heads = self.agents[agent].iter().filter_map(|event| match event {
            Event::Request(head) => Some(head),
            _ => None,
        });
        let heads: Vec<_> = heads.collect();
        let [only] = heads[..] else {
            panic!("one head is expected: {:?}", self.agents[agent]);
        };
        only
    }

    /// Returns a header that the first agent saw in the request, empty if there was none.
    pub(crate) fn seen(&self, name: &str) -> String {
        joined(&self.asked(0).headers, name).unwrap_or_default()
    }

    /// Checks a header of the request that the upstream got and the first agent saw alike.
    pub(crate) fn both(&self, name: &str, value: &str) -> &Self {
        assert_eq!(self.seen(name), value, "{name} as the agent sees it");
        assert_eq!(self.forwarded(name), value, "{name} as it is forwarded");
        self
    }

    pub(crate) fn request_chunks(&self, agent: usize) -> Vec<&Chunk> {
        let events = self.agents[agent].iter();
        events
            .filter_map(|event| match event {
                Event::RequestChunk(chunk) => Some(chunk),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn response_chunks(&self, agent: usize) -> Vec<&Chunk> {
        let events = self.agents[agent].iter();
        events
            .filter_map(|event| match event {
                Event::ResponseChunk(chunk) => Some(chunk),
                _ => None,
            })
            .collect()
    }

    /// Returns the request's body as an agent saw it.
    pub(crate) fn seen_request(&self, agent: usize) -> Vec<u8> {
        content(&self.request_chunks(agent))
    }

    /// Returns the response's body as an agent saw it.
    pub(crate) fn seen_response(&self, agent: usize) -> Vec<u8> {
        content(&self.response_chunks(agent))
    }

    /// Returns the head of the response that the first agent saw.
    pub(crate) fn seen_in_response(&self, name: &str) -> String {
        let heads = self.agents[0].iter().find_map(|event| match event {
            Event::Response(_, headers) => Some(headers),
            _ => None,
        });
        joined(heads.expect("no head of a response"), name).unwrap_or_default()
    }

    /// Returns the status of the response that the first agent saw.
    pub(crate) fn seen_status(&self) -> u16 {
        let status = self.agents[0].iter().find_map(|event| match event {
            Event::Response(status, _) => Some(*status),
            _ => None,
        });
        status.expect("no head of a response")
    }

    /// Returns the request complete event of an agent.
    pub(crate) fn completed(&self, agent: usize) -> &Complete {
        let complete = self.agents[agent].iter().find_map(|event| match event {
            Event::Complete(complete) => Some(complete),
            _ => None,
        });
        complete.unwrap_or_else(|| panic!("not completed: {:?}", self.agents[agent]))
    }
}

fn content(chunks: &[&Chunk]) -> Vec<u8> {
    for pair in chunks.windows(2) {
        assert!(pair[0].index < pair[1].index, "order of chunks: {chunks:?}");
        assert!(!pair[0].is_last, "a chunk behind the last one: {chunks:?}");
    }
    chunks
        .iter()
        .flat_map(|chunk| chunk.data.to_vec())
        .collect()
}

fn start(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned()
}
