//! Runs mixed traffic over every link while faults are injected from outside. Checks every answer
//! and every count, and that memory and file descriptors do not grow. `scripts/soak [minutes]`
//! builds and runs it; docs/operations.md describes it.

mod account;
mod agent;
mod certificates;
mod clock;
#[path = "../common/mod.rs"]
mod common;
mod descriptors;
mod faults;
mod faulty_agent;
mod growth;
mod harm;
mod links;
mod log;
mod own_faults;
mod processes;
mod proxy;
mod relay;
mod report;
mod roster;
mod run;
mod traffic;
mod victim;

use clock::Clock;
use common::{Failure, child};
use links::Link;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio::runtime::{Builder, Runtime};

fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["agent", directory, link, id, address] => {
            let directory = Path::new(directory);
            as_child(directory, async {
                let link = Link::named(link).ok_or("no such link")?;
                agent::serve(directory, link, id, &address.parse()?).await
            })
        }
        ["faulty-agent", directory, socket] => as_child(Path::new(directory), async {
            tokio::select! {
                served = faulty_agent::serve(Path::new(socket)) => Ok(served?),
                () = child::stdin_closed() => Ok(()),
            }
        }),
        ["relay", directory, listen, target] => as_child(Path::new(directory), async {
            relay::serve(&listen.parse()?, &target.parse()?).await
        }),
        [minutes] => soak(minutes.parse()?, None),
        [minutes, report] => soak(minutes.parse()?, Some(Path::new(report))),
        _ => Err("usage: soak MINUTES [REPORT]".into()),
    }
}

/// Runs a process that the soak has started.
fn as_child(
    directory: &Path,
    served: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    child::run(directory, runtime, served)
}

fn soak(minutes: f64, report: Option<&Path>) -> Result<(), Failure> {
    let directory = directory();
    std::fs::create_dir_all(&directory)?;
    let clock = Clock::of(&directory, "pool");
    if clock::library().is_some() && !clock::is_applied() {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args_os().skip(1));
        clock.apply_to(&mut command)?;
        return Err(command.exec().into());
    }
    let soaked = Runtime::new()?.block_on(run::run(&directory, clock, minutes, report));
    if soaked.is_err() {
        println!("logs are in {}", directory.display());
        return soaked;
    }
    Ok(std::fs::remove_dir_all(&directory)?)
}

/// Returns the directory of this run. The process keeps its id when it executes itself again.
fn directory() -> PathBuf {
    std::env::temp_dir().join(format!("tollgate-soak-{}", std::process::id()))
}
