//! The way of one body through the agents.

use super::ask::{Replies, Reply, Stop, ask, poll_replies, push};
use super::body::{BodyError, HeldBody};
use super::chain::{AgentRole, BodyMode, Chain, ChainAgent, CodingMode};
use super::coding::{BodyDecoder, CodingError, DecodeLimits, content_coding};
use super::message::Message;
use super::on_way::{ChunksOnWay, OnWay};
use super::rejection::Rejection;
use super::verdict::Changes;
use crate::pool::Exchange;
use crate::protocol::events::{BodyChunk, RequestBodyChunk, ResponseBodyChunk};
use crate::protocol::{BodyMutation, EventType, HeaderOp};
use bytes::Bytes;
use http::HeaderMap;
use smallvec::SmallVec;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;

/// The way of one body through the agents: chunks go in by [`push`](Self::push), and what may go on
/// comes out of [`next`](Self::next), in the same order.
///
/// Several chunks may be on their way to the first agents that see the body. Agents after them get
/// a chunk when those before have let it go.
pub(super) struct BodyFlow {
    message: Message,
    /// Bytes of the body that were pushed.
    pub(super) received: usize,
    /// Bytes of the body as agents see it that were pushed.
    seen: usize,
    next_chunk: u32,
    /// Set once the last chunk has been pushed.
    is_ended: bool,
    on_way: ChunksOnWay,
    /// The stage that is asked first; the number of stages if no agent sees the body.
    first_stage: usize,
    /// Agents that asked for more and have not decided since, indexed like the exchanges.
    undecided: SmallVec<[bool; 4]>,
    mode: BodyMode,
    /// Chunks as agents see and change them.
    held: HeldBody,
    /// Chunks before they were decoded, if there is a decoder.
    originals: HeldBody,
    /// Number of held chunks that each stage after the first was asked about, indexed like the
    /// stages.
    shown: SmallVec<[usize; 2]>,
    /// Set if an agent that sees the body may change it.
    may_change: bool,
    is_changed: bool,
    passing: Option<Passing>,
    /// Set once something has gone on.
    is_streaming: bool,
}

/// Form in which a body goes on. It is chosen once: with the head, or with the first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passing {
    /// The bytes that came.
    Original,
    /// The bytes that agents saw, and may have changed.
    Rewritten {
        /// Length of the whole body, if it is known.
        length: Option<usize>,
    },
}

/// Bytes and header changes that may go on after a chunk was judged.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) data: Bytes,
    pub(super) is_last: bool,
    /// Set if bytes of the chunk or before it are held back.
    pub(super) is_held: bool,
    pub(super) request_headers: Vec<HeaderOp>,
    pub(super) response_headers: Vec<HeaderOp>,
    /// The agent that asked for the header changes.
    pub(super) agent: Option<Arc<str>>,
}

impl BodyFlow {
    pub(super) fn new(message: Message, chain: &Chain) -> Self {
        // The limit is that of what waits: see `release`.
        let held = || HeldBody::with_limit(usize::MAX).charged_to(&chain.pool);
        Self {
            message,
            received: 0,
            seen: 0,
            next_chunk: 0,
            is_ended: false,
            on_way: ChunksOnWay::new(message, &chain.pool),
            first_stage: usize::MAX,
            undecided: SmallVec::new(),
            mode: BodyMode::Stream,
            held: held(),
            originals: held(),
            shown: SmallVec::new(),
            may_change: false,
            is_changed: false,
            passing: None,
            is_streaming: false,
        }
    }

    /// Notes which agents see the body, and when it goes on. To be called before its first chunk.
    pub(super) fn watch(&mut self, chain: &Chain, exchanges: &[Exchange]) {
        let kind = self.message.event_type();
        self.undecided.resize(exchanges.len(), false);
        self.shown.resize(chain.stages.len(), 0);
        let sees = |stage: &Range<usize>| {
            let mut exchanges = exchanges[stage.clone()].iter();
            exchanges.any(|exchange| exchange.is_subscribed(kind))
        };
        let first = chain.stages.iter().position(sees);
        self.first_stage = first.unwrap_or(chain.stages.len());
        for agent in watching(chain, exchanges, kind) {
            self.may_change |= agent.role == AgentRole::Changes;
            self.mode = self.mode.max(match self.message {
                Message::Request => agent.request_body,
                Message::Response => agent.response_body,
            });
        }
    }

