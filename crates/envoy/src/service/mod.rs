//! The services beside ext_proc.

pub(crate) mod check;
pub(crate) mod health;
pub(crate) mod reflection;
