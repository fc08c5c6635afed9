use super::column::{Column, Maker};
use super::reason::Reason;
use super::row::Subject;
use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};

/// What came of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The other side understood what was sent, and what it answered came back.
    Works,
    /// As [`Outcome::Works`], but the other side was played by hand, as it cannot say this by itself.
    WorksByHand,
    /// No answer came.
    TimedOut,
    /// The proxy was told `allow`, and the agent's handler had not been given what was sent.
    Allowed,
    /// The agent's handler was given what was sent and the proxy what was answered, except for these fields.
    AllBut(Vec<&'static str>),
    /// The agent's handler was given something else than what was sent.
    Misread,
    /// The proxy was given another answer than the agent's.
    WrongAnswer,
    /// The call failed.
    Failed(String),
    /// It arrives, and nothing changes.
    Ignored,
    /// It arrives, and whoever should know is not told.
    Untold,
    /// It does not arrive.
    Lost,
    /// There is no way to send it.
    CannotSend,
}

/// What came of a message, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// What happened.
    pub outcome: Outcome,
    /// Why, if there is anything to explain.
    pub reason: Option<Reason>,
}

impl Cell {
    pub(super) fn new(outcome: Outcome, subject: &Subject, column: &Column) -> Self {
        let reason = Reason::of(&outcome, subject, column);
        Self { outcome, reason }
    }

    /// Whether the message does what it is for.
    pub const fn works(&self) -> bool {
        matches!(self.outcome, Outcome::Works | Outcome::WorksByHand)
    }

    /// Whether nobody knows why it does not work, or tollgate is why.
    pub fn is_our_fault(&self, column: &Column) -> bool {
        if self.works() {
            return false;
        }
        let is_involved = [column.proxy, column.agent].contains(&Maker::Tollgate);
        is_involved
            && self
                .reason
                .is_none_or(|reason| reason.culprit(column) == Some(Maker::Tollgate))
    }
}

impl Outcome {
    /// The worse of two: the second only counts if the first is good, at least in part.
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

    /// All but these fields, or everything.
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
            Self::Works | Self::WorksByHand => "✓",
            Self::TimedOut => "times out",
            Self::Allowed => "**allowed**",
            Self::AllBut(fields) => return write!(f, "all but `{}`", fields.join("`, `")),
            Self::Misread => "misread",
            Self::WrongAnswer => "wrong answer",
            Self::Failed(error) => return write!(f, "fails: {error}"),
            Self::Ignored => "ignored",
            Self::Untold => "not told",
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

    const PUBLISHED: Maker = Maker::Published(Version::V0_6_45);

    fn is_ours(
        proxy: Maker,
        agent: Maker,
        outcome: Outcome,
        step: &'static [&'static str],
    ) -> bool {
        let subject = Subject::Event(step);
        is_ours_over(Wire::MessagePack, (proxy, agent), outcome, subject)
    }

    fn is_ours_over(
        wire: Wire,
        (proxy, agent): (Maker, Maker),
        outcome: Outcome,
        subject: Subject,
    ) -> bool {
        let column = Column {
            proxy,
            agent,
            wire,
            extension: Extension::Offered,
        };
        Cell::new(outcome, &subject, &column).is_our_fault(&column)
    }

    #[test]
    fn the_worst_of_several_counts() {
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
    fn what_published_messages_have_no_place_for_is_not_our_fault() {
        let headers = Subject::Event(&["request_headers:/allow"]);
        let routing = Subject::Answer("request_headers:/routing", "/routing_metadata");
        let confidence = Subject::Answer("request_headers:/audit", "/audit/confidence");
        let in_part = || Outcome::AllBut(vec!["timestamp"]);
        for between in [(Maker::Tollgate, PUBLISHED), (PUBLISHED, Maker::Tollgate)] {
            let is_ours = |outcome, subject| is_ours_over(Wire::Grpc, between, outcome, subject);
            assert!(!is_ours(in_part(), headers));
            assert!(!is_ours(Outcome::Lost, routing));
            assert!(is_ours(Outcome::Lost, headers));
            assert!(is_ours(Outcome::Lost, confidence));
            assert!(is_ours_over(Wire::Json, between, in_part(), headers));
            assert!(is_ours_over(Wire::Json, between, Outcome::Lost, routing));
        }
        let ours = (Maker::Tollgate, Maker::Tollgate);
        assert!(is_ours_over(Wire::Grpc, ours, in_part(), headers));
        assert!(is_ours_over(Wire::Grpc, ours, Outcome::Lost, routing));
    }

    #[test]
    fn what_a_peer_is_known_for_is_not_our_fault() {
        let guardrail = &["guardrail_inspect"];
        assert!(!is_ours(
            Maker::Tollgate,
            PUBLISHED,
            Outcome::TimedOut,
            guardrail
        ));
        assert!(is_ours(
            PUBLISHED,
            Maker::Tollgate,
            Outcome::TimedOut,
            guardrail
        ));
    }

    #[test]
    fn what_nobody_can_explain_is_our_fault() {
        let headers = &["request_headers:/allow"];
        assert!(is_ours(
            Maker::Tollgate,
            PUBLISHED,
            Outcome::TimedOut,
            headers
        ));
        assert!(is_ours(
            Maker::Tollgate,
            PUBLISHED,
            Outcome::Allowed,
            headers
        ));
        assert!(is_ours(
            PUBLISHED,
            Maker::Tollgate,
            Outcome::Misread,
            headers
        ));
        assert!(!is_ours(PUBLISHED, PUBLISHED, Outcome::TimedOut, headers));
        assert!(!is_ours(
            PUBLISHED,
            Maker::Tollgate,
            Outcome::Works,
            headers
        ));
    }
}
