//! The report of a run, in Markdown.

use crate::Failure;
use crate::agent::Memory;
use crate::answered::{Calls, Course};
use crate::calls::{CALLERS, HOSTILE_DEADLINE};
use crate::common::markdown::{circumstances, grouped, write_header, write_row};
use crate::common::resources::{Resources, Sample};
use crate::expectations::{Expectations, MAX_LINE, MAX_RSS_AFTER_MIB, MAX_RSS_MIB, mib};
use crate::payloads::MIB;
use crate::proxy::HOSTILE;
use crate::tally::Tally;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// Descriptors that a server may have open: three for each of 1,024 connections, one for each of
/// 1,024 before their handshake, and some of the process.
const MAX_SERVER_DESCRIPTORS: usize = 4 * 1_024 + 64;

/// Descriptors that the pool may have open: two for each of 4 connections to 22 agents, one for
/// each of 256 that have not registered, and some of the process.
const MAX_POOL_DESCRIPTORS: usize = 2 * 4 * 22 + 256 + 64;

/// Kinds of lines that peers of one side cause. Each has 100 at once and 600 per minute.
const KINDS_OF_LINES: usize = 20;

/// Lines per minute that hostile agents write to the log of the pool: 100 per second by each of
/// two.
const AGENT_LINES_PER_MINUTE: usize = 2 * 6_000;

/// Size of a log.
pub(crate) struct Log {
    lines: usize,
    longest: usize,
}

impl Log {
    pub(crate) fn of(directory: &Path, name: &str) -> Result<Self, Failure> {
        let log = std::fs::read(directory.join(format!("{name}.log")))?;
        let lines = || log.split(|byte| *byte == b'\n');
        Ok(Self {
            lines: lines().count() - 1,
            longest: lines().map(<[u8]>::len).max().unwrap_or_default(),
        })
    }
}

/// Memory, descriptors and log of the server or the pool.
pub(crate) struct Side {
    peak_mib: usize,
    after_mib: usize,
    most_descriptors: usize,
    descriptors_after: usize,
    memory: Memory,
    lines: usize,
    longest_line: usize,
}

impl Side {
    pub(crate) fn new(
        resources: &Resources,
        peak_kib: usize,
        after: Sample,
        memory: Memory,
        log: &Log,
    ) -> Self {
        let descriptors = resources.samples.iter().map(|sample| sample.descriptors);
        Self {
            peak_mib: mib(peak_kib),
            after_mib: mib(after.rss_kib),
            most_descriptors: descriptors.max().unwrap_or_default(),
            descriptors_after: after.descriptors,
            memory,
            lines: log.lines,
            longest_line: log.longest,
        }
    }
}

