use crate::OPERATIONS;
use crate::common::{Allowing, request_headers};
use iai_callgrind::{library_benchmark, library_benchmark_group};
use std::hint::black_box;
use tollgate::bench::{AffinityMap, InMemory, agent_name};
use tollgate::{
    AgentPoolConfig, Decision, Encoding, Exchange, LoadBalanceStrategy, Placement,
    RequestBodyChunkEvent,
};

/// Agents, and whom each of some calls asks.
struct Questions {
    memory: InMemory,
    agents_and_ids: Vec<(String, String)>,
}

fn in_turn(agents: usize) -> Questions {
    questions_to(agents, AgentPoolConfig::default())
}

fn least_loaded(agents: usize) -> Questions {
    let config = AgentPoolConfig {
        load_balance_strategy: LoadBalanceStrategy::LeastConnections,
        ..AgentPoolConfig::default()
    };
    questions_to(agents, config)
}

fn at_home(agents: usize) -> Questions {
    let config = AgentPoolConfig {
        placement: Placement::PerRuntime,
        self_maintained: false,
        ..AgentPoolConfig::default()
    };
    questions_to(agents, config)
}

fn questions_to(agents: usize, config: AgentPoolConfig) -> Questions {
    let config = AgentPoolConfig {
        // Makes no difference to choosing, but to making thousands of connections.
        max_concurrent_per_connection: 8,
        channel_buffer_size: 8,
        ..config
    };
    let agent_of = |at: usize| agent_name(at * 7 % agents);
    let agents_and_ids = ids().into_iter().enumerate();
    Questions {
        agents_and_ids: agents_and_ids.map(|(at, id)| (agent_of(at), id)).collect(),
        memory: InMemory::new(agents, config, Allowing),
    }
}

#[library_benchmark]
#[bench::of_1_agent(in_turn(1))]
#[bench::of_10_agents(in_turn(10))]
#[bench::of_1000_agents(in_turn(1_000))]
#[bench::of_10_agents_least_loaded(least_loaded(10))]
fn choose_connection(questions: Questions) -> Questions {
    let registry = questions.memory.registry();
    for (agent, id) in &questions.agents_and_ids {
        assert!(black_box(registry.choose(agent, id)).is_some());
    }
    questions
}

#[library_benchmark]
#[bench::of_10_agents(at_home(10))]
fn choose_connection_at_home(mut questions: Questions) -> Questions {
    let registry = questions.memory.registry();
    questions.memory.run(async {
        for (agent, id) in &questions.agents_and_ids {
            assert!(black_box(registry.choose(agent, id)).is_some());
        }
    });
    questions
}

/// Few for the size of the map, so that collisions are rare whatever the seed.
const OTHERS: usize = 50;

/// A map in which other exchanges are, and ids.
struct Bindings {
    affinities: AffinityMap,
    ids: Vec<String>,
    _memory: InMemory,
}

fn without_the_ids() -> Bindings {
    let memory = InMemory::new(1, AgentPoolConfig::default(), Allowing);
    let affinities = memory.affinities();
    (0..OTHERS).for_each(|other| affinities.store(&format!("another-{other}")));
    Bindings {
        affinities,
        ids: ids(),
        _memory: memory,
    }
}

fn with_the_ids() -> Bindings {
    with_each_id(without_the_ids(), AffinityMap::store)
}

fn with_each_id(bindings: Bindings, operate: impl Fn(&AffinityMap, &str)) -> Bindings {
    for id in &bindings.ids {
        operate(&bindings.affinities, id);
    }
    bindings
}

#[library_benchmark]
#[bench::beside_50(without_the_ids())]
fn affinity_store(bindings: Bindings) -> Bindings {
    with_each_id(bindings, AffinityMap::store)
}

#[library_benchmark]
#[bench::beside_50(with_the_ids())]
fn affinity_look_up(bindings: Bindings) -> Bindings {
    with_each_id(bindings, |affinities, id| {
        assert!(black_box(affinities.look_up(id)).is_some());
    })
}

