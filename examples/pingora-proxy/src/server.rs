//! Runs Pingora with the proxy in it.

use crate::agents::Agents;
use crate::config::Config;
use crate::proxy::Proxy;
use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::proxy::http_proxy_service;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Serves until the process is told to end.
///
/// # Errors
///
/// The agents' endpoints are wrong.
pub fn run(config: &Config) -> anyhow::Result<()> {
    build(config)?.run(RunArgs::default());
    Ok(())
}

/// A proxy on threads of this process. It ends when this is dropped.
pub struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts a proxy and waits until it listens.
    ///
    /// # Errors
    ///
    /// As for [`run`], or it does not listen within ten seconds.
    pub fn start(config: &Config) -> anyhow::Result<Self> {
        let server = build(config)?;
        let (stop, stopped) = watch::channel(false);
        let thread = thread::spawn(move || {
            server.run(RunArgs {
                shutdown_signal: Box::new(Stopped(stopped)),
            });
        });
        let running = Self {
            address: config.listen,
            stop,
            thread: Some(thread),
        };
        running.wait()?;
        Ok(running)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    fn wait(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.address).is_err() {
            anyhow::ensure!(
                Instant::now() < deadline,
                "nobody listens at {}",
                self.address
            );
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        // A proxy that panicked is gone all the same.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Stopped(watch::Receiver<bool>);

#[async_trait]
impl ShutdownSignalWatch for Stopped {
    async fn recv(&self) -> ShutdownSignal {
        // Whoever could stop it being gone, it stops as well.
        let _ = self.0.clone().wait_for(|stopped| *stopped).await;
        ShutdownSignal::FastShutdown
    }
}

fn build(config: &Config) -> anyhow::Result<Server> {
    let conf = ServerConf {
        threads: config.threads,
        work_stealing: config.work_stealing,
        // Requests under way get this long when the process is told to end.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(5),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let proxy = Proxy::new(Agents::start(config)?);
    let mut service = http_proxy_service(&server.configuration, proxy);
    if let Some(app) = service.app_logic_mut() {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        app.server_options = Some(options);
    }
    service.add_tcp(&config.listen.to_string());
    server.add_service(service);
    Ok(server)
}
