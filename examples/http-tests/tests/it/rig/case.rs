//! Rows of the table: a situation, and what has to come out of it with every proxy and client.

use super::LIMIT;
use super::agent::{AgentSpec, Event};
use super::clients::Via;
use super::outcome::Outcome;
use super::proxy::{Kind, Rig};
use super::request::Request;
use super::upstream::{Step, reply};
use futures_util::{FutureExt, StreamExt, stream};
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use tollgate_example_settings::Settings;

/// Rows that run at once.
const AT_ONCE: usize = 8;

type Check = Box<dyn Fn(&Outcome) + Send + Sync>;

/// A row of the table.
pub(crate) struct Case {
    name: &'static str,
    request: Request,
    agents: Vec<AgentSpec>,
    upstream: Vec<Step>,
    settings: Box<dyn Fn(&mut Settings) + Send + Sync>,
    clients: &'static [Via],
    check: Check,
    pingora: OfPingora,
    agents_hang: bool,
}

/// The row for Pingora.
enum OfPingora {
    Same,
    /// Another expectation, as Pingora cannot do what is expected of others.
    Differs(&'static str, Check),
    /// Pingora has nothing of this.
    Lacks,
}

impl Case {
    pub(crate) fn new(name: &'static str, request: Request) -> Self {
        Self {
            name,
            request,
            agents: Vec::new(),
            upstream: reply("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello\n"),
            settings: Box::new(|_| {}),
            clients: Via::LIBRARIES,
            check: Box::new(|outcome| {
                outcome.status(200);
            }),
            pingora: OfPingora::Same,
            agents_hang: false,
        }
    }

    /// Does not wait until agents know of the end of the request, as they answer nothing more.
    pub(crate) fn agents_hang(mut self) -> Self {
        self.agents_hang = true;
        self
    }

    pub(crate) fn agents(mut self, agents: impl Into<Vec<AgentSpec>>) -> Self {
        self.agents = agents.into();
        self
    }

    /// Sets the response, which the upstream sends when it has read the request.
    pub(crate) fn responds(mut self, response: impl Into<Vec<u8>>) -> Self {
        self.upstream = reply(response);
        self
    }

    pub(crate) fn upstream(mut self, steps: Vec<Step>) -> Self {
        self.upstream = steps;
        self
    }

    pub(crate) fn settings(
        mut self,
        configure: impl Fn(&mut Settings) + Send + Sync + 'static,
    ) -> Self {
        self.settings = Box::new(configure);
        self
    }

    /// Sends the request by these clients alone.
    pub(crate) fn clients(mut self, clients: &'static [Via]) -> Self {
        self.clients = clients;
        self
    }

    pub(crate) fn expect(mut self, check: impl Fn(&Outcome) + Send + Sync + 'static) -> Self {
        self.check = Box::new(check);
        self
    }

    /// Expects something else of Pingora, for a reason that its README tells.
    pub(crate) fn pingora(
        mut self,
        reason: &'static str,
        check: impl Fn(&Outcome) + Send + Sync + 'static,
    ) -> Self {
        self.pingora = OfPingora::Differs(reason, Box::new(check));
        self
    }

    /// Leaves Pingora out, for a reason that its README tells.
    pub(crate) fn not_with_pingora(mut self, reason: &'static str) -> Self {
        assert!(!reason.is_empty());
        self.pingora = OfPingora::Lacks;
        self
    }

    fn check(&self, outcome: &Outcome) {
        match (&self.pingora, outcome.proxy) {
            (OfPingora::Differs(_, check), Kind::Pingora) => check(outcome),
            _ => (self.check)(outcome),
        }
    }

    /// Runs the row with one proxy, and returns the failures.
    async fn run(&self, kind: Kind) -> Vec<String> {
        let mut failures = Vec::new();
        if kind == Kind::Pingora && matches!(self.pingora, OfPingora::Lacks) {
            return failures;
        }
        let mut fail = |via: Option<Via>, reason: String| {
            let expected = match (&self.pingora, kind) {
                (OfPingora::Differs(reason, _), Kind::Pingora) => *reason,
                _ => "",
            };
            let name = self.name;
            failures.push(format!("{name} [{kind:?} {via:?} {expected}]: {reason}"));
        };
        let started = Rig::start(kind, &self.agents, self.upstream.clone(), &self.settings).await;
        let rig = match started {
            Ok(rig) => rig,
            Err(error) => {
                fail(None, format!("{error:#}"));
                return failures;
            }
        };
        for via in self
            .clients
            .iter()
            .filter(|via| via.can_send(&self.request))
        {
            rig.clear();
            let run = AssertUnwindSafe(self.run_by(&rig, *via)).catch_unwind();
            match tokio::time::timeout(LIMIT, run).await {
                Ok(Ok(())) => {}
                Ok(Err(panic)) => fail(Some(*via), text_of(&*panic)),
                Err(_) => fail(Some(*via), "takes too long".to_owned()),
            }
        }
        failures
    }

    async fn run_by(&self, rig: &Rig, via: Via) {
        let reply = via.send(rig.address, &self.request).await;
        for agent in &rig.agents {
            let record = &agent.record;
            // Agents are told of the end after the client has the response.
            if self.agents_hang || record.all().is_empty() {
                continue;
            }
            let is_over = |events: &[Event]| events.iter().any(Event::is_end);
            record.wait("the end of the request", is_over).await;
        }
        self.check(&Outcome {
            proxy: rig.kind,
            via,
            reply,
            upstream: rig.received().all(),
            agents: rig.agents.iter().map(|agent| agent.record.all()).collect(),
        });
    }
}

/// Runs rows with every proxy and client. Fails with all rows that do not hold.
pub(crate) async fn run(cases: Vec<Case>) {
    let failures = Mutex::new(Vec::new());
    let runs = cases
        .iter()
        .flat_map(|case| Kind::ALL.map(|kind| (case, kind)));
    stream::iter(runs)
        .for_each_concurrent(AT_ONCE, async |(case, kind)| {
            let failed = case.run(kind).await;
            failures.lock().unwrap().extend(failed);
        })
        .await;
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} runs failed:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic").to_owned()
}
