//! A proxy with its upstream and its agents.

use super::Record;
use super::agent::{AgentSpec, Event, RunningAgent};
use super::upstream::{Received, Step, Upstream};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use tempfile::TempDir;
use tollgate_example_settings::{AgentSettings, Settings};

/// One of the proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `examples/reverse-proxy`.
    Hyper,
    /// `examples/pingora-proxy`.
    Pingora,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Hyper, Self::Pingora];
}

/// A proxy between an upstream and agents.
pub(crate) struct Rig {
    pub(crate) kind: Kind,
    pub(crate) upstream: Upstream,
    pub(crate) agents: Vec<RunningAgent>,
    pub(crate) address: SocketAddr,
    proxy: Option<Proxy>,
    _folder: TempDir,
}

pub(super) enum Proxy {
    Hyper(tollgate_reverse_proxy::server::Running),
    Pingora(tollgate_pingora::server::Running),
}

impl Rig {
    pub(crate) async fn start(
        kind: Kind,
        agents: &[AgentSpec],
        upstream: Vec<Step>,
        configure: impl FnOnce(&mut Settings),
    ) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let upstream = Upstream::start(upstream).await?;
        let mut settings = Settings {
            agent_timeout_ms: 10_000,
            ..Settings::new("127.0.0.1:0".parse()?, upstream.address)
        };
        let mut running = Vec::new();
        for (at, spec) in agents.iter().enumerate() {
            let name = format!("agent-{at}");
            let socket = folder.path().join(&name);
            running.push(RunningAgent::start(spec, &socket).await?);
            let endpoint = socket.display().to_string();
            settings.agents.push(AgentSettings {
                name,
                endpoint,
                ..spec.settings.clone()
            });
        }
        configure(&mut settings);
        let (proxy, mut address) = start(kind, settings).await?;
        if address.ip().is_unspecified() {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        Ok(Self {
            kind,
            upstream,
            agents: running,
            address,
            proxy: Some(proxy),
            _folder: folder,
        })
    }

    pub(crate) fn events(&self, agent: usize) -> &Record<Event> {
        &self.agents[agent].record
    }

    pub(crate) fn received(&self) -> &Record<Received> {
        &self.upstream.record
    }

    /// Forgets what agents and the upstream have seen.
    pub(crate) fn clear(&self) {
        for agent in &self.agents {
            agent.record.change(Vec::clear);
        }
        self.upstream.record.change(Vec::clear);
    }
}

pub(super) async fn start(
    kind: Kind,
    mut settings: Settings,
) -> anyhow::Result<(Proxy, SocketAddr)> {
    if kind == Kind::Hyper {
        let running = tollgate_reverse_proxy::server::Running::start(&settings).await?;
        let address = running.address();
        return Ok((Proxy::Hyper(running), address));
    }
    settings.listen = own_address(settings.listen.ip());
    let starting = move || tollgate_pingora::server::Running::start(&settings);
    let running = tokio::task::spawn_blocking(starting).await??;
    let address = running.address();
    Ok((Proxy::Pingora(running), address))
}

/// Returns an address for Pingora, which cannot tell the port that the system has selected.
///
/// No other process uses it, and no port is in the range that the system selects from.
fn own_address(ip: IpAddr) -> SocketAddr {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    if ip.is_unspecified() {
        return SocketAddr::new(ip, 20_000 + u16::from_be_bytes([middle, low]) % 10_000);
    }
    let port = 10_000 + COUNT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from(([127, 1 + high % 254, middle, low], port))
}

impl Drop for Rig {
    /// Drops Pingora on another thread, because that blocks until its threads have ended.
    fn drop(&mut self) {
        match self.proxy.take() {
            Some(Proxy::Hyper(running)) => drop(running),
            Some(Proxy::Pingora(running)) => drop(std::thread::spawn(move || drop(running))),
            None => {}
        }
    }
}
