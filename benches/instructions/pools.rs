use crate::OPERATIONS;
use crate::common::{Allowing, Pairs, hyper_request_headers, request_headers};
use iai_callgrind::{library_benchmark, library_benchmark_group};
use std::hint::black_box;
use tollgate::bench::{AffinityMap, InMemory, agent_name, choose};
use tollgate::{
    Agent, AgentPoolConfig, Decision, Encoding, Event, Exchange, LoadBalanceStrategy, Placement,
    RequestHeaders, events::RequestBodyChunkEvent,
};

/// Agents, and the agent and correlation id of each call.
struct Calls {
    memory: InMemory,
    agents_and_ids: Vec<(Agent, String)>,
}

fn round_robin(agents: usize) -> Calls {
    calls_to(agents, AgentPoolConfig::default())
}

fn least_loaded(agents: usize) -> Calls {
    let config =
        AgentPoolConfig::default().load_balance_strategy(LoadBalanceStrategy::LeastConnections);
    calls_to(agents, config)
}

fn per_runtime(agents: usize) -> Calls {
    let config = AgentPoolConfig::default()
        .placement(Placement::PerRuntime)
        .self_maintained(false);
    calls_to(agents, config)
}

fn calls_to(agents: usize, config: AgentPoolConfig) -> Calls {
    let config = config
        // Saves memory with thousands of connections and does not affect the choice.
        .max_concurrent_per_connection(8)
        .channel_buffer_size(8);
    let agent_of = |at: usize| agent_name(at * 7 % agents);
    let memory = InMemory::new(agents, config, Allowing);
    let pool = memory.pool();
    let agents_and_ids = ids().into_iter().enumerate();
    let agents_and_ids = agents_and_ids.map(|(at, id)| {
        let agent = pool.agent(&agent_of(at));
        (agent.expect("an agent"), id)
    });
    Calls {
        agents_and_ids: agents_and_ids.collect(),
        memory,
    }
}

#[library_benchmark]
#[bench::of_1_agent(round_robin(1))]
#[bench::of_10_agents(round_robin(10))]
#[bench::of_1000_agents(round_robin(1_000))]
#[bench::of_10_agents_least_loaded(least_loaded(10))]
fn choose_connection(calls: Calls) -> Calls {
    for (agent, id) in &calls.agents_and_ids {
        assert!(black_box(choose(agent, id)).is_some());
    }
    calls
}

#[library_benchmark]
#[bench::of_10_agents(per_runtime(10))]
fn choose_connection_at_home(mut calls: Calls) -> Calls {
    calls.memory.run(async {
        for (agent, id) in &calls.agents_and_ids {
            assert!(black_box(choose(agent, id)).is_some());
        }
    });
    calls
}

/// Entries of other exchanges. They are few for the size of the map, so that collisions are rare
/// with any seed.
const OTHERS: usize = 50;

/// A map that pins other exchanges, and the ids of more exchanges.
struct Pins {
    affinities: AffinityMap,
    ids: Vec<String>,
    _memory: InMemory,
}

fn without_the_ids() -> Pins {
    let memory = InMemory::new(1, AgentPoolConfig::default(), Allowing);
    let affinities = memory.affinities();
    (0..OTHERS).for_each(|other| affinities.store(&format!("another-{other}")));
    Pins {
        affinities,
        ids: ids(),
        _memory: memory,
    }
}

fn with_the_ids() -> Pins {
    with_each_id(without_the_ids(), AffinityMap::store)
}

fn with_each_id(pins: Pins, operate: impl Fn(&AffinityMap, &str)) -> Pins {
    for id in &pins.ids {
        operate(&pins.affinities, id);
    }
    pins
}

#[library_benchmark]
#[bench::beside_50(without_the_ids())]
fn affinity_store(pins: Pins) -> Pins {
    with_each_id(pins, AffinityMap::store)
}

#[library_benchmark]
#[bench::beside_50(with_the_ids())]
fn affinity_look_up(pins: Pins) -> Pins {
    with_each_id(pins, |affinities, id| {
        assert!(black_box(affinities.look_up(id)).is_some());
    })
}

#[library_benchmark]
#[bench::beside_50(with_the_ids())]
fn affinity_clear(pins: Pins) -> Pins {
    with_each_id(pins, AffinityMap::clear)
}

