//! Landlock: which files this process and what it becomes may open, and no TCP.
//!
//! A right belongs to the file itself, not to its name, so links and `..` lead nowhere else. What
//! is not listed here is refused with "Permission denied", whoever runs it, root included.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    Scope,
};

use super::files::{self, Right};
use super::spec::Files;

/// The newest interface that is known here. Older kernels know less of it, and enforce what they
/// know: seccomp covers what the oldest leaves open (see `calls`).
const NEWEST: ABI = ABI::V10;

/// Fences this thread in; returns the version of the interface that is used.
///
/// # Errors
/// One sentence about why there is no fence.
pub(super) fn raise(files: &Files, program: &Path) -> Result<u32, String> {
    let status = restrict(files, program).map_err(|error| error.to_string())?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Err("it is switched off (the kernel's parameter lsm= must name landlock)".to_owned())
        }
        (RulesetStatus::NotEnforced, _) => Err("this kernel does not have it".to_owned()),
        (_, LandlockStatus::Available { effective_abi, .. }) => Ok(effective_abi as u32),
        (_, _) => Err("the kernel contradicts itself".to_owned()),
    }
}

fn restrict(files: &Files, program: &Path) -> Result<landlock::RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for (path, right) in files::rights(files, program) {
        // What is not there cannot be opened either.
        let Ok(place) = PathFd::new(&path) else { continue };
        ruleset = ruleset.add_rule(PathBeneath::new(place, access(right, path.is_dir())))?;
    }
    ruleset.restrict_self()
}

fn access(right: Right, is_dir: bool) -> BitFlags<AccessFs> {
    let access = match right {
        Right::Read => AccessFs::ReadFile.into(),
        Right::Execute => AccessFs::ReadFile | AccessFs::Execute,
        Right::Write => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate,
        Right::Drive => AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev,
    };
    if is_dir { access | AccessFs::ReadDir } else { access }
}
