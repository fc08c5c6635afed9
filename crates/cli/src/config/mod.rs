//! `tollgate config`: configurations with which proxies ask an agent.

mod address;
mod envoy;

use clap::Subcommand;

/// Options of `tollgate config`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    proxy: Proxy,
}

#[derive(Subcommand)]
enum Proxy {
    /// Print a whole bootstrap with which Envoy asks an agent by ext_proc, and fails closed
    Envoy(envoy::Args),
}

/// Prints or writes the configuration of a proxy.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.proxy {
        Proxy::Envoy(args) => envoy::run(args),
    }
}
