//! The agent's side: options of an agent that listens for HAProxy, and its listeners.

use crate::exit::AgentFailure;
use crate::rules::{Phase, Rules};
use crate::values::is_haproxy;
use clap::builder::NonEmptyStringValueParser;
use tollgate::{AgentHandler, AgentServerBuilder};
use tollgate_haproxy::{Dialect, Needed, PartialBodies, SpopEndpoint, SpopListener, SpopSettings};

/// Options of an agent that listens for HAProxy.
#[derive(clap::Args)]
pub(crate) struct HaproxyOptions {
    /// With HAProxy, judge the part of a body that it shows, instead of denying the request with
    /// status 413
    #[arg(long)]
    partial_bodies: bool,
    /// With HAProxy, names of another agent that are understood as well: coraza or crowdsec
    #[arg(long, value_name = "AGENT", value_parser = parse_dialect)]
    dialect: Option<Dialect>,
    /// With HAProxy, leave out the rules of the file for bodies of responses, which it does not
    /// show, instead of denying all responses
    #[arg(long)]
    ignore_response_bodies: bool,
    /// Further name of HAProxy's messages about requests; may be repeated
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    request_message: Vec<String>,
    /// Further name of HAProxy's messages about responses; may be repeated
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    response_message: Vec<String>,
    #[arg(skip)]
    settings: SpopSettings,
}

impl HaproxyOptions {
    /// Completes the settings for an agent with these rules.
    pub(crate) fn prepare(&mut self, rules: &Rules) {
        let mut settings = SpopSettings::default();
        if self.partial_bodies {
            settings = settings.partial_bodies(PartialBodies::Judge);
        }
        if let Some(dialect) = self.dialect {
            settings = settings.dialect(dialect);
        }
        for name in &self.request_message {
            settings = settings.request_message(name);
        }
        for name in &self.response_message {
            settings = settings.response_message(name);
        }
        if rules.has_rules_in(Phase::RequestBody) {
            settings = settings.require(Needed::RequestBody);
        } else {
            // An agent without a file of rules subscribes to events that no rule looks at.
            settings = settings.ignore_bodies();
        }
        for (phase, needed) in [
            (Phase::RequestHeaders, Needed::RequestHeaders),
            (Phase::ResponseHeaders, Needed::ResponseHeaders),
        ] {
            if rules.look_at_headers_of(phase) {
                settings = settings.require(needed);
            }
        }
        if rules.need_response_bodies() && !self.ignore_response_bodies {
            settings = settings.require(Needed::ResponseBody);
        }
        self.settings = settings;
    }

    /// Listens at those of the endpoints that are for HAProxy.
    pub(crate) async fn listen<H: AgentHandler>(
        &self,
        mut server: AgentServerBuilder<H>,
        endpoints: &[String],
    ) -> Result<AgentServerBuilder<H>, AgentFailure> {
        for endpoint in endpoints.iter().filter(|endpoint| is_haproxy(endpoint)) {
            let listener = bind(endpoint, &self.settings).await;
            let listener = listener.map_err(|error| AgentFailure::new(endpoint, error))?;
            server = server.listen_on(listener);
        }
        Ok(server)
    }
}

fn parse_dialect(text: &str) -> Result<Dialect, String> {
    match text {
        "coraza" => Ok(Dialect::Coraza),
        "crowdsec" => Ok(Dialect::Crowdsec),
        _ => Err("expected coraza or crowdsec".to_owned()),
    }
}

async fn bind(endpoint: &str, settings: &SpopSettings) -> anyhow::Result<SpopListener> {
    let endpoint: SpopEndpoint = endpoint.parse()?;
    Ok(SpopListener::bind(&endpoint, settings.clone()).await?)
}