pub(crate) struct Report {
    pub(crate) minutes: f64,
    pub(crate) took: Duration,
    /// Calls of the good proxy, and of the pool under attack.
    pub(crate) calls: [Vec<Course>; 2],
    pub(crate) floods: Vec<(&'static str, Tally)>,
    pub(crate) hostile: Vec<(&'static str, Tally)>,
    /// The server and the pool under attack.
    pub(crate) sides: [Side; 2],
}

const SIDES: [&str; 2] = ["server", "pool"];

impl Report {
    /// Prints the report and writes it to a file. Fails if an expectation was not met.
    pub(crate) fn finish(&self, file: Option<&Path>) -> Result<(), Failure> {
        let expectations = self.expectations();
        let text = self.to_markdown(&expectations)?;
        println!("\n{text}");
        if let Some(file) = file {
            std::fs::write(file, text)?;
        }
        let missed = expectations.missed();
        if missed.is_empty() {
            return Ok(());
        }
        let missed = missed
            .iter()
            .map(|each| format!("{}: {}", each.text, each.seen));
        Err(missed.collect::<Vec<_>>().join("\n").into())
    }

    fn expectations(&self) -> Expectations {
        let mut expectations = Expectations::default();
        for (who, Course([_, during, after])) in self.courses() {
            if during.agent == HOSTILE {
                let slowest = during.slowest as usize / 1000;
                expectations.at_most("slowest call to a hostile agent", slowest, 1_000, " ms");
                continue;
            }
            let whom = format!("{who} to {}", during.agent);
            expectations.all_answered(&whom, during);
            expectations.all_answered(&format!("{whom}, afterwards"), after);
        }
        let minutes = 1 + (self.took.as_secs_f64() / 60.0).ceil() as usize;
        let lines = KINDS_OF_LINES * (100 + 600 * minutes);
        let bounds = [
            (MAX_SERVER_DESCRIPTORS, lines),
            (
                MAX_POOL_DESCRIPTORS,
                lines + AGENT_LINES_PER_MINUTE * minutes,
            ),
        ];
        for ((name, side), (descriptors, lines)) in SIDES.iter().zip(&self.sides).zip(bounds) {
            let mut at_most = |what, seen, bound, unit| {
                expectations.at_most(&format!("{name}: {what}"), seen, bound, unit);
            };
            at_most("most RSS", side.peak_mib, MAX_RSS_MIB, " MiB");
            at_most("RSS afterwards", side.after_mib, MAX_RSS_AFTER_MIB, " MiB");
            at_most("descriptors", side.most_descriptors, descriptors, "");
            at_most("lines of its log", side.lines, lines, "");
            at_most("longest line", side.longest_line, MAX_LINE, " bytes");
        }
        expectations
    }

    fn courses(&self) -> impl Iterator<Item = (&'static str, &Course)> {
        let [proxy, pool] = &self.calls;
        let of_proxy = proxy.iter().map(|course| ("good proxy", course));
        of_proxy.chain(pool.iter().map(|course| ("pool", course)))
    }

    fn to_markdown(&self, expectations: &Expectations) -> Result<String, Failure> {
        let mut out = String::new();
        write!(
            out,
            "# Attack\n\n\
             Written by `scripts/attack {}`: see [operations.md](../operations.md#attack).\n\n\
             {}\
             * attackers and hostile agents: {} processes at the lowest priority (nice 19)\n\
             * allocator: mimalloc, told to return freed memory at once, as in the command \
             `tollgate`\n\
             * {} of {} expectations met\n",
            self.minutes,
            circumstances(self.took)?,
            self.floods.len() + self.hostile.len(),
            expectations.0.len() - expectations.missed().len(),
            expectations.0.len(),
        )?;
        write_expectations(&mut out, expectations);
        self.write_calls(&mut out)?;
        self.write_sides(&mut out);
        write_tallies(
            &mut out,
            "Attacks on the server and on the pool's port",
            &self.floods,
        );
        write_tallies(&mut out, "Hostile agents of the pool", &self.hostile);
        Ok(out)
    }

    fn write_calls(&self, out: &mut String) -> Result<(), Failure> {
        write!(
            out,
            "\n## Calls\n\n{CALLERS} callers for each good agent, and one for each hostile agent \
             with a time limit of\n{HOSTILE_DEADLINE:?}. Times are in milliseconds.\n\n"
        )?;
        let columns = [
            "who", "agent", "when", "calls", "failed", "median", "p99", "slowest",
        ];
        write_header(out, columns.into_iter(), 3);
        for (who, Course(phases)) in self.courses() {
            for (when, calls) in ["before", "attack", "afterwards"].iter().zip(phases) {
                if calls.calls > 0 {
                    write_calls(out, who, when, calls);
                }
            }
        }
        Ok(())
    }

    fn write_sides(&self, out: &mut String) {
        out.push_str("\n## Memory, descriptors and logs\n\n");
        write_header(out, ["", "server", "pool"].into_iter(), 1);
        let mut row = |name: &str, of: fn(&Side) -> usize| {
            let figures = self.sides.iter().map(|side| grouped(of(side) as u64));
            write_row(out, [name.to_owned()].into_iter().chain(figures));
        };
        row("most RSS, MiB", |side| side.peak_mib);
        row("RSS 15 s afterwards, MiB", |side| side.after_mib);
        row("held for peers at the end, KiB", |side| {
            side.memory.held as usize / 1024
        });
        row("connections closed for memory", |side| {
            side.memory.closed as usize
        });
        row("most descriptors", |side| side.most_descriptors);
        row("descriptors afterwards", |side| side.descriptors_after);
        row("log lines", |side| side.lines);
        row("longest line, bytes", |side| side.longest_line);
    }
}

fn write_expectations(out: &mut String, expectations: &Expectations) {
    out.push_str("\n## Expectations\n\n");
    write_header(out, ["expected", "seen", "met"].into_iter(), 3);
    for each in &expectations.0 {
        let met = if each.is_met { "yes" } else { "no" };
        let cells = [&each.text, &each.seen, met].map(str::to_owned);
        write_row(out, cells.into_iter());
    }
}

fn write_calls(out: &mut String, who: &str, when: &str, calls: &Calls) {
    let failed = calls.failed.values().sum();
    let counts = [calls.calls, failed].map(grouped);
    let times = [calls.median, calls.p99, calls.slowest];
    let times = times.map(|time| format!("{:.1}", time as f64 / 1000.0));
    let cells = [who, &calls.agent, when].map(str::to_owned);
    write_row(out, cells.into_iter().chain(counts).chain(times));
}

fn write_tallies(out: &mut String, title: &str, tallies: &[(&str, Tally)]) {
    out.push_str(&format!("\n## {title}\n\n"));
    let columns = ["attack", "connections", "messages", "MiB"];
    write_header(out, columns.into_iter(), 1);
    for (name, tally) in tallies {
        let figures = [tally.connections, tally.messages, tally.bytes / MIB as u64];
        let figures = figures.map(grouped);
        write_row(out, [name.replace('-', " ")].into_iter().chain(figures));
    }
}