    /// Decides how the coding of a message with these headers is treated.
    pub(super) fn plan_coding(
        &mut self,
        chain: &Chain,
        exchanges: &[Exchange],
        headers: &HeaderMap,
    ) -> Result<(), Rejection> {
        let agents = watching(chain, exchanges, self.message.event_type());
        let mode = agents.map(|agent| agent.codings).max();
        let mode = mode.unwrap_or(CodingMode::Pass);
        if mode == CodingMode::Pass {
            return Ok(());
        }
        let coding = content_coding(headers).map_err(|error| self.message.coding_error(error))?;
        let Some(coding) = coding else {
            return Ok(());
        };
        if mode == CodingMode::Refuse {
            return Err(self.message.coding_error(CodingError::Unknown));
        }
        let limits = DecodeLimits {
            max_ratio: chain.config.max_decoding_ratio,
            max_size: chain.config.max_decoded_body,
        };
        self.on_way.decode_with(BodyDecoder::new(coding, limits));
        Ok(())
    }

    /// Returns when the body goes on; `None` if no agent sees it.
    pub(super) fn watched_mode(&self, chain: &Chain) -> Option<BodyMode> {
        self.is_watched(chain).then_some(self.mode)
    }

    /// Returns whether agents see the body.
    fn is_watched(&self, chain: &Chain) -> bool {
        self.first_stage < chain.stages.len()
    }

    /// Returns whether nothing may go on yet, not even the head in front of the body.
    pub(super) fn holds_head(&self) -> bool {
        !self.is_streaming && (self.mode != BodyMode::Stream || self.is_undecided())
    }

    /// Returns whether an agent has asked for more and has not decided since.
    pub(super) fn is_undecided(&self) -> bool {
        self.undecided.contains(&true)
    }

    /// Notes whether an agent has decided by its reply to the event before the body.
    pub(super) fn set_undecided(&mut self, at: usize, is_undecided: bool) {
        self.undecided[at] = is_undecided;
    }

    /// Returns the number of chunks on their way.
    pub(super) fn on_way(&self) -> usize {
        self.on_way.len()
    }

    /// Fixes the form in which the body goes on, as its head goes on now.
    fn passing(&mut self) -> Passing {
        let is_whole = self.is_ended && self.on_way.is_empty();
        let is_rewritten = if is_whole {
            self.is_changed
        } else {
            self.may_change
        };
        let passing = match is_rewritten {
            false => Passing::Original,
            true => Passing::Rewritten {
                length: is_whole.then(|| self.held.len()),
            },
        };
        *self.passing.get_or_insert(passing)
    }

    /// Returns the length that the rewritten body has, if it is known; `None` if the original goes
    /// on.
    pub(super) fn rewritten(&mut self) -> Option<Option<usize>> {
        match self.passing() {
            Passing::Original => None,
            Passing::Rewritten { length } => Some(length),
        }
    }

    /// Returns whether the body is decoded for agents.
    pub(super) fn is_decoded(&self) -> bool {
        self.on_way.are_decoded()
    }

    /// Sends a chunk on its way. An empty chunk after the last one is ignored.
    pub(super) async fn push(
        &mut self,
        chain: &Chain,
        exchanges: &mut [Exchange],
        id: &str,
        chunk: Bytes,
        is_last: bool,
    ) -> Result<(), Stop> {
        self.received += chunk.len();
        let is_repeated_end = self.is_ended && chunk.is_empty();
        self.is_ended |= is_last;
        let mut chunk = self
            .on_way
            .admit(&chain.pool, self.next_chunk, chunk, is_last)?;
        self.seen += chunk.data.len();
        let is_end_asked = is_last && (self.next_chunk > 0 || self.is_undecided());
        let is_asked =
            self.is_watched(chain) && !is_repeated_end && (!chunk.data.is_empty() || is_end_asked);
        if is_asked {
            self.next_chunk += 1;
            let event = self.event(id, &chunk);
            let stage = chain.stages[self.first_stage].clone();
            let is_asked =
                |at, exchange: &Exchange| self.is_asked(stage.start + at, exchange, &event);
            let exchanges = &mut exchanges[stage.clone()];
            chunk.replies = Some(match self.message {
                Message::Request => {
                    push(exchanges, &RequestBodyChunk(event.clone()), is_asked).await?
                }
                Message::Response => {
                    push(exchanges, &ResponseBodyChunk(event.clone()), is_asked).await?
                }
            });
        }
        self.on_way.push(chunk);
        Ok(())
    }

