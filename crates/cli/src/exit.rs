//! Exit statuses, and the one-line message of a failure.

use crate::output::{OutputError, printable};
use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};
use std::process::ExitCode;
use tollgate::error::{AcceptError, BindError};
use tollgate::{AddError, CallError};

const FAILED: u8 = 1;
const USAGE: u8 = 2;

/// Returns the exit status of a command. Writes one line to stderr if the command failed.
pub(crate) fn conclude(outcome: anyhow::Result<()>) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    if is_closed_output(&error) {
        return ExitCode::SUCCESS;
    }
    let message = format!("{error:#}");
    // Ignored: a closed stderr leaves no place to report an error.
    let _ = writeln!(io::stderr(), "tollgate: {}", printable(&message));
    ExitCode::from(status(&error))
}

/// The agent could not be reached, failed, or rejected the connection or request.
#[derive(Debug)]
pub(crate) struct AgentFailure {
    endpoint: String,
    cause: String,
}

impl AgentFailure {
    /// Describes an error of the library about the agent at `endpoint`.
    pub(crate) fn of(endpoint: &str, error: &impl AgentError) -> Self {
        Self::new(endpoint, error.reason())
    }

    /// Describes a failure of the agent at `endpoint`.
    pub(crate) fn new(endpoint: &str, cause: impl Display) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            cause: cause.to_string(),
        }
    }
}

#[cfg(feature = "haproxy")]
impl AgentFailure {
    /// Returns the cause without the endpoint.
    pub(crate) fn cause(&self) -> &str {
        &self.cause
    }
}

/// An error of the library about the agent of a command.
pub(crate) trait AgentError {
    /// Returns the reason without the agent id. A command has one agent and identifies it by its
    /// endpoint.
    fn reason(&self) -> String;
}

impl AgentError for AddError {
    fn reason(&self) -> String {
        match self {
            Self::Connect { source, .. } => source.to_string(),
            Self::InvalidEndpoint(invalid) => invalid.reason().to_owned(),
            other => other.to_string(),
        }
    }
}

impl AgentError for BindError {
    fn reason(&self) -> String {
        match self {
            Self::InvalidEndpoint(invalid) => invalid.reason().to_owned(),
            Self::Listen { source, .. } => source.to_string(),
            other => other.to_string(),
        }
    }
}

impl AgentError for AcceptError {
    fn reason(&self) -> String {
        match self {
            Self::Listen { source, .. } => source.to_string(),
            other => other.to_string(),
        }
    }
}

impl AgentError for CallError {
    fn reason(&self) -> String {
        match self {
            Self::ConnectionClosed { .. } => "connection closed by the agent".to_owned(),
            Self::Timeout { after, .. } => format!("timed out after {after:?}"),
            Self::MessageTooLarge { size, max, .. } => {
                format!("a message of {size} bytes is too large; at most {max} bytes are allowed")
            }
            Self::InvalidMessage { source, .. } => format!("invalid answer: {source}"),
            Self::Unavailable { .. } => "all connections are closed".to_owned(),
            other => other.to_string(),
        }
    }
}

impl Display for AgentFailure {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.endpoint, self.cause)
    }
}

impl Error for AgentFailure {}

/// The command line cannot be carried out, for example because it names a missing file.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl Display for UsageError {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Error for UsageError {}

fn is_closed_output(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<OutputError>()
        .is_some_and(OutputError::is_closed)
}

fn status(error: &anyhow::Error) -> u8 {
    if error.is::<UsageError>() {
        USAGE
    } else {
        FAILED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn usage_and_agent_failures_have_different_statuses() {
        assert_eq!(status(&UsageError("no such file".into()).into()), USAGE);
        assert_eq!(status(&AgentFailure::new("/a", "timed out").into()), FAILED);
    }

    #[test]
    fn causes_omit_the_agent_id() {
        let timeout = CallError::Timeout {
            agent_id: "agent".into(),
            after: Duration::from_secs(5),
        };
        assert_eq!(timeout.reason(), "timed out after 5s");
    }

    #[test]
    fn failure_names_endpoint_and_cause() {
        let failure = AgentFailure::new("/run/waf.sock", "no such socket");
        assert_eq!(failure.to_string(), "/run/waf.sock: no such socket");
    }
}
