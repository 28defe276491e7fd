//! What people see of a job that another agent keeps.

use dmc_protocol::handover::{CustodyReport, HandedEnd, HandedState};
use dmc_protocol::mesh::Mesh;
use dmc_protocol::mesh::handover::Handed;

/// Where a job that was handed over stands.
pub(super) struct HandedView {
    /// Its status and phase; `None` when this agent does it itself, and its own job tells.
    pub stands: Option<(&'static str, &'static str)>,
    /// 0 to 1.
    pub progress: f64,
    /// What it waits for.
    pub waiting: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// The custodian's name.
    pub custodian: Option<String>,
}

impl HandedView {
    /// Of a job that is over and that another agent kept.
    pub fn of_past(custodian: String) -> HandedView {
        HandedView {
            stands: None,
            progress: 0.0,
            waiting: None,
            error: None,
            custodian: Some(custodian),
        }
    }
}

pub(super) fn view(mesh: &Mesh, handed: &Handed) -> HandedView {
    let custodian = handed.record.to.map(|to| mesh.name_of(to));
    let progress = match (&handed.report, &handed.record.state) {
        (_, HandedState::Returning(_)) => 1.0,
        (Some(CustodyReport::Working { done }), _) => f64::from(*done) / 10_000.0,
        _ => 0.0,
    };
    let (mut waiting, mut error) = (None, None);
    let stands = match &handed.record.state {
        HandedState::Offered => {
            waiting = Some(offered(handed, custodian.as_deref()));
            Some(("in_progress", "handing_over"))
        }
        HandedState::Away => Some(("in_progress", "handed_over")),
        HandedState::Returning(_) => {
            waiting.clone_from(&handed.trouble);
            Some(("in_progress", "returning"))
        }
        HandedState::Own | HandedState::Over(HandedEnd::Own) => None,
        HandedState::Over(HandedEnd::Published | HandedEnd::Delivered) => {
            Some(("finished_successful", "over"))
        }
        HandedState::Over(HandedEnd::Failed(why)) => {
            error = Some(why.clone());
            Some(("finished_with_errors", "over"))
        }
        HandedState::Over(HandedEnd::Cancelled) => Some(("cancelled", "over")),
    };
    HandedView { stands, progress, waiting, error, custodian }
}

fn offered(handed: &Handed, custodian: Option<&str>) -> String {
    if let Some(name) = custodian {
        return format!("{name} fetches the source; this machine must stay until then");
    }
    let refusals = handed.refusals().join("; ");
    let why = if refusals.is_empty() { String::new() } else { format!(" ({refusals})") };
    let then = match handed.record.handed.deliver_to {
        Some(_) => "it is asked again and again",
        None => "without one, this machine does it",
    };
    format!("looking for an agent that keeps the job{why}; {then}")
}