#[library_benchmark]
#[bench::beside_50(with_the_ids())]
fn affinity_clear(bindings: Bindings) -> Bindings {
    with_each_id(bindings, AffinityMap::clear)
}

/// An agent that was asked before.
fn asked_agent(encoding: Encoding, use_extension: bool) -> InMemory {
    let config = AgentPoolConfig {
        connections_per_agent: 1,
        encodings: vec![encoding],
        use_extension,
        ..AgentPoolConfig::default()
    };
    let memory = InMemory::new(1, config, Allowing);
    put_headers(put_headers(memory))
}

/// Encode, send, take apart, decode, answer, match: all that both sides do.
fn put_headers(mut memory: InMemory) -> InMemory {
    let (pool, agent, event) = (memory.pool(), agent_name(0), request_headers(10));
    memory.run(async {
        for id in ids() {
            let answer = pool.send(&agent, &id, &event).await;
            assert!(answer.is_ok_and(|answer| answer.decision == Decision::Allow));
            pool.clear_correlation_affinity(&id);
        }
    });
    memory
}

#[library_benchmark]
#[bench::message_pack(asked_agent(Encoding::MessagePack, true))]
#[bench::json(asked_agent(Encoding::Json, true))]
#[bench::protobuf(asked_agent(Encoding::Protobuf, true))]
#[bench::published_message_pack(asked_agent(Encoding::MessagePack, false))]
#[bench::published_json(asked_agent(Encoding::Json, false))]
fn whole_call_with_headers(memory: InMemory) -> InMemory {
    put_headers(memory)
}

/// An exchange in the middle of a body.
struct Upload {
    memory: InMemory,
    exchange: Exchange,
    chunk: RequestBodyChunkEvent,
}

fn upload_of(chunk_size: usize) -> Upload {
    let memory = asked_agent(Encoding::MessagePack, true);
    let exchange = memory.pool().exchange(&agent_name(0), "an-upload");
    let upload = Upload {
        memory,
        exchange: exchange.expect("an agent with a connection"),
        chunk: RequestBodyChunkEvent::new("an-upload", vec![7; chunk_size], 3, false),
    };
    put_chunks(put_chunks(upload))
}

fn put_chunks(mut upload: Upload) -> Upload {
    let (exchange, chunk) = (&mut upload.exchange, &upload.chunk);
    upload.memory.run(async {
        for _ in 0..OPERATIONS {
            assert!(exchange.send(chunk).await.is_ok());
        }
    });
    upload
}

#[library_benchmark]
#[bench::of_1_kib(upload_of(1 << 10))]
#[bench::of_64_kib(upload_of(64 << 10))]
fn whole_call_with_chunk(upload: Upload) -> Upload {
    put_chunks(upload)
}

/// Calls on their way at once.
const PIPELINED: usize = 10;

fn push_chunks(mut upload: Upload) -> Upload {
    let (exchange, chunk) = (&mut upload.exchange, &upload.chunk);
    upload.memory.run(async {
        for _ in 0..OPERATIONS / PIPELINED {
            for _ in 0..PIPELINED {
                assert!(exchange.push(chunk).await.is_ok());
            }
            while let Some(answer) = exchange.next_answer().await {
                assert!(answer.is_ok());
            }
        }
    });
    upload
}

fn pipelined_upload_of(chunk_size: usize) -> Upload {
    push_chunks(upload_of(chunk_size))
}

#[library_benchmark]
#[bench::of_1_kib(pipelined_upload_of(1 << 10))]
fn whole_call_with_pipelined_chunk(upload: Upload) -> Upload {
    push_chunks(upload)
}

fn ids() -> Vec<String> {
    let id = |number: usize| format!("0f8fad5b-d9cb-469f-a165-{number:012x}");
    (0..OPERATIONS).map(id).collect()
}

library_benchmark_group!(
    name = pool_parts;
    benchmarks =
        choose_connection,
        choose_connection_at_home,
        affinity_store,
        affinity_look_up,
        affinity_clear,
        whole_call_with_headers,
        whole_call_with_chunk,
        whole_call_with_pipelined_chunk
);
