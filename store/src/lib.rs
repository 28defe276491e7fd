//! Durable state of an agent.
