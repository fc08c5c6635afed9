use super::column::{Column, Maker};
use super::reason::Reason;
use super::row::Subject;
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
    /// The worse of two: the second only counts if the first is good.
    pub(super) fn and(self, other: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Works => other(),
            bad => bad,
        }
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Works | Self::WorksByHand => "✓",
            Self::TimedOut => "times out",
            Self::Allowed => "**allowed**",
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
    use crate::matrix::Extension;
    use crate::peer::Version;
    use tollgate::Encoding;

    const PUBLISHED: Maker = Maker::Published(Version::V0_6_45);

    fn is_ours(
        proxy: Maker,
        agent: Maker,
        outcome: Outcome,
        step: &'static [&'static str],
    ) -> bool {
        let column = Column {
            proxy,
            agent,
            encoding: Encoding::MessagePack,
            extension: Extension::Offered,
        };
        Cell::new(outcome, &Subject::Event(step), &column).is_our_fault(&column)
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
