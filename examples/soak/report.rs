//! The report of a run, in Markdown.

use crate::Failure;
use crate::account::{ANSWERED, Counts, KINDS};
use crate::clock;
use crate::common::markdown::{self, grouped, write_header, write_row};
use crate::common::resources::Resources;
use crate::faults::{Fault, Tally};
use crate::roster::{Agent, Role};
use std::fmt::Write;
use std::time::Duration;
use tollgate::stats::AgentPoolStats;

pub(crate) struct Report<'a> {
    pub(crate) minutes: f64,
    pub(crate) took: Duration,
    pub(crate) agents: Vec<AgentReport<'a>>,
    pub(crate) own_faults: Tally,
    pub(crate) resources: &'a [Resources],
}

pub(crate) struct AgentReport<'a> {
    pub(crate) agent: &'a Agent,
    pub(crate) seen: Counts,
    pub(crate) stats: AgentPoolStats,
    pub(crate) faults: Tally,
}

impl Report<'_> {
    pub(crate) fn to_markdown(&self) -> Result<String, Failure> {
        let mut out = String::new();
        self.write_summary(&mut out)?;
        self.write_calls(&mut out)?;
        self.write_faults(&mut out)?;
        self.write_resources(&mut out)?;
        Ok(out)
    }

    fn write_summary(&self, out: &mut String) -> Result<(), Failure> {
        let counts = || self.agents.iter().map(|agent| agent.seen);
        let calls: u64 = counts().flatten().sum();
        let answered: u64 = counts().map(|seen| seen[ANSWERED]).sum();
        let rate = calls as f64 / self.took.as_secs_f64();
        let steady = self
            .agents
            .iter()
            .filter(|agent| agent.agent.role == Role::Steady);
        let failed: u64 = steady.map(AgentReport::failed).sum();
        write!(
            out,
            "# Soak test\n\n\
             Written by `scripts/soak {minutes}`: see [operations.md](../operations.md#soak-test).\n\n\
             {circumstances}\
             * {calls} calls ({rate} per second), {answered} answered\n\
             * {failed} calls to steady agents failed\n\
             * every answer matched its call\n\
             * the counts of callers, of the pool and of its Prometheus export are equal\n\
             * each steady agent handled all calls, except perhaps those that callers dropped\n\
             * no process panicked\n",
            minutes = self.minutes,
            circumstances = markdown::circumstances(self.took)?,
            calls = grouped(calls),
            rate = grouped(rate as u64),
            answered = grouped(answered),
        )?;
        if clock::library().is_none() {
            writeln!(out, "* no clock jumped, as `faketime` is not installed")?;
        }
        Ok(())
    }

    fn write_calls(&self, out: &mut String) -> Result<(), Failure> {
        let has_occurred = |kind: &usize| self.agents.iter().any(|agent| agent.seen[*kind] > 0);
        let kinds: Vec<_> = (0..KINDS.len()).filter(has_occurred).collect();
        out.push_str("\n## Calls\n\n");
        let names = kinds.iter().map(|kind| KINDS[*kind]);
        let columns = ["link", "agent", "calls"].into_iter().chain(names);
        write_header(out, columns.chain(["reconnects", "breaker opened"]), 2);
        for agent in &self.agents {
            let kinds = kinds.iter().map(|kind| agent.seen[*kind]);
            let stats = &agent.stats;
            let numbers = [agent.seen.iter().sum()].into_iter().chain(kinds);
            let numbers = numbers.chain([stats.reconnects, stats.circuit_breaker_trips]);
            let cells = [agent.agent.link.name, agent.agent.role.name()].map(str::to_owned);
            write_row(out, cells.into_iter().chain(numbers.map(grouped)));
        }
        out.push_str(
            "\n*given up* are calls that their caller dropped. *reconnects* are connections that \
             the pool\nreplaced; those of agents that dial come from their dialer.\n",
        );
        Ok(())
    }

    fn write_faults(&self, out: &mut String) -> Result<(), Failure> {
        let harmed = || {
            self.agents
                .iter()
                .filter(|agent| agent.agent.role == Role::Victim)
        };
        let steady = self
            .agents
            .iter()
            .find(|agent| agent.agent.role == Role::Steady);
        let steady = steady.ok_or("no steady agent")?;
        out.push_str("\n## Faults\n\n");
        let links = harmed().map(|agent| agent.agent.link.name);
        let columns = ["fault"].into_iter().chain(links);
        write_header(out, columns.chain(["each steady agent", "pool"]), 1);
        for fault in Fault::ALL {
            let numbers = harmed().map(|agent| agent.faults.of(fault));
            let others = [&steady.faults, &self.own_faults].map(|tally| tally.of(fault));
            let cells = [fault.description().to_owned()].into_iter();
            write_row(out, cells.chain(numbers.chain(others).map(grouped)));
        }
        out.push_str(
            "\nThe log of a steady agent has no space from the start. The faulty agent violates \
             the protocol at\nrandom. The pool has no free descriptors for 1 s each time.\n",
        );
        Ok(())
    }

    fn write_resources(&self, out: &mut String) -> Result<(), Failure> {
        out.push_str("\n## Memory and descriptors\n\n");
        let columns = ["process", "RSS MiB at the start", "middle", "end"];
        let descriptors = ["descriptors at the start", "middle", "end"];
        write_header(out, columns.into_iter().chain(descriptors), 1);
        for process in self.resources {
            let course = process.course();
            let memory = course.map(|sample| format!("{:.1}", sample.rss_kib as f64 / 1024.0));
            let descriptors = course.map(|sample| sample.descriptors.to_string());
            let cells = [process.name.clone()].into_iter().chain(memory);
            write_row(out, cells.chain(descriptors));
        }
        Ok(())
    }
}

impl AgentReport<'_> {
    /// Number of calls that failed, without those that the caller dropped.
    fn failed(&self) -> u64 {
        self.stats.calls.failed() - self.stats.calls.given_up
    }
}
