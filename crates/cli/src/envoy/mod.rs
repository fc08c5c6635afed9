//! Agents behind Envoy: the options of an agent that Envoy asks, and asking as Envoy does.

mod load;
mod probe;

pub(crate) use load::drive;
pub(crate) use probe::probe;

use crate::connect::Target;
use crate::exit::{AgentFailure, UsageError};
use crate::values::is_envoy;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use tollgate::TlsServerConfig;
use tollgate::control::{CounterMetric, MetricsReport};
use tollgate_envoy::caller::EnvoyCaller;
use tollgate_envoy::{EnvoyBindError, EnvoyConfig, EnvoyCounters, EnvoyListener};

const HEADING: &str = "Envoy";

/// Options of an agent that Envoy asks.
#[derive(clap::Args)]
pub(crate) struct AgentOptions {
    /// Proxies that are trusted to add to x-forwarded-for, Envoy included; for Envoys that do not
    /// send source.address
    #[arg(long, help_heading = HEADING, value_name = "N")]
    trusted_hops: Option<usize>,
    /// Let rules set `host`; Envoy's mutation_rules have to allow it
    #[arg(long, help_heading = HEADING)]
    may_set_host: bool,
    #[arg(skip)]
    counts: ListenerCounts,
}

/// Counts of all listeners of an agent.
#[derive(Clone, Default)]
pub(crate) struct ListenerCounts(Arc<Mutex<Vec<EnvoyCounters>>>);

impl AgentOptions {
    /// Refuses options that have no effect at these endpoints.
    pub(crate) fn check(&self, endpoints: &[String]) -> Result<(), UsageError> {
        if endpoints.iter().any(|endpoint| is_envoy(endpoint)) {
            return Ok(());
        }
        let option = match (self.trusted_hops, self.may_set_host) {
            (Some(_), _) => "--trusted-hops",
            (_, true) => "--may-set-host",
            _ => return Ok(()),
        };
        let reason = "it has an effect only with --listen envoy://, envoys:// or envoy+unix://";
        Err(UsageError(format!("{option}: {reason}")))
    }

    /// Returns the counts of the listeners that exist by then.
    pub(crate) fn counts(&self) -> ListenerCounts {
        self.counts.clone()
    }

    /// Listens at an endpoint for Envoy.
    pub(crate) async fn listen(
        &self,
        endpoint: &str,
        tls: Option<&TlsServerConfig>,
    ) -> anyhow::Result<EnvoyListener> {
        let mut config = EnvoyConfig::default().trusted_hops(self.trusted_hops.unwrap_or(0));
        if self.may_set_host {
            config = config.may_set_host();
        }
        if let Some(tls) = tls {
            config = config.tls(tls.clone());
        }
        let listener = EnvoyListener::bind(endpoint, config)
            .await
            .map_err(|error| failure(endpoint, &error))?;
        self.counts.add(listener.counters());
        Ok(listener)
    }
}

impl ListenerCounts {
    fn add(&self, counters: EnvoyCounters) {
        self.lock().push(counters);
    }

    /// Adds the sums over all listeners to a report, if there are any.
    pub(crate) fn add_to(&self, report: &mut MetricsReport) {
        let mut sums: Vec<(&str, &str, u64)> = Vec::new();
        for counters in self.lock().iter() {
            let counts = counters.get();
            if sums.is_empty() {
                sums.extend(counts.iter());
                continue;
            }
            for (sum, (_, _, count)) in sums.iter_mut().zip(counts.iter()) {
                sum.2 += count;
            }
        }
        report
            .counters
            .extend(sums.into_iter().map(|(name, meaning, count)| {
                let mut counter = CounterMetric::new(format!("agent_envoy_{name}_total"), count);
                counter.help = Some(meaning.to_owned());
                counter
            }));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<EnvoyCounters>> {
        // The list is whole whatever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
