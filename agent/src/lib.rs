//! The dmc agent as a library: thin IO around the pure state machine of `dmc-protocol`.

pub mod agent;
pub mod archive;
pub mod config;
pub mod custody;
pub mod discovery;
pub mod forecast;
#[doc(hidden)]
pub mod fuzzing;
pub mod hours;
pub mod http;
pub mod identity;
pub mod intact;
pub mod intake;
pub mod items;
pub mod jobs;
pub mod library;
pub mod machine;
pub mod manners;
pub mod media;
pub mod members;
pub mod net;
pub mod news;
pub mod owner;
mod pake;
pub mod paths;
pub mod power;
pub mod presets;
pub mod replace;
pub mod room;
pub mod runtime;
pub mod service;
pub mod source;
pub mod speeds;
pub mod state;
pub mod tls;
pub mod webhooks;
pub mod worker;
