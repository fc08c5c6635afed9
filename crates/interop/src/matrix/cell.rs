use super::column::{Column, Implementation};
use super::reason::Reason;
use super::row::Subject;
use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};

/// Outcome of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The message and its answer arrived as they were sent.
    Works,
    /// Like [`Outcome::Works`], but with a raw agent, because the agent cannot send this message.
    WorksWithRawAgent,
    /// No answer arrived.
    TimedOut,
    /// The proxy received `allow`, and the agent's handler did not receive the event.
    Allowed,
    /// Event and answer arrived except for these fields.
    AllBut(Vec<&'static str>),
    /// The agent's handler received something else than was sent.
    Misread,
    /// The proxy received another answer than the agent's.
    WrongAnswer,
    /// The call failed.
    Failed(String),
    /// The message arrives and has no effect.
    Ignored,
    /// The message arrives and is not reported to the handler or the caller.
    NotReported,
    /// The agent ends the connection.
    Ended,
    /// The message or the field does not arrive.
    Lost,
    /// This side cannot send the message.
    CannotSend,
}

/// Outcome of a message and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Outcome of the message.
    pub outcome: Outcome,
    /// Reason, if the outcome has a known one.
    pub reason: Option<Reason>,
}

impl Cell {
    pub(super) fn new(outcome: Outcome, subject: &Subject, column: &Column) -> Self {
        let reason = Reason::of(&outcome, subject, column);
        Self { outcome, reason }
    }

    /// Returns whether the message has its full effect.
    pub const fn works(&self) -> bool {
        matches!(self.outcome, Outcome::Works | Outcome::WorksWithRawAgent)
    }

    /// Returns whether a failure is caused by tollgate, or has no known reason.
    pub fn is_caused_by_tollgate(&self, column: &Column) -> bool {
        if self.works() {
            return false;
        }
        let is_involved = [column.proxy, column.agent].contains(&Implementation::Tollgate);
        is_involved
            && self
                .reason
                .is_none_or(|reason| reason.responsible(column) == Some(Implementation::Tollgate))
    }
}

impl Outcome {
    /// Returns the worse of two outcomes. The second one is evaluated only if the first one works,
    /// at least in part.
    pub(super) fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Works => other(),
            Self::AllBut(fields) => match other() {
                Self::Works => Self::AllBut(fields),
                Self::AllBut(others) => Self::AllBut(union(fields, others)),
                bad => bad,
            },
            bad => bad,
        }
    }

    /// Returns [`Outcome::AllBut`] these fields, or [`Outcome::Works`] if there are none.
    pub(super) fn without(fields: Vec<&'static str>) -> Self {
        match fields.is_empty() {
            true => Self::Works,
            false => Self::AllBut(fields),
        }
    }
}

fn union(mut fields: Vec<&'static str>, others: Vec<&'static str>) -> Vec<&'static str> {
    fields.extend(others);
    let mut seen = BTreeSet::new();
    fields.retain(|field| seen.insert(*field));
    fields
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Works | Self::WorksWithRawAgent => "✓",
            Self::TimedOut => "times out",
            Self::Allowed => "**allowed**",
            Self::AllBut(fields) => return write!(f, "all but `{}`", fields.join("`, `")),
            Self::Misread => "misread",
            Self::WrongAnswer => "wrong answer",
            Self::Failed(error) => return write!(f, "fails: {error}"),
            Self::Ignored => "ignored",
            Self::NotReported => "not reported",
            Self::Ended => "ends the stream",
            Self::Lost => "lost",
            Self::CannotSend => "–",
        })
    }
}

