//! Who may speak with this agent. The one place where that is decided.

use dmc_protocol::id::AgentId;

/// Whether a peer may use any of our protocols. For now every agent on the link that speaks the
/// protocol is a member of the mesh.
pub(super) fn admits(_peer: AgentId) -> bool {
    true
}
