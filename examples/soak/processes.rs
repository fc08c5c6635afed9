//! Starts the processes of a soak test, and interrupts them.

use crate::Failure;
use crate::clock::Clock;
use crate::common::addresses::Address;
use crate::common::process::{Process, command};
use crate::links::Link;
use crate::log::Log;
use std::path::Path;
use std::process::Command;

impl Process {
    /// Starts an agent. Returns once it listens or, if it dials, once it is connected.
    pub(crate) async fn agent(
        directory: &Path,
        id: &str,
        link: Link,
        address: &Address,
        log: Log,
    ) -> Result<Self, Failure> {
        let mut command = command(log.open(directory, id)?);
        command.arg("agent").arg(directory);
        command.args([link.name, id, &address.to_string()]);
        Clock::of(directory, id).apply_to(&mut command)?;
        Self::start(command, id).await
    }

    pub(crate) async fn faulty_agent(
        directory: &Path,
        id: &str,
        socket: &Path,
    ) -> Result<Self, Failure> {
        let mut command = command(Log::File.open(directory, id)?);
        command.arg("faulty-agent").arg(directory).arg(socket);
        Self::start(command, id).await
    }

    pub(crate) async fn relay(
        directory: &Path,
        id: &str,
        listen: &Address,
        target: &Address,
    ) -> Result<Self, Failure> {
        let mut command = command(Log::File.open(directory, &format!("{id}-relay"))?);
        command.arg("relay").arg(directory);
        command.args([listen.to_string(), target.to_string()]);
        Self::start(command, id).await
    }

    /// Sends SIGKILL and waits until the process has ended, so that its address is free.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    pub(crate) fn signal(&self, signal: &str) -> Result<(), Failure> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status()?;
        if sent.success() {
            return Ok(());
        }
        Err(format!("process {pid} cannot be sent SIG{signal}").into())
    }
}
