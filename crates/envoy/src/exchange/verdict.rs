//! Applies what an answer says beside the body: its decision, header changes and metadata.

use super::{Exchange, Stop};
use crate::agent::Warning;
use crate::fold::Refused;
use crate::side::Side;
use http::StatusCode;
use tollgate::proxy::{answer_of, apply_header_ops, plain_answer};
use tollgate::response::BodyMutation;
use tollgate::{AgentResponse, Decision};

/// Headers that an answer can still change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Changeable {
    Head,
    Nothing,
}

impl Exchange<'_> {
    /// Takes the decision, the header changes and the metadata out of an answer to an event of
    /// `side`. Returns the change to its body.
    pub(super) fn absorb(
        &mut self,
        side: Side,
        answer: &mut AgentResponse,
        changeable: Changeable,
    ) -> Result<Option<BodyMutation>, Stop> {
        self.metadata.absorb(answer);
        if answer.decision != Decision::Allow {
            return self.deny(answer).map(|()| None);
        }
        let (own, other) = match side {
            Side::Request => (
                answer.request_body_mutation.take(),
                answer.response_body_mutation.take(),
            ),
            Side::Response => (
                answer.response_body_mutation.take(),
                answer.request_body_mutation.take(),
            ),
        };
        if other.is_some_and(|mutation| !mutation.is_pass_through()) {
            return Err(self.impossible("the body of the other message"));
        }
        self.absorb_ops(side, answer, changeable)?;
        Ok(own.filter(|mutation| !mutation.is_pass_through()))
    }

    fn absorb_ops(
        &mut self,
        side: Side,
        answer: &mut AgentResponse,
        changeable: Changeable,
    ) -> Result<(), Stop> {
        let host = self.agent.config().host;
        let can_change = changeable == Changeable::Head;
        if !answer.request_headers.is_empty() {
            if side == Side::Response || !can_change {
                return Err(self.impossible("request headers that have gone on"));
            }
            let added = self.request.fold.add_ops(&answer.request_headers, host);
            added.map_err(|refused| self.refuse_change(&refused))?;
        }
        if !answer.response_headers.is_empty() {
            let is_early = side == Side::Request && !self.response.has_head;
            let is_in_time = is_early || (side == Side::Response && can_change);
            if !is_in_time {
                return Err(self.impossible("response headers that have gone on"));
            }
            let added = self.response.fold.add_ops(&answer.response_headers, host);
            added.map_err(|refused| self.refuse_change(&refused))?;
            self.early_ops.append(&mut answer.response_headers);
        }
        Ok(())
    }

    /// Ends the exchange with the response that a decision gives the client.
    fn deny(&mut self, answer: &AgentResponse) -> Result<(), Stop> {
        let counters = self.agent.counters();
        if self.observes {
            counters.observed_denials.add_one();
            // Nothing of the rest would have been seen.
            self.request.is_unasked = true;
            self.response.is_unasked = true;
            return Ok(());
        }
        counters.denials.add_one();
        if self.response.has_gone_on {
            counters.late_denials.add_one();
        }
        self.is_denied = true;
        let response = denial(answer, &self.early_ops);
        Err(Stop::Denied(Box::new(response)))
    }

    /// Fails the exchange because of a change that has no effect in this phase.
    pub(super) fn impossible(&self, what: &str) -> Stop {
        self.agent.counters().refused_changes.add_one();
        tracing::debug!("the agent changes {what}, so the request fails");
        self.agent.warn_once(Warning::ImpossibleChange);
        Stop::Failed(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn refuse_change(&self, refused: &Refused) -> Stop {
        self.agent.counters().refused_changes.add_one();
        tracing::debug!(%refused, "a change of the agent is not possible, so the request fails");
        self.agent.warn_once(Warning::ImpossibleChange);
        Stop::Failed(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Fails the exchange because the agent has seen everything and has not decided.
    pub(super) fn undecided(&self) -> Stop {
        self.agent.counters().undecided.add_one();
        Stop::Failed(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Fails the exchange because of a body above a limit.
    pub(super) fn too_large(&self) -> Stop {
        self.agent.counters().too_large.add_one();
        Stop::Failed(StatusCode::PAYLOAD_TOO_LARGE)
    }
}

/// Returns the response that a decision gives the client, with the changes to its headers: those
/// that were asked for before, and those of the answer.
pub(crate) fn denial(
    answer: &AgentResponse,
    earlier: &[tollgate::HeaderOp],
) -> http::Response<bytes::Bytes> {
    let response = answer_of(&answer.decision);
    let mut response = response.unwrap_or_else(|| plain_answer(StatusCode::FORBIDDEN));
    for ops in [earlier, &answer.response_headers] {
        if let Err(error) = apply_header_ops(response.headers_mut(), ops) {
            tracing::debug!(%error, "header changes of a denial are ignored");
        }
    }
    response
}
