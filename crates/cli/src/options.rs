//! Options shared by `demo` and `load`.

use crate::connect::{Connected, LOCAL, LinkChoice, Target, accept, add_local, connect};
use crate::exit::AgentFailure;
use crate::page::PageOptions;
use crate::scrape;
use crate::values::{parse_encoding, parse_timeout};
use std::net::SocketAddr;
use std::time::Duration;
use tollgate::{AgentHandler, Encoding};

const MOST_SECONDS: f64 = 24.0 * 60.0 * 60.0;

/// Options for putting load on an agent.
#[derive(clap::Args)]
pub(crate) struct LoadOptions {
    /// Number of requests in flight at once, 1 to 65536
    #[arg(
        long, value_name = "N", default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=65_536)
    )]
    concurrency: u32,
    /// Number of connections to the agent, 1 to 1024
    #[arg(
        long, value_name = "N", default_value_t = 4,
        value_parser = clap::value_parser!(u32).range(1..=1_024)
    )]
    connections: u32,
    /// Encoding to use, msgpack or json [default: the one that the agent prefers]
    #[arg(long, value_parser = parse_encoding)]
    encoding: Option<Encoding>,
    /// Link to use with agents on Unix sockets
    #[arg(long, value_enum, default_value = "auto")]
    link: LinkChoice,
    /// Time limit for connecting and for each event, such as 500ms or 5s
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_timeout)]
    timeout: Duration,
    /// Print the figures as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Serve the calling side's Prometheus metrics at http://ADDRESS/metrics during the run
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) page: PageOptions,
}

impl LoadOptions {
    /// Connects to an agent. Returns it with the negotiated encoding.
    pub(crate) async fn connect(
        &self,
        target: &Target,
    ) -> anyhow::Result<(Connected, &'static str)> {
        let connected = connect(
            target,
            self.encoding,
            self.connections(),
            self.timeout,
            self.link,
        )
        .await?;
        self.ready(connected, &target.endpoint).await
    }

    /// Listens at `endpoint` until the agent has connected. Returns it with the negotiated
    /// encoding.
    pub(crate) async fn accept(&self, endpoint: &str) -> anyhow::Result<(Connected, &'static str)> {
        let connected = accept(
            endpoint,
            self.encoding,
            self.connections(),
            self.timeout,
            self.link,
        )
        .await?;
        self.ready(connected, endpoint).await
    }

    /// Adds an agent in this process. Returns it without an encoding.
    pub(crate) async fn add_local(
        &self,
        handler: impl AgentHandler,
    ) -> anyhow::Result<(Connected, &'static str)> {
        let connected = add_local(handler, self.connections(), self.timeout).await?;
        let (connected, _) = self.ready(connected, LOCAL).await?;
        Ok((connected, "none"))
    }

    async fn ready(
        &self,
        connected: Connected,
        endpoint: &str,
    ) -> anyhow::Result<(Connected, &'static str)> {
        if let Some(address) = self.metrics {
            let metrics = connected.pool.metrics();
            scrape::serve(address, move || metrics.to_prometheus("tollgate")).await?;
        }
        let Some(encoding) = connected.agent.encoding() else {
            let cause = "the connection was closed after the handshake";
            return Err(AgentFailure::new(endpoint, cause).into());
        };
        Ok((connected, encoding.as_str()))
    }

    /// Returns the number of requests in flight at once.
    pub(crate) const fn concurrency(&self) -> usize {
        self.concurrency as usize
    }

    /// Returns the number of connections to the agent.
    pub(crate) const fn connections(&self) -> usize {
        self.connections as usize
    }

    /// Returns the time limit for connecting and for each event.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// Parses the length of a run in seconds, with or without a fraction.
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= MOST_SECONDS => {
            Ok(Duration::from_secs_f64(seconds))
        }
        Ok(_) => Err("must be more than 0 and at most 86400 (one day)".to_owned()),
        Err(_) => Err("expected a number of seconds such as 5 or 0.5".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_positive_numbers() {
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "nan", "inf", "1e9", "5s", ""] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
    }
}