impl Display for Cell {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.outcome.fmt(f)?;
        match self.reason {
            Some(reason) => write!(f, " {}", reason.letter()),
            None if self.works() => Ok(()),
            None => f.write_str(" ?"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::{Extension, Wire};
    use crate::peer::Version;

    const ZENTINEL: Implementation = Implementation::Peer(Version::V0_6_45);

    fn is_caused(
        proxy: Implementation,
        agent: Implementation,
        outcome: Outcome,
        step: &'static [&'static str],
    ) -> bool {
        let subject = Subject::Event(step);
        is_caused_over(Wire::MessagePack, (proxy, agent), outcome, subject)
    }

    fn is_caused_over(
        wire: Wire,
        (proxy, agent): (Implementation, Implementation),
        outcome: Outcome,
        subject: Subject,
    ) -> bool {
        let column = Column {
            proxy,
            agent,
            wire,
            extension: Extension::Offered,
        };
        Cell::new(outcome, &subject, &column).is_caused_by_tollgate(&column)
    }

    #[test]
    fn worst_of_several_outcomes_counts() {
        let without = |fields: &[&'static str]| Outcome::AllBut(fields.to_vec());
        let fin = || without(&["fin", "opcode"]);
        assert_eq!(Outcome::Works.and(fin), fin());
        assert_eq!(fin().and(|| Outcome::Works), fin());
        assert_eq!(fin().and(|| Outcome::TimedOut), Outcome::TimedOut);
        assert_eq!(Outcome::Misread.and(fin), Outcome::Misread);
        let both = fin().and(|| without(&["opcode", "route_id"]));
        assert_eq!(both, without(&["fin", "opcode", "route_id"]));
    }

    #[test]
    fn missing_zentinel_fields_are_not_caused_by_tollgate() {
        let headers = Subject::Event(&["request_headers:/allow"]);
        let routing = Subject::Answer("request_headers:/routing", "/routing_metadata");
        let confidence = Subject::Answer("request_headers:/audit", "/audit/confidence");
        let in_part = || Outcome::AllBut(vec!["timestamp"]);
        for between in [
            (Implementation::Tollgate, ZENTINEL),
            (ZENTINEL, Implementation::Tollgate),
        ] {
            let is_caused =
                |outcome, subject| is_caused_over(Wire::Grpc, between, outcome, subject);
            assert!(!is_caused(in_part(), headers));
            assert!(!is_caused(Outcome::Lost, routing));
            assert!(is_caused(Outcome::Lost, headers));
            assert!(is_caused(Outcome::Lost, confidence));
            assert!(is_caused_over(Wire::Json, between, in_part(), headers));
            assert!(is_caused_over(Wire::Json, between, Outcome::Lost, routing));
        }
        let ours = (Implementation::Tollgate, Implementation::Tollgate);
        assert!(is_caused_over(Wire::Grpc, ours, in_part(), headers));
        assert!(is_caused_over(Wire::Grpc, ours, Outcome::Lost, routing));
    }

    #[test]
    fn known_failures_of_peers_are_not_caused_by_tollgate() {
        let guardrail = &["guardrail_inspect"];
        assert!(!is_caused(
            Implementation::Tollgate,
            ZENTINEL,
            Outcome::TimedOut,
            guardrail
        ));
        assert!(is_caused(
            ZENTINEL,
            Implementation::Tollgate,
            Outcome::TimedOut,
            guardrail
        ));
    }

    #[test]
    fn unexplained_failures_are_attributed_to_tollgate() {
        let headers = &["request_headers:/allow"];
        assert!(is_caused(
            Implementation::Tollgate,
            ZENTINEL,
            Outcome::TimedOut,
            headers
        ));
        assert!(is_caused(
            Implementation::Tollgate,
            ZENTINEL,
            Outcome::Allowed,
            headers
        ));
        assert!(is_caused(
            ZENTINEL,
            Implementation::Tollgate,
            Outcome::Misread,
            headers
        ));
        assert!(!is_caused(ZENTINEL, ZENTINEL, Outcome::TimedOut, headers));
        assert!(!is_caused(
            ZENTINEL,
            Implementation::Tollgate,
            Outcome::Works,
            headers
        ));
    }
}
