//! Finds agents by name in a locked map, a sharded map and a snapshot.

use crate::common::{Allowing, CORRELATION_ID, alone_and_beside_another, beside_writer};
use crate::zentinel::{Agents, Locked, Sharded};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use tollgate::AgentPoolConfig;
use tollgate::bench::{InMemory, Registry, agent_name};

impl Agents for Registry {
    fn has(&self, agent_id: &str) -> bool {
        self.has(agent_id)
    }

    fn replace(&self, agent_id: &str) {
        self.replace(agent_id);
    }
}

/// Look-ups per iteration, so that the cost of measuring is small.
const LOOK_UPS: usize = 100;

/// Measures finding an agent: alone, while another thread does the same, and while another thread
/// replaces agents without a pause.
pub(crate) fn agent_lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("agent_lookup");
    for agents in [1, 10, 100, 1_000] {
        let memory = in_memory(agents);
        look_up_in(&mut group, "RwLock<HashMap>", &Locked::new(agents), agents);
        look_up_in(&mut group, "DashMap", &Sharded::new(agents), agents);
        look_up_in(&mut group, "snapshot", &memory.registry(), agents);
    }
}

fn look_up_in(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    map: &impl Agents,
    agents: usize,
) {
    let names: Vec<String> = (0..agents).map(agent_name).collect();
    let find = || {
        for at in 0..LOOK_UPS {
            black_box(map.has(&names[at % agents]));
        }
    };
    group.throughput(Throughput::Elements(LOOK_UPS as u64));
    alone_and_beside_another(group, name, agents, find);
    let next = AtomicUsize::new(0);
    let replace = || {
        let at = next.fetch_add(1, Ordering::Relaxed);
        map.replace(&names[at % agents]);
    };
    group.bench_function(
        BenchmarkId::new(format!("{name} beside a writer"), agents),
        |bencher| {
            bencher.iter_custom(|rounds| beside_writer(rounds, find, replace));
        },
    );
}

/// Measures finding an agent and choosing one of its four connections.
pub(crate) fn connection_choice(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("connection_choice");
    for agents in [1, 10, 100, 1_000] {
        let names: Vec<String> = (0..agents).map(agent_name).collect();
        let sharded = Sharded::new(agents);
        let mut name = names.iter().cycle();
        group.bench_function(BenchmarkId::new("published", agents), |bencher| {
            bencher.iter(|| name.next().and_then(|name| sharded.choose(name)));
        });
        let memory = in_memory(agents);
        let registry = memory.registry();
        let mut name = names.iter().cycle();
        group.bench_function(BenchmarkId::new("tollgate", agents), |bencher| {
            bencher.iter(|| {
                let name = name.next()?;
                registry.choose(name, black_box(CORRELATION_ID))
            });
        });
    }
}

fn in_memory(agents: usize) -> InMemory {
    let config = AgentPoolConfig::default()
        // Saves memory with thousands of connections and does not affect these benchmarks.
        .max_concurrent_per_connection(8);
    InMemory::new(agents, config, Allowing)
}
