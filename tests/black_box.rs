//! Tests of the program `dmc` from outside: real processes, real films, the public command line.
//!
//! They are one binary, because linking one is quicker than linking four.

#[cfg(test)]
mod access;
#[cfg(test)]
mod api;
#[cfg(test)]
mod bad_luck;
#[cfg(test)]
mod browser;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod comparator;
#[cfg(test)]
mod fidelity;
#[cfg(test)]
mod install;
#[cfg(test)]
mod items;
#[cfg(test)]
mod library;
#[cfg(test)]
mod manners;
#[cfg(test)]
mod membership;
#[cfg(test)]
mod mesh;
#[cfg(test)]
mod presets;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod remote;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
mod sound;
#[cfg(test)]
mod stills;
#[cfg(test)]
mod support;
