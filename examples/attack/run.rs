//! A run: starts the processes, lets them attack, and collects what each has seen.

use crate::Failure;
use crate::agent::Memory;
use crate::answered::Course;
use crate::common::child;
use crate::common::process::{Process, command, open_log};
use crate::common::resources::{Resources, status_kib};
use crate::places::Places;
use crate::report::{Log as LogSize, Report, Side};
use crate::tally::Tally;
use crate::{floods, hostile_agents};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Time of calls without an attack, for comparison.
const BEFORE: Duration = Duration::from_secs(5);

/// Time after the attack, in which memory has to fall.
const AFTER: Duration = Duration::from_secs(15);

/// Variable with the names of the only attacks and hostile agents to start, separated by commas.
const ONLY: &str = "ATTACK_ONLY";

const INTERVAL: Duration = Duration::from_secs(1);

/// The programs that have to stay well.
struct Programs {
    server: Process,
    good_agent: Process,
    pool: Process,
    good_proxy: Process,
}

pub(crate) async fn run(
    directory: &Path,
    minutes: f64,
    report: Option<&Path>,
) -> Result<(), Failure> {
    let places = Places::new(directory);
    let server = start(&places, "server", "server").await?;
    let good_agent = start(&places, "good-agent", "good-agent").await?;
    let hostile_agents = start_all(&places, "hostile-agent", &hostile_agents::NAMES).await?;
    let programs = Programs {
        server,
        good_agent,
        pool: start(&places, "pool", "pool").await?,
        good_proxy: start(&places, "good-proxy", "good-proxy").await?,
    };
    sleep(BEFORE).await;
    programs.begin_phase()?;
    let attackers = start_all(&places, "attacker", &floods::NAMES).await?;
    let began = Instant::now();
    let mut resources = [
        Resources::of("server", programs.server.id()),
        Resources::of("pool", programs.pool.id()),
    ];
    watch(&mut resources, Duration::from_secs_f64(minutes * 60.0)).await?;
    let took = began.elapsed();

    programs.begin_phase()?;
    let peaks =
        [&programs.server, &programs.pool].map(|process| status_kib(process.id(), "VmHWM:"));
    let floods = stop_all(attackers).await?;
    let hostile = stop_all(hostile_agents).await?;
    sleep(AFTER).await;
    let after = [resources[0].sample()?, resources[1].sample()?];
    let ended = programs.stop().await?;
    child::check_failures(directory)?;

    let logs = [
        LogSize::of(directory, "server")?,
        LogSize::of(directory, "pool")?,
    ];
    let [server_peak, pool_peak] = peaks;
    let report_of_run = Report {
        minutes,
        took,
        calls: [ended.of_good_proxy, ended.of_pool],
        floods,
        hostile,
        sides: [
            Side::new(
                &resources[0],
                server_peak?,
                after[0],
                ended.server,
                &logs[0],
            ),
            Side::new(&resources[1], pool_peak?, after[1], ended.pool, &logs[1]),
        ],
    };
    report_of_run.finish(report)
}

async fn start(places: &Places, role: &str, name: &str) -> Result<Process, Failure> {
    let log = format!("{}.log", name.replace([' ', ':'], "-"));
    let mut command = command(open_log(&places.directory.join(log))?);
    command.arg(role).args(places.to_arguments()).arg(name);
    Process::start(command, name).await
}

type Named = Vec<(&'static str, Process)>;

async fn start_all(places: &Places, role: &str, names: &[&'static str]) -> Result<Named, Failure> {
    let only = std::env::var(ONLY).unwrap_or_default();
    let started = names
        .iter()
        .filter(|name| only.is_empty() || only.split(',').any(|one| one == **name))
        .map(async |name| Ok::<_, Failure>((*name, start(places, role, name).await?)));
    futures_util::future::try_join_all(started).await
}

async fn stop_all(processes: Named) -> Result<Vec<(&'static str, Tally)>, Failure> {
    let stopped = processes.into_iter().map(async |(name, process)| {
        let tally = serde_json::from_str(process.stop().await?.trim())?;
        Ok::<_, Failure>((name, tally))
    });
    futures_util::future::try_join_all(stopped).await
}

/// Samples the programs under attack, and prints that now and then.
async fn watch(resources: &mut [Resources; 2], duration: Duration) -> Result<(), Failure> {
    let began = Instant::now();
    while began.elapsed() < duration {
        sleep(INTERVAL.min(duration.saturating_sub(began.elapsed()))).await;
        let seconds = began.elapsed().as_secs();
        for process in &mut *resources {
            let sample = process.sample()?;
            if seconds.is_multiple_of(10) {
                println!("{seconds:5} s  {}: {sample}", process.name);
            }
        }
    }
    Ok(())
}

/// Figures that the programs have printed at their end.
struct Ended {
    of_good_proxy: Vec<Course>,
    of_pool: Vec<Course>,
    server: Memory,
    pool: Memory,
}

impl Programs {
    fn begin_phase(&self) -> Result<(), Failure> {
        self.pool.command("next")?;
        self.good_proxy.command("next")
    }

    async fn stop(self) -> Result<Ended, Failure> {
        let of_good_proxy = self.good_proxy.stop().await?;
        let printed = self.pool.stop().await?;
        let (of_pool, pool) = printed.trim().split_once('\n').ok_or("the pool is mute")?;
        let server = self.server.stop().await?;
        self.good_agent.stop().await?;
        Ok(Ended {
            of_good_proxy: serde_json::from_str(&of_good_proxy)?,
            of_pool: serde_json::from_str(of_pool)?,
            server: serde_json::from_str(&server)?,
            pool: serde_json::from_str(pool)?,
        })
    }
}
