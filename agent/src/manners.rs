//! How this agent leaves its machine to the person who uses it: it looks every second at what others
//! need, decides, and stops or slows down what works for attempts.

mod judge;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use dmc_protocol::condition::Yields;
use dmc_protocol::mesh::Input;
use dmc_protocol::message::AgentInfo;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::info;

use crate::machine::{Machine, Ticks};
use crate::media::children::Children;
use crate::runtime::Shared;

use judge::{Judge, Seen};

/// The variable that names another root of `/proc` and `/sys`, for tests.
const ROOT: &str = "DMC_SYSTEM_ROOT";
/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);
/// Every so many looks, what peers and people see of the machine is told anew.
const TELL_EVERY: u32 = 10;
/// One turn of running and resting, where the encoders get a share of the time.
const TURN: Duration = Duration::from_millis(200);

/// What is done with work at hand while the machine is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum YieldHow {
    /// It is stopped, and goes on where it was.
    Pause,
    /// It is finished.
    Finish,
}

/// Why the agent yields, for people.
pub fn reason(why: Yields) -> &'static str {
    match why {
        Yields::Load => "other programs need the processor",
        Yields::Battery => "it runs on its battery",
        Yields::Other => "its person needs it",
    }
}

/// Looks until the agent stops.
pub fn begin(shared: Arc<Shared>) {
    let tasks = shared.tasks.clone();
    let share = shared.settings.cpu_share_percent;
    if share < 100 {
        tasks.spawn(share_out(Arc::clone(&shared), share));
    }
    tasks.spawn(async move {
        let stop = shared.stop.clone();
        tokio::select! {
            () = watch(shared) => {}
            () = stop.cancelled() => {}
        }
    });
}

async fn watch(shared: Arc<Shared>) {
    let settings = &shared.settings;
    let machine = Machine::at(std::env::var_os(ROOT).unwrap_or_else(|| "/".into()));
    let mut meter = Meter::default();
    let mut judge = Judge::new(settings);
    let (mut why, mut since, mut given_back) = (None, Instant::now(), false);
    let mut interval = tokio::time::interval(LOOK);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for look in 0_u32.. {
        interval.tick().await;
        // Some sensors take their time.
        let (of, children, warm) =
            (machine.clone(), Arc::clone(&shared.children), look.is_multiple_of(TELL_EVERY));
        let read = tokio::task::spawn_blocking(move || Look::at(&of, &children, warm));
        let Ok(seen) = read.await else { continue };
        let others = seen.ticks.and_then(|ticks| meter.others(ticks, seen.own));
        let now = judge.judge(Seen { others, battery: seen.battery });
        if now != why {
            (why, since, given_back) = (now, Instant::now(), false);
            change(&shared, why).await;
        }
        let patience = Duration::from_secs(settings.yield_give_back_min.saturating_mul(60));
        if why.is_some() && !given_back && since.elapsed() >= patience {
            given_back = true;
            shared.tell(Input::GiveBack).await;
        }
        if warm {
            tell(&shared, &seen, why).await;
        }
    }
}

/// One look at the machine.
struct Look {
    ticks: Option<Ticks>,
    own: u64,
    battery: bool,
    load: Option<f64>,
    temperature_c: Option<u8>,
}

impl Look {
    fn at(machine: &Machine, children: &Children, warm: bool) -> Look {
        Look {
            own: children.ticks(),
            ticks: machine.ticks(),
            battery: machine.on_battery(),
            load: machine.load().filter(|_| warm),
            temperature_c: machine.temperature_c().filter(|_| warm),
        }
    }
}

/// Tells how much of the processor others used since the last look.
#[derive(Default)]
struct Meter {
    last: Option<(Ticks, u64)>,
}

impl Meter {
    /// 0 to 1, as a part of all threads.
    fn others(&mut self, ticks: Ticks, own: u64) -> Option<f64> {
        let (before, own_before) = self.last.replace((ticks, own))?;
        let all = ticks.all.checked_sub(before.all).filter(|all| *all > 0)?;
        let busy = ticks.busy.saturating_sub(before.busy);
        let others = busy.saturating_sub(own.saturating_sub(own_before));
        Some((others as f64 / all as f64).clamp(0.0, 1.0))
    }
}

async fn change(shared: &Arc<Shared>, why: Option<Yields>) {
    let stops = why.is_some() && shared.settings.yield_how == YieldHow::Pause;
    match why {
        Some(why) => info!(stops, "leaves the machine to its person: {}", reason(why)),
        None => info!("works again: the machine is free"),
    }
    shared.children.hold(stops);
    let said = {
        let mut info = shared.info.lock().unwrap_or_else(PoisonError::into_inner);
        info.condition.yields = why;
        info.condition.stopped = stops;
        info.clone()
    };
    // Peers hear why together with the fact.
    shared.tell(Input::SetYielding { yields: why.is_some(), stopped: stops }).await;
    shared.tell(Input::Local(said)).await;
    shared.news.mesh();
}

/// What peers and people see of the machine.
async fn tell(shared: &Arc<Shared>, seen: &Look, why: Option<Yields>) {
    let share = shared.settings.cpu_share_percent;
    let said: Option<AgentInfo> = {
        let mut info = shared.info.lock().unwrap_or_else(PoisonError::into_inner);
        let before = info.condition;
        let condition = &mut info.condition;
        condition.load_x100 = seen.load.map(|load| (load.clamp(0.0, 1e6) * 100.0).round() as u32);
        condition.temperature_c = seen.temperature_c;
        condition.threads =
            std::thread::available_parallelism().ok().and_then(|n| u32::try_from(n.get()).ok());
        condition.yields = why;
        condition.share_percent = u8::try_from(share).ok().filter(|share| *share < 100);
        info.on_battery = seen.battery;
        (info.condition != before).then(|| info.clone())
    };
    if let Some(info) = said {
        shared.tell(Input::Local(info)).await;
    }
}

/// Lets the encoders run for a part of each turn, as long as there are any.
async fn share_out(shared: Arc<Shared>, percent: u32) {
    let on = TURN * percent.max(1) / 100;
    while !shared.stop.is_cancelled() {
        if shared.children.any() {
            shared.children.rest(true);
            tokio::time::sleep(TURN.saturating_sub(on)).await;
        }
        shared.children.rest(false);
        tokio::time::sleep(on).await;
    }
    shared.children.rest(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_agent_uses_itself_is_nobody_elses() {
        let mut meter = Meter::default();
        let ticks = |busy, all| Ticks { busy, all };
        assert_eq!(meter.others(ticks(100, 1_000), 50), None, "one look tells nothing");
        assert_eq!(meter.others(ticks(300, 1_400), 250), Some(0.0), "all of it was its own");
        assert_eq!(meter.others(ticks(600, 1_800), 350), Some(0.5));
        assert_eq!(meter.others(ticks(600, 1_800), 350), None, "no time has passed");
        assert_eq!(meter.others(ticks(700, 2_200), 9_999), Some(0.0), "counts may be late");
    }
}
