pub use tollgate_zentinel::*;
