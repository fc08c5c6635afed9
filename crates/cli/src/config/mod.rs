//! `tollgate config`: configurations with which proxies ask an agent.

#[cfg(any(feature = "envoy", feature = "haproxy"))]
mod address;
#[cfg(feature = "envoy")]
mod envoy;
#[cfg(feature = "haproxy")]
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
    /// Print a whole bootstrap with which Envoy asks an agent by ext_proc, and fails closed
    #[cfg(feature = "envoy")]
    Envoy(envoy::Args),
    /// Write haproxy.cfg and spoe.conf, with which HAProxy 2.6 or later asks agents and fails
    /// closed
    #[cfg(feature = "haproxy")]
    Haproxy(haproxy::Args),
}

/// Prints or writes the configuration of a proxy.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.proxy {
        #[cfg(feature = "envoy")]
        Proxy::Envoy(args) => envoy::run(args),
        #[cfg(feature = "haproxy")]
        Proxy::Haproxy(args) => haproxy::run(args),
    }
}
