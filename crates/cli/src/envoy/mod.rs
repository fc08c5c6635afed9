//! Agents behind Envoy: the options of an agent that Envoy asks, and asking as Envoy does.

mod load;
mod probe;

pub(crate) use load::drive;
pub(crate) use probe::probe;

use crate::connect::Target;
use crate::exit::{AgentFailure, UsageError};
use std::time::Duration;
use tokio::time::timeout;
use tollgate::TlsServerConfig;
use tollgate_envoy::caller::EnvoyCaller;
use tollgate_envoy::{EnvoyBindError, EnvoyConfig, EnvoyListener};

const HEADING: &str = "Envoy";

/// Options of an agent that Envoy asks.
#[derive(clap::Args)]
pub(crate) struct AgentOptions {
    /// Proxies that are trusted to add to x-forwarded-for, Envoy included; for Envoys that do not
    /// send source.address
    #[arg(long, help_heading = HEADING, value_name = "N", default_value_t = 0)]
    trusted_hops: usize,
    /// Let rules set `host`; Envoy's mutation_rules have to allow it
    #[arg(long, help_heading = HEADING)]
    may_set_host: bool,
}

impl AgentOptions {
    /// Listens at an endpoint for Envoy.
    pub(crate) async fn listen(
        &self,
        endpoint: &str,
        tls: Option<&TlsServerConfig>,
    ) -> anyhow::Result<EnvoyListener> {
        let mut config = EnvoyConfig::default().trusted_hops(self.trusted_hops);
        if self.may_set_host {
            config = config.may_set_host();
        }
        if let Some(tls) = tls {
            config = config.tls(tls.clone());
        }
        EnvoyListener::bind(endpoint, config)
            .await
            .map_err(|error| failure(endpoint, &error))
    }
}

fn failure(endpoint: &str, error: &EnvoyBindError) -> anyhow::Error {
    match error {
        EnvoyBindError::InvalidEndpoint { reason, .. } => {
            UsageError(format!("{endpoint}: {reason}")).into()
        }
        EnvoyBindError::Listen { source, .. } => AgentFailure::new(endpoint, source).into(),
        other => AgentFailure::new(endpoint, other).into(),
    }
}

/// Connects to an agent as Envoy does.
pub(crate) async fn connect(target: &Target, limit: Duration) -> anyhow::Result<EnvoyCaller> {
    let endpoint = &target.endpoint;
    let tls = target.tls.config(endpoint)?;
    match timeout(limit, EnvoyCaller::connect(endpoint, Some(&tls))).await {
        Ok(connected) => Ok(connected.map_err(|error| AgentFailure::new(endpoint, error))?),
        Err(_) => {
            let late = format_args!("timed out after {limit:?}");
            Err(AgentFailure::new(endpoint, late).into())
        }
    }
}
