//! The server of an agent on a Unix socket.

use super::server::{AgentHandlerV2, builder};
use crate::AgentProtocolError;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Serves an agent on a Unix socket.
///
/// The socket file has the mode that the umask leaves. Whatever lies at the path is replaced at one
/// stroke, the socket of another server included: that server, if it is one of this crate, answers
/// what it has begun and ends, and proxies connect to the new one. So an agent is restarted without
/// a gap by starting the new process first.
pub struct UdsAgentServerV2 {
    id: String,
    socket_path: PathBuf,
    handler: Arc<dyn AgentHandlerV2>,
}

impl UdsAgentServerV2 {
    /// Creates a server that does not listen yet.
    pub fn new(
        id: impl Into<String>,
        socket_path: impl Into<PathBuf>,
        handler: Box<dyn AgentHandlerV2>,
    ) -> Self {
        Self {
            id: id.into(),
            socket_path: socket_path.into(),
            handler: handler.into(),
        }
    }

    /// Listens and serves until the returned future is dropped or another server has taken over the
    /// socket file. The file is removed then, unless another one has taken its place.
    ///
    /// # Errors
    ///
    /// [`Io`](AgentProtocolError::Io) if the socket cannot be created, or
    /// [`ConnectionFailed`](AgentProtocolError::ConnectionFailed) if the path is not UTF-8.
    pub async fn run(&self) -> Result<(), AgentProtocolError> {
        let path = std::path::absolute(&self.socket_path)?;
        let path = path.to_str().ok_or_else(|| {
            AgentProtocolError::ConnectionFailed("the socket's path is not UTF-8".to_owned())
        })?;
        tracing::info!(agent = self.id, path, "serving an agent on a Unix socket");
        let server = builder(&self.handler)
            .listen(path)
            .socket_mode(0o777 & !umask())
            .take_over_socket_files();
        Ok(server.serve().await?)
    }
}

/// Returns the umask of the process: what the system says, which cannot be asked without setting
/// it, or else the usual one.
fn umask() -> u32 {
    const USUAL: u32 = 0o022;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|umask| u32::from_str_radix(umask.trim(), 8).ok())
        .unwrap_or(USUAL)
}

impl fmt::Debug for UdsAgentServerV2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdsAgentServerV2")
            .field("id", &self.id)
            .field("socket_path", &self.socket_path)
            .finish_non_exhaustive()
    }
}
