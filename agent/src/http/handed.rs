//! What people see of a job that another agent keeps.

use dmc_protocol::handover::{CustodyReport, HandedState};
use dmc_protocol::mesh::Mesh;
use dmc_protocol::mesh::handover::Handed;

/// Where a job that was handed over stands.
pub(super) struct HandedView {
    /// `handing_over`, `handed_over`, `returning` or `over`; `None` when this agent does it itself.
    pub phase: Option<&'static str>,
    /// 0 to 1.
    pub progress: f64,
    /// What it waits for.
    pub waiting: Option<String>,
    /// The custodian's name.
    pub custodian: Option<String>,
}

pub(super) fn view(mesh: &Mesh, handed: &Handed) -> HandedView {
    let custodian = handed.record.to.map(|to| mesh.name_of(to));
    let progress = match (&handed.report, handed.record.state) {
        (_, HandedState::Returning(_)) => 1.0,
        (Some(CustodyReport::Working { done }), _) => f64::from(*done) / 10_000.0,
        _ => 0.0,
    };
    let (phase, waiting) = match handed.record.state {
        HandedState::Offered => {
            let waiting = match &custodian {
                Some(name) => {
                    format!("{name} fetches the source; this machine must stay until then")
                }
                None => {
                    let refusals = handed.refusals().join("; ");
                    let why =
                        if refusals.is_empty() { String::new() } else { format!(" ({refusals})") };
                    format!(
                        "looking for an agent that keeps the job{why}; without one, this machine \
                         does it"
                    )
                }
            };
            (Some("handing_over"), Some(waiting))
        }
        HandedState::Away => (Some("handed_over"), None),
        HandedState::Returning(_) => (Some("returning"), None),
        HandedState::Over => (Some("over"), None),
        HandedState::Own => (None, None),
    };
    HandedView { phase, progress, waiting, custodian }
}