/// Returns an agent with one connection.
fn agent_with(encoding: Encoding, use_extension: bool) -> InMemory {
    let config = AgentPoolConfig::default()
        .connections_per_agent(1)
        .encodings(vec![encoding])
        .use_extension(use_extension);
    InMemory::new(1, config, Allowing)
}

/// An agent to which calls were made before, and what the next ones send.
struct Heads<E> {
    memory: InMemory,
    ids: Vec<String>,
    event: E,
}

fn heads_of<E: Event>(memory: InMemory, event: E) -> Heads<E> {
    let heads = Heads {
        memory,
        ids: ids(),
        event,
    };
    send_heads(send_heads(heads))
}

/// Makes calls: both sides encode, send, decode and match the answer.
fn send_heads<E: Event>(mut heads: Heads<E>) -> Heads<E> {
    let pool = heads.memory.pool();
    let agent = pool.agent(&agent_name(0)).expect("an agent");
    heads.memory.run(async {
        for id in &heads.ids {
            let answer = agent.send(id, &heads.event).await;
            assert!(answer.is_ok_and(|answer| answer.decision == Decision::Allow));
            pool.unpin(id);
        }
    });
    heads
}

type ListHead = RequestHeaders<'static, Pairs>;
type MapHead = RequestHeaders<'static, http::HeaderMap>;

fn list_heads(encoding: Encoding, use_extension: bool) -> Heads<ListHead> {
    heads_of(agent_with(encoding, use_extension), request_headers(10))
}

fn map_heads(encoding: Encoding, use_extension: bool) -> Heads<MapHead> {
    heads_of(
        agent_with(encoding, use_extension),
        hyper_request_headers(10),
    )
}

#[library_benchmark]
#[bench::message_pack(list_heads(Encoding::MessagePack, true))]
#[bench::json(list_heads(Encoding::Json, true))]
#[bench::protobuf(list_heads(Encoding::Protobuf, true))]
#[bench::published_message_pack(list_heads(Encoding::MessagePack, false))]
#[bench::published_json(list_heads(Encoding::Json, false))]
fn whole_call_with_headers(heads: Heads<ListHead>) -> Heads<ListHead> {
    send_heads(heads)
}

#[library_benchmark]
#[bench::message_pack(map_heads(Encoding::MessagePack, true))]
fn whole_call_with_headers_in_a_map(heads: Heads<MapHead>) -> Heads<MapHead> {
    send_heads(heads)
}

/// Like [`send_heads`], but each call is of an exchange of its own, which needs no affinity.
fn send_heads_of_exchanges<E: Event>(mut heads: Heads<E>) -> Heads<E> {
    let pool = heads.memory.pool();
    let agent = pool.agent(&agent_name(0)).expect("an agent");
    heads.memory.run(async {
        for id in &heads.ids {
            let mut exchange = agent.exchange(id).expect("an agent with a connection");
            let answer = exchange.send(&heads.event).await;
            assert!(answer.is_ok_and(|answer| answer.decision == Decision::Allow));
        }
    });
    heads
}

#[library_benchmark]
#[bench::message_pack(map_heads(Encoding::MessagePack, true))]
fn whole_call_of_an_exchange(heads: Heads<MapHead>) -> Heads<MapHead> {
    send_heads_of_exchanges(heads)
}

/// An exchange in the middle of a body.
struct Upload {
    memory: InMemory,
    exchange: Exchange,
    chunk: RequestBodyChunkEvent,
}

fn upload_of(chunk_size: usize) -> Upload {
    let memory = agent_with(Encoding::MessagePack, true);
    let agent = memory.pool().agent(&agent_name(0)).expect("an agent");
    let exchange = agent.exchange("an-upload");
    let upload = Upload {
        memory,
        exchange: exchange.expect("an agent with a connection"),
        chunk: RequestBodyChunkEvent::new("an-upload", vec![7; chunk_size], 3, false),
    };
    send_chunks(send_chunks(upload))
}

fn send_chunks(mut upload: Upload) -> Upload {
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
    send_chunks(upload)
}

/// Calls in flight.
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
        whole_call_with_headers_in_a_map,
        whole_call_of_an_exchange,
        whole_call_with_chunk,
        whole_call_with_pipelined_chunk
);
