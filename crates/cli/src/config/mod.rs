//! `tollgate config`: configurations of proxies that ask agents in a protocol of their own.

mod haproxy;

use clap::Subcommand;

/// Options of `tollgate config`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    proxy: Proxy,
}

#[derive(Subcommand)]
enum Proxy {
    /// Write haproxy.cfg and spoe.conf, with which HAProxy 2.6 or later asks agents and fails
    /// closed
    Haproxy(haproxy::Args),
}

/// Writes the configuration.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.proxy {
        Proxy::Haproxy(args) => haproxy::run(args),
    }
}
