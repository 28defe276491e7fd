//! The dmc agent as a library: thin IO around the pure state machine of `dmc-protocol`.

pub mod discovery;
pub mod identity;
pub mod media;
pub mod net;
