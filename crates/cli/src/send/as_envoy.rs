//! Sends one HTTP request as Envoy does: headers, bodies in chunks, and trailers.

use super::body::Body;
use super::exchange::{UPSTREAM_BODY, UPSTREAM_HEADERS, UPSTREAM_STATUS};
use super::step::Step;
use super::{Args, conclude};
use crate::envoy::connect;
use crate::exit::AgentFailure;
use crate::output::print_line;
use std::time::Instant;
use tokio::time::timeout;
use tollgate::{Decision, EventType};
use tollgate_envoy::caller::{CallerAnswer, CallerError, EnvoyCall};

/// A request under way.
struct Sending<'a> {
    args: &'a Args,
    call: EnvoyCall,
    steps: Vec<Step>,
    /// Parts of the exchange that the agent has switched off.
    skips: CallerAnswer,
}

/// Sends one request and prints the agent's answer to each part.
pub(super) async fn send(args: &Args, body: Body) -> anyhow::Result<()> {
    let mut caller = connect(&args.target, args.timeout).await?;
    let call = caller
        .begin()
        .await
        .map_err(|error| failure(args, &error))?;
    let mut sending = Sending {
        args,
        call,
        steps: Vec::new(),
        skips: CallerAnswer::default(),
    };
    if sending.request(body).await? && sending.response().await? {
        sending.finish().await?;
    }
    conclude(Some("ext_proc"), &sending.steps, args.json)
}

fn failure(args: &Args, error: &CallerError) -> AgentFailure {
    AgentFailure::new(&args.target.endpoint, error)
}

impl Sending<'_> {
    /// Sends the request. Returns `false` once the agent has decided against it.
    async fn request(&mut self, mut body: Body) -> anyhow::Result<bool> {
        let args = self.args;
        let request = args.request();
        let is_host = |name: &str| name.eq_ignore_ascii_case("host");
        let host = request.headers.iter().find(|(name, _)| is_host(name));
        let mut head = vec![
            (":method", &*request.method),
            (":path", &*request.uri),
            (":scheme", "http"),
            (":authority", host.map_or("localhost", |(_, value)| value)),
        ];
        let names: Vec<_> = request
            .headers
            .iter()
            .map(|(name, _)| name.to_lowercase())
            .collect();
        let fields = names
            .iter()
            .zip(&request.headers)
            .filter(|(name, _)| !is_host(name));
        head.extend(fields.map(|(name, (_, value))| (&**name, &**value)));
        let mut next = body.next_chunk()?;
        let has_trailers = !args.trailers.is_empty();
        let is_whole = next.is_none() && !has_trailers;
        let begun = Instant::now();
        let answer = self
            .within(async |call| call.request_headers(&head, is_whole).await)
            .await?;
        if !self.note(EventType::RequestHeaders, answer, begun)? {
            return Ok(false);
        }
        if self.skips.skips_request_body {
            return Ok(true);
        }
        while let Some(chunk) = next {
            let is_last = chunk.is_last && !has_trailers;
            let begun = Instant::now();
            let answer = self
                .within(async |call| call.request_body(&chunk.data, is_last).await)
                .await?;
            if !self.note(EventType::RequestBodyChunk, answer, begun)? {
                return Ok(false);
            }
            next = body.next_chunk()?;
        }
        if !has_trailers {
            return Ok(true);
        }
        let trailers: Vec<_> = args
            .trailers
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        let begun = Instant::now();
        let answer = self
            .within(async |call| call.request_trailers(&trailers).await)
            .await?;
        // They end the body.
        self.note(EventType::RequestBodyChunk, answer, begun)
    }

    /// Sends the response. Returns `false` once the agent has decided against it.
    async fn response(&mut self) -> anyhow::Result<bool> {
        let status = UPSTREAM_STATUS.to_string();
        let mut head = vec![(":status", &*status)];
        head.extend(UPSTREAM_HEADERS);
        if !self.skips.skips_response_headers {
            let begun = Instant::now();
            let answer = self
                .within(async |call| call.response_headers(&head, false).await)
                .await?;
            if !self.note(EventType::ResponseHeaders, answer, begun)? {
                return Ok(false);
            }
        }
        if self.skips.skips_response_body {
            return Ok(true);
        }
        let begun = Instant::now();
        let answer = self
            .within(async |call| call.response_body(UPSTREAM_BODY, true).await)
            .await?;
        self.note(EventType::ResponseBodyChunk, answer, begun)
    }

    /// Closes the call, which the agent ends with an error if it has not judged everything.
    async fn finish(&mut self) -> anyhow::Result<()> {
        self.within(async |call| call.finish().await).await
    }

    /// Sends a part and waits for its answer within the time limit.
    async fn within<T>(
        &mut self,
        send: impl AsyncFnOnce(&mut EnvoyCall) -> Result<T, CallerError>,
    ) -> anyhow::Result<T> {
        let (args, limit) = (self.args, self.args.timeout);
        match timeout(limit, send(&mut self.call)).await {
            Ok(answer) => Ok(answer.map_err(|error| failure(args, &error))?),
            Err(_) => {
                let late = format_args!("timed out after {limit:?}");
                Err(AgentFailure::new(&args.target.endpoint, late).into())
            }
        }
    }

    /// Records an answer. Returns `false` if the agent decides against the request.
    fn note(
        &mut self,
        event: EventType,
        answer: CallerAnswer,
        begun: Instant,
    ) -> anyhow::Result<bool> {
        let is_allowed = answer.response.decision == Decision::Allow;
        self.skips.skips_request_body |= answer.skips_request_body;
        self.skips.skips_response_headers |= answer.skips_response_headers;
        self.skips.skips_response_body |= answer.skips_response_body;
        let step = Step::new(event, answer.response, begun.elapsed());
        if !self.args.json {
            print_line(&step)?;
        }
        self.steps.push(step);
        Ok(is_allowed)
    }
}
