//! Judges the body of a request before its head goes on to the upstream.
//!
//! Pingora sends the head first, and hands a body that was read before only from its buffer for
//! repeated requests, which holds 64 KiB and cannot be emptied. What is in the buffer does not
//! matter, since what was judged takes its place; but it must hold something at the end of the
//! body. With a `content-length` the buffer is used for the end alone, so the body may be larger.

use crate::agents::Agents;
use crate::departure::while_connected;
use crate::request::{JudgedBody, PendingBody, Request};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora::proxy::Session;
use tollgate::proxy::{BodyError, BodyMode, Message, Rejection};

/// Number of bytes that Pingora's buffer holds, and of a body that it reads at once at most.
const BUFFER: usize = 64 * 1024;

/// Reads and judges the body of a request as long as its head must not go on.
///
/// Without a `content-length`, only a body that must be judged as a whole is read before, and
/// refused above 64 KiB. In other cases the head goes on at once, and the transaction holds the
/// chunks.
pub(crate) async fn judge_ahead(
    session: &mut Session,
    ctx: &mut Request,
    agents: &Agents,
) -> pingora::Result<()> {
    if !ctx.transaction.holds_head(Message::Request) {
        return Ok(());
    }
    let length = content_length(session);
    let mode = ctx.transaction.body_mode(Message::Request);
    if length.is_none() && mode < Some(BodyMode::Buffer) {
        return Ok(());
    }
    tell_to_continue(session).await?;
    let mut passed = BytesMut::new();
    let mut is_whole = false;
    while !is_whole && ctx.transaction.holds_head(Message::Request) {
        let read = session.body_bytes_read();
        if length.is_none_or(|length| length.saturating_sub(read) <= BUFFER) {
            session.enable_retry_buffering();
        }
        let data = session.read_request_body().await;
        let data = data.map_err(|error| error.into_down())?;
        is_whole = data.is_none() || session.is_body_done();
        if session.retry_buffer_truncated() {
            let too_large = Rejection::RequestBody(BodyError::TooLarge { limit: BUFFER });
            ctx.transaction.count_rejection(&too_large);
            return Err(ctx.reject(too_large));
        }
        let data = data.unwrap_or_default();
        let judging = ctx
            .transaction
            .judge_chunk(Message::Request, data, is_whole);
        let judged = while_connected(session, agents, judging).await?;
        let judged = judged.map_err(|rejection| ctx.reject(rejection))?;
        passed.extend_from_slice(&judged.data);
    }
    ctx.judged = Some(JudgedBody {
        data: passed.freeze(),
        is_whole,
    });
    Ok(())
}

/// Notes that an attempt to send the request begins, which sends what was judged first.
pub(crate) fn begin_attempt(session: &Session, ctx: &mut Request) {
    let replaces_chunk = session.get_retry_buffer().is_some();
    ctx.pending = ctx.judged.clone().map(|body| PendingBody {
        body,
        replaces_chunk,
    });
}

/// Judges a chunk that Pingora hands over, and returns what goes on with it and before it.
pub(crate) async fn judge_chunk(
    ctx: &mut Request,
    data: Bytes,
    is_last: bool,
) -> Result<Bytes, Rejection> {
    let transaction = &mut ctx.transaction;
    let Some(PendingBody {
        body,
        replaces_chunk,
    }) = ctx.pending.take()
    else {
        let judged = transaction.judge_chunk(Message::Request, data, is_last);
        return Ok(judged.await?.data);
    };
    let data = if replaces_chunk { Bytes::new() } else { data };
    if body.is_whole || (data.is_empty() && !is_last) {
        return Ok(body.data);
    }
    let judged = transaction.judge_chunk(Message::Request, data, is_last);
    let mut passed = BytesMut::from(body.data);
    passed.extend_from_slice(&judged.await?.data);
    Ok(passed.freeze())
}

fn content_length(session: &Session) -> Option<usize> {
    let length = session.req_header().headers.get(CONTENT_LENGTH)?;
    length.to_str().ok()?.trim().parse().ok()
}

/// Tells a client to go on that waits for it before it sends the body. The upstream, which would do
/// that otherwise, does not know of the request yet.
async fn tell_to_continue(session: &mut Session) -> pingora::Result<()> {
    if !session.req_header().headers.contains_key(EXPECT) {
        return Ok(());
    }
    session.req_header_mut().remove_header(&EXPECT);
    if session.as_http1().is_some() {
        session.write_continue_response().await?;
    }
    Ok(())
}
