//! The parts that both agents share.

use anyhow::bail;
use std::net::SocketAddr;

/// Returns the address of the command line, and a runtime with one thread.
pub fn begin() -> anyhow::Result<(SocketAddr, tokio::runtime::Runtime)> {
    let mut words = std::env::args().skip(1);
    let (Some(address), None) = (words.next(), words.next()) else {
        bail!("expected one argument: the address to listen on");
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok((address.parse()?, runtime))
}
