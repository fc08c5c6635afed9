//! Floods a server and a pool with everything that one peer can do to them, all at once, while good
//! proxies and agents use both. `scripts/attack [minutes]` builds and runs it; docs/operations.md
//! describes it.

mod agent;
mod answered;
mod calls;
#[path = "../common/mod.rs"]
mod common;
mod connections;
mod expectations;
mod floods;
mod grpc_floods;
mod hostile_agents;
mod payloads;
mod places;
mod proxy;
mod report;
mod run;
mod strangers;
mod tally;

use common::{Failure, child};
use places::Places;
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::runtime::{Builder, Runtime};
use tollgate_counting_alloc::CountingAlloc;

/// Returns freed memory to the system at once, as in the command `tollgate`.
#[global_allocator]
static ALLOCATOR: CountingAlloc<{ 64 * 1024 }> = CountingAlloc;

fn main() -> Result<(), Failure> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [minutes] => attack(minutes.parse()?, None),
        [minutes, report] => attack(minutes.parse()?, Some(Path::new(report))),
        [role, places @ .., name] if places.len() == Places::ARGUMENTS => {
            as_child(role, &Places::parse(places)?, name)
        }
        _ => Err("usage: attack MINUTES [REPORT]".into()),
    }
}

/// Runs a process that the attack has started.
fn as_child(role: &str, places: &Places, name: &str) -> Result<(), Failure> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    if matches!(role, "attacker" | "hostile-agent") {
        lower_priority()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        return child::run(&places.directory, runtime, async {
            match role {
                "attacker" => floods::run(name, places).await,
                _ => hostile_agents::run(name, places).await,
            }
        });
    }
    child::run(&places.directory, Runtime::new()?, async {
        match role {
            "server" => agent::serve_attacked(places).await,
            "good-agent" => agent::serve_good(places).await,
            "pool" => proxy::run_attacked(places).await,
            "good-proxy" => proxy::run_good(places).await,
            _ => Err("no such role".into()),
        }
    })
}

/// Gives this process the lowest priority. Its threads, which start later, inherit that.
fn lower_priority() -> Result<(), Failure> {
    let pid = std::process::id().to_string();
    let mut command = Command::new("renice");
    command.args(["-n", "19", "-p", &pid]).stdout(Stdio::null());
    if command.status()?.success() {
        return Ok(());
    }
    Err("`renice` cannot lower the priority of this process".into())
}

fn attack(minutes: f64, report: Option<&Path>) -> Result<(), Failure> {
    let name = format!("tollgate-attack-{}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&directory)?;
    let attacked = Runtime::new()?.block_on(run::run(&directory, minutes, report));
    if attacked.is_err() {
        println!("logs are in {}", directory.display());
        return attacked;
    }
    Ok(std::fs::remove_dir_all(&directory)?)
}
