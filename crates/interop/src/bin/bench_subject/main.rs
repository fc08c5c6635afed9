//! Subjects of `scripts/bench-peers` that are not peers: tollgate and the floor.

mod engine;
mod floor;

use clap::{Parser, Subcommand};
use tollgate::{Encoding, SharedMemory};
use tollgate_load_driver::{CountingAlloc, Role, run, runtime};

#[global_allocator]
static ALLOCATOR: CountingAlloc = CountingAlloc;

/// Measure tollgate or the floor.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Subcommand)]
enum Subject {
    /// Tollgate with MessagePack
    #[command(subcommand)]
    TollgateMsgpack(Role),
    /// Tollgate with MessagePack through shared memory
    #[command(subcommand)]
    TollgateShared(Role),
    /// Tollgate with MessagePack through shared memory, neither side ever sleeping
    #[command(subcommand)]
    TollgateSharedBusy(Role),
    /// Tollgate with JSON
    #[command(subcommand)]
    TollgateJson(Role),
    /// Tollgate with MessagePack, the agent connecting to the proxy
    #[command(subcommand)]
    TollgateReverse(Role),
    /// Tollgate with the agent in the process of the proxy, whatever the number of processes
    #[command(subcommand)]
    InProcess(Role),
    /// Tollgate over gRPC
    #[command(subcommand)]
    TollgateGrpc(Role),
    /// Floor: messages of the same length over bare sockets
    #[command(subcommand)]
    Floor(Role),
    /// Floor: messages of the same length over bare gRPC
    #[command(subcommand)]
    FloorGrpc(Role),
}

fn main() -> anyhow::Result<()> {
    let subject = Cli::parse().subject;
    runtime()?.block_on(async {
        match subject {
            Subject::TollgateMsgpack(role) => {
                let subject = engine::Tollgate::new(Encoding::MessagePack);
                run(role, subject, &["tollgate-msgpack"]).await
            }
            Subject::TollgateShared(role) => {
                let subject = engine::Tollgate::new(Encoding::MessagePack)
                    .through_shared_memory(SharedMemory::Adaptive);
                run(role, subject, &["tollgate-shared"]).await
            }
            Subject::TollgateSharedBusy(role) => {
                let subject = engine::Tollgate::new(Encoding::MessagePack)
                    .through_shared_memory(SharedMemory::BusyPoll);
                run(role, subject, &["tollgate-shared-busy"]).await
            }
            Subject::TollgateJson(role) => {
                let subject = engine::Tollgate::new(Encoding::Json);
                run(role, subject, &["tollgate-json"]).await
            }
            Subject::TollgateReverse(role) => {
                run(role, engine::Reverse, &["tollgate-reverse"]).await
            }
            Subject::InProcess(role) => run(role, engine::InProcess, &["in-process"]).await,
            Subject::TollgateGrpc(role) => run(role, engine::Grpc, &["tollgate-grpc"]).await,
            Subject::Floor(role) => run(role, floor::Sockets, &["floor"]).await,
            Subject::FloorGrpc(role) => run(role, floor::Grpc, &["floor-grpc"]).await,
        }
    })
}
