//! The dmc agent as a library: thin IO around the pure state machine of `dmc-protocol`.
pub mod media;