    fn event<'a>(&self, id: &'a str, chunk: &OnWay) -> BodyChunk<'a> {
        BodyChunk {
            correlation_id: id,
            data: chunk.data.clone(),
            is_last: chunk.is_last,
            total_size: None,
            chunk_index: chunk.index,
            bytes_so_far: self.seen,
        }
    }

    /// Returns whether an agent is asked about a chunk. The end of a body without bytes is only for
    /// those that asked for more.
    fn is_asked(&self, at: usize, exchange: &Exchange, chunk: &BodyChunk<'_>) -> bool {
        let is_empty_body = chunk.data.is_empty() && chunk.chunk_index == 0;
        exchange.is_subscribed(self.message.event_type()) && (!is_empty_body || self.undecided[at])
    }

    /// Waits for the replies of the first agents to the oldest chunk on its way. Loses nothing if
    /// it is dropped.
    pub(super) async fn replied(
        &mut self,
        chain: &Chain,
        exchanges: &mut [Exchange],
    ) -> Result<(), Stop> {
        let oldest = self.on_way.iter_mut().take(1);
        Self::settle(oldest, chain, self.first_stage, exchanges).await
    }

    /// Waits for the replies to all chunks on their way, so that answers to other events are not
    /// taken for them.
    pub(super) async fn all_replied(
        &mut self,
        chain: &Chain,
        exchanges: &mut [Exchange],
    ) -> Result<(), Stop> {
        Self::settle(self.on_way.iter_mut(), chain, self.first_stage, exchanges).await
    }

    async fn settle<'c>(
        chunks: impl Iterator<Item = &'c mut OnWay>,
        chain: &Chain,
        first_stage: usize,
        exchanges: &mut [Exchange],
    ) -> Result<(), Stop> {
        for replies in chunks.filter_map(|chunk| chunk.replies.as_mut()) {
            let exchanges = &mut exchanges[chain.stages[first_stage].clone()];
            poll_fn(|cx| poll_replies(exchanges, replies, cx)).await?;
        }
        Ok(())
    }

    /// Returns what may go on after the oldest chunk on its way, whose [`replied`](Self::replied)
    /// has ended.
    pub(super) async fn next(
        &mut self,
        chain: &Chain,
        exchanges: &mut [Exchange],
        id: &str,
    ) -> Result<Judged, Stop> {
        // What stays is charged as held.
        let Some(chunk) = self.on_way.pop()? else {
            return Ok(Judged::default());
        };
        let mut judged = Judged {
            is_last: chunk.is_last,
            ..Judged::default()
        };
        let index = chunk.index;
        let body_error = |message: Message| move |error| message.body_error(error);
        if self.is_decoded() {
            let original = chunk.original.clone();
            self.originals
                .keep(index, original)
                .map_err(body_error(self.message))?;
        }
        if chunk.replies.is_some() || !chunk.data.is_empty() {
            let data = chunk.data.clone();
            self.held
                .keep(index, data)
                .map_err(body_error(self.message))?;
        }
        if let Some(replies) = chunk.replies {
            let stage = self.first_stage;
            self.apply(chain, stage, replies, &mut judged)?;
            if judged.is_last {
                self.check_decided(chain, stage)?;
            }
            for stage in stage + 1..chain.stages.len() {
                if self.is_stage_undecided(chain, stage - 1) {
                    break;
                }
                self.show(chain, stage, exchanges, id, &mut judged).await?;
            }
        }
        self.release(chain, &mut judged)?;
        Ok(judged)
    }

    /// Asks a stage after the first about the chunks that those before it have let go.
    async fn show(
        &mut self,
        chain: &Chain,
        stage: usize,
        exchanges: &mut [Exchange],
        id: &str,
        judged: &mut Judged,
    ) -> Result<(), Stop> {
        let agents = chain.stages[stage].clone();
        while let Some((index, data)) = self.held.chunk(self.shown[stage]) {
            let is_last = judged.is_last && self.held.chunk(self.shown[stage] + 1).is_none();
            let shown = OnWay {
                index,
                data: data.clone(),
                original: Bytes::new(),
                is_last,
                replies: None,
            };
            self.shown[stage] += 1;
            if shown.data.is_empty() && !is_last {
                continue;
            }
            let event = self.event(id, &shown);
            let is_asked =
                |at, exchange: &Exchange| self.is_asked(agents.start + at, exchange, &event);
            let exchanges = &mut exchanges[agents.clone()];
            let replies = match self.message {
                Message::Request => {
                    ask(exchanges, &RequestBodyChunk(event.clone()), is_asked).await?
                }
                Message::Response => {
                    ask(exchanges, &ResponseBodyChunk(event.clone()), is_asked).await?
                }
            };
            self.apply(chain, stage, replies, judged)?;
            if is_last {
                self.check_decided(chain, stage)?;
            }
        }
        Ok(())
    }

    fn is_stage_undecided(&self, chain: &Chain, stage: usize) -> bool {
        self.undecided[chain.stages[stage].clone()].contains(&true)
    }

    /// Rejects the message if an agent of a stage is undecided after the last chunk.
    fn check_decided(&self, chain: &Chain, stage: usize) -> Result<(), Rejection> {
        let mut agents = chain.stages[stage].clone();
        match agents.find(|at| self.undecided[*at]) {
            Some(at) => Err(Rejection::Undecided(chain.agents[at].agent.shared_id())),
            None => Ok(()),
        }
    }

    /// Applies the replies of one stage.
    fn apply(
        &mut self,
        chain: &Chain,
        stage: usize,
        replies: Replies,
        judged: &mut Judged,
    ) -> Result<(), Rejection> {
        for (at, reply) in chain.stages[stage].clone().zip(replies) {
            let Reply::Allowed(changes) = reply else {
                continue;
            };
            let agent = &chain.agents[at];
            self.undecided[at] = changes.needs_more;
            self.change(agent, stage, &changes)?;
            if !changes.request_headers.is_empty() || !changes.response_headers.is_empty() {
                judged.agent = Some(agent.agent.shared_id());
            }
            judged.request_headers.extend(changes.request_headers);
            judged.response_headers.extend(changes.response_headers);
        }
        Ok(())
    }

    fn change(
        &mut self,
        agent: &ChainAgent,
        stage: usize,
        changes: &Changes,
    ) -> Result<(), Rejection> {
        let mutations = match self.message {
            Message::Request => &changes.request_body,
            Message::Response => &changes.response_body,
        };
        if mutations.iter().all(BodyMutation::is_pass_through) {
            return Ok(());
        }
        if agent.role == AgentRole::Decides {
            return Err(Rejection::NotAllowedToChange(agent.agent.shared_id()));
        }
        // Later agents have judged what this one had let go.
        let shown = self.shown.iter().skip(stage + 1).max();
        let shown = shown.copied().unwrap_or_default();
        for mutation in mutations.iter().filter(|change| !change.is_pass_through()) {
            let index = mutation.chunk_index;
            if self.held.position(index).is_some_and(|at| at < shown) {
                return Err(self.message.body_error(BodyError::NoSuchChunk { index }));
            }
        }
        self.is_changed = true;
        let changed = self.held.change(mutations);
        changed.map_err(|error| self.message.body_error(error))
    }

    /// Lets go what agents have allowed, as far as the mode permits.
    fn release(&mut self, chain: &Chain, judged: &mut Judged) -> Result<(), Rejection> {
        let limit = chain.config.max_held_body;
        let waits = match self.mode {
            _ if judged.is_last => false,
            _ if self.is_undecided() => true,
            // These bytes belong to decoded ones that are still to come, and to be judged.
            _ if self.is_decoded() && self.held.is_empty() => true,
            _ if self.is_streaming => false,
            BodyMode::Stream => false,
            BodyMode::Hybrid(size) => self.held.len() < size.min(limit),
            BodyMode::Buffer | BodyMode::InspectFirst => true,
        };
        let is_held = waits || self.mode >= BodyMode::Buffer;
        if is_held && self.held.len().max(self.originals.len()) > limit {
            return Err(self.message.body_error(BodyError::TooLarge { limit }));
        }
        if waits {
            judged.is_held = true;
            return Ok(());
        }
        self.is_streaming = true;
        self.shown.fill(0);
        judged.data = match self.passing() {
            Passing::Original if self.is_decoded() => {
                self.held.release();
                self.originals.release()
            }
            _ => {
                self.originals.release();
                self.held.release()
            }
        };
        Ok(())
    }
}

/// Returns the agents that see bodies of this kind.
fn watching<'a>(
    chain: &'a Chain,
    exchanges: &'a [Exchange],
    kind: EventType,
) -> impl Iterator<Item = &'a ChainAgent> {
    let agents = chain.agents.iter().zip(exchanges);
    agents
        .filter(move |(_, exchange)| exchange.is_subscribed(kind))
        .map(|(agent, _)| agent)
}
