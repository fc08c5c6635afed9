//! `tollgate send` to an agent for HAProxy: a request, and the response to it.

use super::answer::{REQUEST, RESPONSE, response_of};
use super::question::Prepared;
use super::{connect, within};
use std::time::{Duration, Instant};
use tollgate::{AgentResponse, Decision, EventType};
use tollgate_haproxy::client::Answer;

/// The request that is asked about.
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    pub(crate) uri: &'a str,
    pub(crate) headers: &'a [(String, String)],
    pub(crate) body: &'a [u8],
}

/// Asks about a request, and about its response if it is allowed. Returns each answer with the time
/// that it took.
pub(crate) async fn send(
    endpoint: &str,
    asked: &Asked<'_>,
    timeout: Duration,
) -> anyhow::Result<Vec<(EventType, AgentResponse, Duration)>> {
    let mut client = connect(endpoint, timeout).await?;
    let headers = asked.headers.iter();
    let mut headers: Vec<(&str, &str)> = headers.map(|(name, value)| (&**name, &**value)).collect();
    let length = asked.body.len().to_string();
    let has_length = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if !asked.body.is_empty() && !has_length {
        headers.push(("content-length", &length));
    }
    let body = asked.body.to_vec();
    let request = Prepared::new(asked.method, asked.uri, headers.into_iter(), body);
    let id = format!("send-{}-{}", std::process::id(), tollgate::events::now_ms());
    let mut answers = Vec::new();
    let began = Instant::now();
    let asking = async {
        request.queue(&mut client, 0, &id)?;
        client.next_answer(Answer::read).await
    };
    let (_, answer) = within(endpoint, timeout, asking).await?;
    let response = response_of(&answer, &REQUEST);
    let is_allowed = response.decision == Decision::Allow;
    answers.push((EventType::RequestHeaders, response, began.elapsed()));
    if is_allowed {
        let began = Instant::now();
        let asking = async {
            request.queue_response(&mut client, 1, &id)?;
            client.next_answer(Answer::read).await
        };
        let (_, answer) = within(endpoint, timeout, asking).await?;
        let response = response_of(&answer, &RESPONSE);
        answers.push((EventType::ResponseHeaders, response, began.elapsed()));
    }
    Ok(answers)
}
