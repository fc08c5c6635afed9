//! Parts that the soak test and the attack share.

pub(crate) mod addresses;
pub(crate) mod child;
pub(crate) mod frames;
pub(crate) mod markdown;
pub(crate) mod process;
pub(crate) mod resources;

use std::error::Error;

pub(crate) type Failure = Box<dyn Error + Send + Sync>;
