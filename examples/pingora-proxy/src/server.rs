//! Runs the proxy in a Pingora server.

use crate::agents::Agents;
use crate::first_bytes::EitherVersion;
use crate::proxy::Proxy;
use async_trait::async_trait;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use pingora::services::listening::Service;
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tollgate_example_settings::Settings;

/// Serves until the process receives a termination signal.
///
/// # Errors
///
/// Returns an error if an agent's name or endpoint is invalid.
pub fn run(settings: &Settings) -> anyhow::Result<()> {
    build(settings)?.run(RunArgs::default());
    Ok(())
}

/// A proxy on threads of this process. Dropping this ends the proxy and waits for its threads.
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
    /// Returns an error like [`run`], or if the proxy does not listen within ten seconds.
    pub fn start(settings: &Settings) -> anyhow::Result<Self> {
        let server = build(settings)?;
        let (stop, stopped) = watch::channel(false);
        let thread = thread::spawn(move || {
            server.run(RunArgs {
                shutdown_signal: Box::new(Stopped(stopped)),
            });
        });
        let running = Self {
            address: settings.listen,
            stop,
            thread: Some(thread),
        };
        running.wait()?;
        Ok(running)
    }

    /// Returns the address that the proxy listens on.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    fn wait(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.address).is_err() {
            anyhow::ensure!(
                Instant::now() < deadline,
                "the proxy does not listen at {} after 10 s",
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
        // Ignored: a thread that panicked has ended too.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Stopped(watch::Receiver<bool>);

#[async_trait]
impl ShutdownSignalWatch for Stopped {
    async fn recv(&self) -> ShutdownSignal {
        // An error means that the sender was dropped, which ends the server too.
        let _ = self.0.clone().wait_for(|stopped| *stopped).await;
        ShutdownSignal::FastShutdown
    }
}

fn build(settings: &Settings) -> anyhow::Result<Server> {
    anyhow::ensure!(
        !settings.proxy_protocol,
        "proxy_protocol = true is not possible with this proxy: see examples/reverse-proxy"
    );
    let conf = ServerConf {
        threads: settings.threads,
        work_stealing: settings.work_stealing,
        // Time limits for requests in flight during a graceful shutdown.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(5),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let proxy = Proxy::new(settings, Agents::start(settings)?)?;
    let app = EitherVersion::new(&proxy, &server.configuration);
    let mut service = Service::new("tollgate".to_owned(), app);
    service.add_tcp(&settings.listen.to_string());
    server.add_service(service);
    Ok(server)
}
