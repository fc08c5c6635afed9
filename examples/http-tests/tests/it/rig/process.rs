//! A proxy in a process of its own, whose memory tests can watch.

use super::LIMIT;
use super::agent::{AgentSpec, RunningAgent};
use super::proxy::{Kind, start};
use super::upstream::{Upstream, reply};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tollgate_example_settings::{AgentSettings, Settings};

/// Test that runs the proxy, if the process has these variables.
const TEST: &str = "memory::proxy_process";
const KIND: &str = "TOLLGATE_TEST_PROXY";
const UPSTREAM: &str = "TOLLGATE_TEST_UPSTREAM";
const FOLDER: &str = "TOLLGATE_TEST_FOLDER";

/// Name of the socket of the agent, and of the file for the address of the proxy.
const AGENT: &str = "agent";
const ADDRESS: &str = "address";

/// A proxy between an upstream and one agent, which both run in the process of the test.
pub(crate) struct ProxyProcess {
    pub(crate) address: SocketAddr,
    pub(crate) agent: RunningAgent,
    pub(crate) upstream: Upstream,
    child: Child,
    _folder: TempDir,
}

impl ProxyProcess {
    pub(crate) async fn start(kind: Kind, spec: &AgentSpec) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let upstream = Upstream::start(reply(ok)).await?;
        let agent = RunningAgent::start(spec, &folder.path().join(AGENT)).await?;
        let child = Command::new(std::env::current_exe()?)
            .args(["--exact", TEST, "--ignored"])
            .env(KIND, format!("{kind:?}"))
            .env(UPSTREAM, upstream.address.to_string())
            .env(FOLDER, folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let address = tokio::time::timeout(LIMIT, address(folder.path())).await?;
        Ok(Self {
            address,
            agent,
            upstream,
            child,
            _folder: folder,
        })
    }

    /// Returns the greatest resident memory so far, in bytes.
    pub(crate) fn peak(&self) -> usize {
        let id = self.child.id().expect("the proxy runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<usize>().unwrap() * 1024
    }

    /// Returns the bytes by which [`peak`](Self::peak) has grown. The system sums up what each
    /// processor counts, so it can also seem to shrink.
    pub(crate) fn grown_since(&self, before: usize) -> usize {
        self.peak().saturating_sub(before)
    }

    /// Returns the number of open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        let id = self.child.id().expect("the proxy runs");
        std::fs::read_dir(format!("/proc/{id}/fd")).unwrap().count()
    }

    /// Waits until the proxy has closed all but this many descriptors.
    pub(crate) async fn closes_all_but(&self, most: usize) {
        let closes = async {
            while self.descriptors() > most {
                tokio::task::yield_now().await;
            }
        };
        let closed = tokio::time::timeout(LIMIT, closes).await;
        assert!(
            closed.is_ok(),
            "{} are open, not {most}",
            self.descriptors()
        );
    }
}

async fn address(folder: &Path) -> SocketAddr {
    loop {
        let text = std::fs::read_to_string(folder.join(ADDRESS));
        if let Some(address) = text.ok().and_then(|text| text.parse().ok()) {
            return address;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs the proxy that the environment describes, if it does, until standard input ends.
pub(crate) async fn run_proxy() -> anyhow::Result<()> {
    let Ok(name) = std::env::var(KIND) else {
        return Ok(());
    };
    let kind = Kind::ALL
        .into_iter()
        .find(|kind| name == format!("{kind:?}"));
    let folder = std::env::var(FOLDER)?;
    let folder = Path::new(&folder);
    let endpoint = folder.join(AGENT).display().to_string();
    let settings = Settings {
        agent_timeout_ms: 3_000,
        agents: vec![AgentSettings::new(AGENT, endpoint)],
        ..Settings::new("127.0.0.1:0".parse()?, std::env::var(UPSTREAM)?.parse()?)
    };
    let (_proxy, address) = start(kind.unwrap(), settings).await?;
    // Under another name first, so that nobody reads a part of it.
    let written = folder.join("new");
    std::fs::write(&written, address.to_string())?;
    std::fs::rename(&written, folder.join(ADDRESS))?;
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}
