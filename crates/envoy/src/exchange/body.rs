//! Bodies and trailers, in every mode.

use super::verdict::Changeable;
use super::{Exchange, Stop};
use crate::side::Side;
use crate::wire::{Answer, Body, BodyMode, HeadChange};
use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;
use tollgate::proxy::{BodyError, HeldBody};
use tollgate::response::BodyMutation;
use tollgate::{BodyChunk, RequestBodyChunk, ResponseBodyChunk};

/// Longest part of a body in one answer, in bytes.
const MAX_PART: usize = 64 * 1024;

/// Change of the handler to a chunk.
struct Judged {
    mutation: Option<BodyMutation>,
    index: u32,
}

impl Exchange<'_> {
    pub(super) async fn on_body(
        &mut self,
        side: Side,
        data: Bytes,
        end_of_stream: bool,
    ) -> Result<(), Stop> {
        let max_body = self.agent.max_body;
        let observes = self.observes;
        let direction = self.direction(side);
        if direction.has_ended && !(data.is_empty() || direction.is_unasked) {
            return Err(self.out_of_order());
        }
        if observes {
            // Nothing is answered, so the mode does not matter, and Envoy does not say it.
            direction.mode = Some(BodyMode::Streamed);
        }
        let Some(mode) = direction.mode else {
            return Err(self.impossible("nothing, but Envoy does not say the mode of its bodies"));
        };
        direction.bytes = direction.bytes.saturating_add(data.len());
        let is_last = direction.ends_with(end_of_stream);
        direction.has_ended |= is_last;
        if !direction.is_unasked && direction.bytes > max_body {
            return Err(self.too_large());
        }
        let is_asked = direction.is_asked_about(&data, is_last);
        match mode {
            BodyMode::FullDuplex if is_asked => self.judge_duplex(side, data, is_last).await,
            BodyMode::FullDuplex if data.is_empty() && !is_last => Ok(()),
            BodyMode::FullDuplex => self.pass_on(side, data, is_last).await,
            BodyMode::None | BodyMode::Unknown => {
                Err(self.impossible("nothing, but Envoy sends a body in a mode without answers"))
            }
            _ if !is_asked => {
                self.answer_chunk(side, Body::Unchanged, Bytes::new(), None)
                    .await
            }
            BodyMode::Buffered => self.judge_whole(side, data).await,
            BodyMode::Streamed | BodyMode::BufferedPartial => {
                self.judge_chunk(side, data, is_last).await
            }
        }
    }

    /// Asks the handler about a chunk.
    async fn judge(
        &mut self,
        side: Side,
        data: &Bytes,
        is_last: bool,
        changeable: Changeable,
    ) -> Result<Judged, Stop> {
        let id = self.id;
        let direction = self.direction(side);
        let index = direction.chunks;
        direction.chunks = direction.chunks.saturating_add(1);
        let event = BodyChunk {
            correlation_id: id.as_str(),
            data: data.clone(),
            is_last,
            total_size: direction.length,
            chunk_index: index,
            bytes_so_far: direction.bytes,
        };
        let mut answer = match side {
            Side::Request => self.ask(&RequestBodyChunk(event)).await?,
            Side::Response => self.ask(&ResponseBodyChunk(event)).await?,
        };
        let mutation = self.absorb(side, &mut answer, changeable)?;
        self.direction(side).is_undecided = answer.needs_more;
        Ok(Judged { mutation, index })
    }

    /// Judges a chunk that goes on at once.
    async fn judge_chunk(&mut self, side: Side, data: Bytes, is_last: bool) -> Result<(), Stop> {
        let may_be_partial = self.agent.config().allows_partial_bodies;
        let is_partial = !is_last && self.direction(side).mode == Some(BodyMode::BufferedPartial);
        if is_partial && !may_be_partial {
            // The rest is never shown.
            return Err(self.too_large());
        }
        let judged = self
            .judge(side, &data, is_last, Changeable::Nothing)
            .await?;
        if is_last && self.direction(side).is_undecided {
            return Err(self.undecided());
        }
        let (body, content) = self.replacement(judged)?;
        self.answer_chunk(side, body, content, None).await
    }

    /// Judges a body that is there as a whole, with its head still to change. There is no more to
    /// ask for.
    async fn judge_whole(&mut self, side: Side, data: Bytes) -> Result<(), Stop> {
        let judged = self.judge(side, &data, true, Changeable::Head).await?;
        let (body, content) = self.replacement(judged)?;
        let direction = self.direction(side);
        let mut change = direction.fold.take();
        if body != Body::Unchanged && direction.length.is_some() {
            change.content_length = Some(content.len());
        }
        self.answer_chunk(side, body, content, Some(change)).await
    }

    /// Returns the content with which a chunk is answered.
    fn replacement(&self, judged: Judged) -> Result<(Body, Bytes), Stop> {
        match judged.mutation {
            None => Ok((Body::Unchanged, Bytes::new())),
            Some(mutation) if mutation.chunk_index != judged.index => {
                Err(self.impossible("a chunk that has gone on"))
            }
            Some(mutation) => Ok(match mutation.data {
                None => (Body::Unchanged, Bytes::new()),
                Some(data) if data.is_empty() => (Body::Cleared, data),
                Some(data) => (Body::Replaced(data.len()), data),
            }),
        }
    }

    /// Answers a chunk in a mode where each is answered.
    async fn answer_chunk(
        &mut self,
        side: Side,
        body: Body,
        content: Bytes,
        change: Option<HeadChange>,
    ) -> Result<(), Stop> {
        self.direction(side).has_gone_on = true;
        let metadata = std::mem::take(&mut self.metadata);
        let answer = Answer {
            side,
            change: change.as_ref().filter(|change| !change.is_empty()),
            metadata: (!metadata.is_empty()).then_some(&metadata),
            mode_override: None,
        };
        let frame = answer.body(body, &mut self.stream.out);
        self.send(frame, content).await
    }

    /// Judges a chunk that can be held.
    async fn judge_duplex(&mut self, side: Side, data: Bytes, is_last: bool) -> Result<(), Stop> {
        let changeable = match self.direction(side).holds_head {
            true => Changeable::Head,
            false => Changeable::Nothing,
        };
        let judged = self.judge(side, &data, is_last, changeable).await?;
        self.hold(side, judged.index, data)?;
        if let Some(mutation) = &judged.mutation {
            self.change_held(side, mutation)?;
        }
        let hold_until = Instant::now() + self.agent.config().hold_timeout;
        let direction = self.direction(side);
        if !direction.is_undecided {
            return self.release(side, is_last).await;
        }
        if is_last {
            return Err(self.undecided());
        }
        direction.held_until.get_or_insert(hold_until);
        Ok(())
    }

    fn hold(&mut self, side: Side, index: u32, data: Bytes) -> Result<(), Stop> {
        let (agent, limit) = (self.agent, self.agent.config().max_held);
        let held = self.direction(side).held.get_or_insert_with(|| {
            let charge = agent.session.memory_charge();
            Box::new(HeldBody::with_limit(limit).with_charge(charge))
        });
        match held.keep(index, data) {
            Ok(()) => Ok(()),
            Err(BodyError::TooLarge { .. }) => Err(self.too_large()),
            Err(_) => Err(self.over_memory()),
        }
    }

    fn over_memory(&self) -> Stop {
        self.agent.counters().refused.add_one();
        Stop::Failed(StatusCode::SERVICE_UNAVAILABLE)
    }

    fn change_held(&mut self, side: Side, mutation: &BodyMutation) -> Result<(), Stop> {
        let Some(held) = &mut self.direction(side).held else {
            return Ok(());
        };
        match held.change([mutation]) {
            Ok(()) => Ok(()),
            Err(BodyError::NoSuchChunk { .. }) => Err(self.impossible("a chunk that has gone on")),
            Err(_) => Err(self.over_memory()),
        }
    }

    /// Lets a head and chunks go on that were held.
    async fn release(&mut self, side: Side, is_last: bool) -> Result<(), Stop> {
        let held = self.direction(side).held.take();
        let data = held.map(|mut held| held.release()).unwrap_or_default();
        self.pass_on(side, data, is_last).await
    }

    /// Sends a part of a body on in full duplex, after its head.
    async fn pass_on(&mut self, side: Side, mut data: Bytes, is_last: bool) -> Result<(), Stop> {
        self.direction(side).held_until = None;
        if self.direction(side).holds_head {
            self.answer_head(side).await?;
        }
        // What is still to be sent is charged as when it was held.
        let mut rest = (data.len() > MAX_PART).then(|| self.agent.session.memory_charge());
        loop {
            let part = data.split_to(data.len().min(MAX_PART));
            let is_end = is_last && data.is_empty();
            if part.is_empty() && !is_end {
                return Ok(());
            }
            if rest.as_mut().is_some_and(|rest| !rest.resize(data.len())) {
                return Err(self.over_memory());
            }
            let streamed = Body::Streamed {
                len: part.len(),
                is_last: is_end,
            };
            self.answer_chunk(side, streamed, part, None).await?;
            if data.is_empty() {
                return Ok(());
            }
        }
    }

    pub(super) async fn on_trailers(&mut self, side: Side) -> Result<(), Stop> {
        let direction = self.direction(side);
        let had_ended = std::mem::replace(&mut direction.has_ended, true);
        let is_asked = !had_ended && direction.is_asked_about(&Bytes::new(), true);
        match direction.mode {
            Some(BodyMode::Streamed | BodyMode::Buffered | BodyMode::BufferedPartial)
                if is_asked =>
            {
                self.judge_last(side).await?;
            }
            Some(BodyMode::FullDuplex) if is_asked => self.judge_duplex_end(side).await?,
            Some(BodyMode::FullDuplex) => self.release(side, false).await?,
            _ => {}
        }
        let change = HeadChange::default();
        self.answer(side, &change, None, |answer, out| answer.trailers(out))
            .await
    }

    /// Shows the handler the end of a streamed body that trailers end. Nothing can be added to the
    /// body any more.
    async fn judge_last(&mut self, side: Side) -> Result<(), Stop> {
        let judged = self
            .judge(side, &Bytes::new(), true, Changeable::Nothing)
            .await?;
        if self.direction(side).is_undecided {
            return Err(self.undecided());
        }
        match self.replacement(judged)? {
            (Body::Replaced(_), _) => Err(self.impossible("the end of a body, before trailers")),
            _ => Ok(()),
        }
    }

    /// Shows the handler the end of a body that trailers end, and lets what was held go on.
    async fn judge_duplex_end(&mut self, side: Side) -> Result<(), Stop> {
        let changeable = match self.direction(side).holds_head {
            true => Changeable::Head,
            false => Changeable::Nothing,
        };
        let judged = self.judge(side, &Bytes::new(), true, changeable).await?;
        if self.direction(side).is_undecided {
            return Err(self.undecided());
        }
        self.hold(side, judged.index, Bytes::new())?;
        if let Some(mutation) = &judged.mutation {
            self.change_held(side, mutation)?;
        }
        self.release(side, false).await
    }

    /// Shows the handler that no body follows a head about which it has not decided.
    pub(super) async fn judge_end(&mut self, side: Side) -> Result<(), Stop> {
        let judged = self
            .judge(side, &Bytes::new(), true, Changeable::Head)
            .await?;
        if self.direction(side).is_undecided {
            return Err(self.undecided());
        }
        if judged.mutation.is_some_and(|mutation| !mutation.is_drop()) {
            return Err(self.impossible("a message without a body"));
        }
        self.answer_head(side).await
    }

    /// Ends a hold that has lasted too long. A head about which the handler has decided goes on,
    /// since its body has not begun.
    pub(super) async fn end_hold(&mut self) -> Result<(), Stop> {
        let now = Instant::now();
        for side in [Side::Request, Side::Response] {
            let direction = self.direction(side);
            if direction.held_until.is_none_or(|until| until > now) {
                continue;
            }
            direction.held_until = None;
            if direction.is_undecided || direction.held.is_some() {
                self.agent.counters().timeouts.add_one();
                return Err(Stop::Failed(StatusCode::GATEWAY_TIMEOUT));
            }
            self.answer_head(side).await?;
        }
        Ok(())
    }
}
