//! Prints the public API that a file of rustdoc in JSON describes, one item a line.

use anyhow::Context;
use public_api::Builder;

fn main() -> anyhow::Result<()> {
    let file = std::env::args_os()
        .nth(1)
        .context("usage: tollgate-public-api FILE")?;
    // `tests/it/auto_traits.rs` has the auto traits that are promised.
    let api = Builder::from_rustdoc_json(file)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build()?;
    print!("{api}");
    Ok(())
}
