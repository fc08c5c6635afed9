/// Why a call was not opened. Nothing of it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Every slot is taken.
    Full,
    /// The agent asked for a pause.
    Paused,
    /// The agent asked for a pause of this exchange.
    ExchangePaused,
    /// An earlier event of the exchange is unanswered, and its answer could not be told from another.
    Busy,
    /// The connection is over.
    Closed,
    /// No agent has this name.
    UnknownAgent,
    /// No connection takes new exchanges.
    Unavailable,
    /// The circuit breaker lets nothing through.
    CircuitOpen,
    /// Too many calls wait for a slot.
    QueueFull,
    /// The call waited for a slot for too long.
    QueueTimedOut,
    /// The deadline passed.
    TimedOut,
    /// The agent did not ask for events of this kind.
    Unsubscribed,
}

impl Refusal {
    /// Whether waiting, or trying again at once, is of no use.
    pub(crate) fn is_final(self) -> bool {
        !matches!(
            self,
            Self::Full | Self::Paused | Self::ExchangePaused | Self::Closed
        )
    }
}
