//! Processors for which seccompiler writes no programs.

/// Refuses nothing.
///
/// # Errors
/// Always.
pub(super) fn refuse() -> Result<(), String> {
    Err(format!("not on this processor ({})", std::env::consts::ARCH))
}
