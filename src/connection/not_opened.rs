/// Reason for which a call was not opened. Nothing of it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotOpened {
    /// Every slot is taken.
    Full,
    /// The agent has paused the connection.
    Paused,
    /// The agent has paused this exchange.
    ExchangePaused,
    /// The answer to an earlier event of the exchange is missing and could not be told apart from
    /// the answer to this one.
    Busy,
    /// The connection is closed or, for a call that is not bound to it, retired.
    ///
    /// This ends a call that is bound to the connection. A call that can use any connection chooses
    /// again, from the pool's current snapshot.
    ClosedOrRetired,
    /// The pool no longer has the agent.
    AgentGone,
    /// No connection takes new exchanges.
    Unavailable,
    /// The circuit breaker is open.
    CircuitOpen,
    /// Too many calls wait for a slot.
    QueueFull,
    /// The call waited too long for a slot.
    QueueTimedOut,
    /// The call's deadline passed while it waited.
    TimedOut,
    /// The agent has not subscribed to events of this kind.
    Unsubscribed,
}
