//! Faults rain on a mesh that has work to do, in rounds.
//!
//! A round asks some hosts for conversions, lets a few faults happen at random moments, ends them
//! all, and waits until every job is over. Then every result must be whole and nothing may be left.
//! The agents live on from round to round. One seed says what happens when; what the agents make of
//! it depends on the machine.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use dmc_tests::rng::Rng;

use super::apart::{apart, ordinary};
use super::faults::Kind;
use super::mesh::{Asked, JOB_LIMIT, Mesh};
use super::report::Report;
use super::{blobs, link, redo};
use crate::support::compare::Depth;
use crate::support::zoo;

const HOSTS: usize = 3;
/// Nobody's disk is short of room by itself.
const DISK_MIB: u64 = 400;
/// Faults of one round.
const FAULTS_A_ROUND: (u64, u64) = (7, 13);
/// Between two faults, in milliseconds.
const PAUSE_MS: (u64, u64) = (100, 2_300);

/// What is converted, and how: short work of every kind.
const WORK: &[(&str, &[&str])] = &[
    ("plain.mp4", &["--preset", "lossless", "--segment-seconds", "2"]),
    ("h264_opengop.mkv", &["--preset", "lossless", "--segment-seconds", "2"]),
    ("plain.mp4", &["--codec", "h264", "--encoder-speed", "fast", "--segment-seconds", "2"]),
    (
        "plain.mp4",
        &[
            "--codec",
            "h264",
            "--encoder-speed",
            "fast",
            "--segment-seconds",
            "3",
            "--audio-codec",
            "opus",
        ],
    ),
];

/// The end of a fault.
enum End {
    Start(usize),
    Wake(usize),
    Join(usize, usize),
    Plug(usize, bool),
    Clear(usize, &'static str),
}

/// The machine that makes the weather.
struct Rain {
    mesh: Mesh,
    rng: Rng,
    kinds: Vec<(Kind, u64)>,
    ends: Vec<(Instant, End)>,
    asked: Vec<Asked>,
    sent: usize,
    report: Report,
    turns: [usize; HOSTS],
}

#[test]
fn kills_at_random_moments_lose_nothing() {
    apart("rain::kills_at_random_moments_lose_nothing", ordinary(), |dir| {
        let mut rain = Rain::start(dir, 1, Kind::KILLS);
        rain.fall(52);
        rain.report.print();
    });
}

#[test]
fn faults_of_every_kind_lose_nothing() {
    let named = |name: &str| env::var(name).ok();
    let limit = if named("DMC_FAULTS").is_some() { None } else { ordinary() };
    apart("rain::faults_of_every_kind_lose_nothing", limit, |dir| {
        let number = |name: &str| named(name).map(|text| text.parse().unwrap());
        let kinds = named("DMC_FAULT_KINDS").map(|text| {
            let one =
                |name| (Kind::named(name).unwrap_or_else(|| panic!("no fault is a {name}")), 1);
            text.split(',').map(one).collect::<Vec<_>>()
        });
        let kinds = kinds.as_deref().unwrap_or(Kind::ALL);
        let mut rain = Rain::start(dir, number("DMC_FAULT_SEED").unwrap_or(1), kinds);
        rain.fall(usize::try_from(number("DMC_FAULTS").unwrap_or(30)).unwrap());
        rain.report.print();
    });
}

impl Rain {
    fn start(dir: &std::path::Path, seed: u64, kinds: &[(Kind, u64)]) -> Self {
        Self {
            mesh: Mesh::start(dir, HOSTS, DISK_MIB),
            rng: Rng::new(seed),
            kinds: kinds.to_vec(),
            ends: Vec::new(),
            asked: Vec::new(),
            sent: 0,
            report: Report::new(seed),
            turns: [0; HOSTS],
        }
    }

    /// Rounds until so many faults have happened.
    fn fall(&mut self, faults: usize) {
        while self.report.faults() < faults {
            let left = faults - self.report.faults();
            let of_round = usize::try_from(self.rng.within(FAULTS_A_ROUND)).unwrap();
            self.round(of_round.min(left));
        }
    }

    fn round(&mut self, faults: usize) {
        let from = format!("{:.6}", jiff::Timestamp::now());
        self.asked.clear();
        let until = self.report.faults() + faults;
        self.ask();
        self.ask();
        while self.report.faults() < until {
            let pause = Duration::from_millis(self.rng.within(PAUSE_MS));
            self.pass(pause);
            self.strike();
            if self.is_idle() {
                self.ask();
            }
        }
        // The last faults end in their time, too.
        while let Some(last) = self.ends.iter().map(|(when, _)| *when).max() {
            self.pass(last.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        }
        let calm = Instant::now();
        let connected = self.mesh.wait_connected();
        let jobs = self.mesh.wait_done(JOB_LIMIT);
        let recovery = calm.elapsed();
        for asked in std::mem::take(&mut self.asked) {
            self.mesh.check_result(&asked, &jobs);
        }
        let owners = self.owners();
        let redone = redo::count(&self.mesh, &from, &owners);
        self.mesh.check_tidy(&jobs);
        self.report.round(jobs.len(), &redone, connected, recovery);
    }

    /// The owner of every job.
    fn owners(&self) -> BTreeMap<String, usize> {
        let mut owners = BTreeMap::new();
        for host in &self.mesh.hosts {
            for job in host.jobs().unwrap_or_default() {
                owners.insert(job.id().to_owned(), host.n);
            }
        }
        owners
    }

    /// Asks a host that is there for one more conversion.
    fn ask(&mut self) {
        let (source, words) = WORK[self.pick(WORK.len())];
        let first = self.pick(HOSTS);
        let Some(host) = (0..HOSTS).map(|n| (first + n) % HOSTS).find(|n| self.is_there(*n)) else {
            return;
        };
        self.sent += 1;
        let name = format!("film-{}.mkv", self.sent);
        let source: PathBuf = zoo::get(source);
        let id = self.mesh.hosts[host].submit(&source, &name, words).ok();
        self.report.asked(id.is_some());
        let depth = if words.contains(&"lossless") { Depth::Lossless } else { Depth::Times };
        self.asked.push(Asked { host, id, source, name, depth });
    }

    fn pick(&mut self, count: usize) -> usize {
        usize::try_from(self.rng.within((0, count as u64 - 1))).unwrap()
    }

    /// Whether a host is up and nothing is wrong with it just now.
    fn is_there(&mut self, n: usize) -> bool {
        let troubled = self.ends.iter().any(|(_, end)| end.host() == n);
        !troubled && self.mesh.hosts[n].is_awake() && self.mesh.hosts[n].ask(&["status"]).is_some()
    }

    /// Whether no host that answers has a job left.
    fn is_idle(&mut self) -> bool {
        let open = |job: &crate::support::dmc::Job| job.status() != "finished_successful";
        let hosts: Vec<usize> = (0..HOSTS).filter(|n| self.is_there(*n)).collect();
        !hosts.iter().any(|n| self.mesh.hosts[*n].jobs().unwrap_or_default().iter().any(open))
    }

    /// Lets time pass; faults whose time is over end.
    fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        loop {
            let due = self.ends.iter().position(|(when, _)| *when <= Instant::now());
            if let Some(due) = due {
                let (_, ended) = self.ends.remove(due);
                self.end(&ended);
            } else if Instant::now() < end {
                thread::sleep(Duration::from_millis(5));
            } else {
                return;
            }
        }
    }

    fn end(&mut self, ended: &End) {
        self.mesh.hosts[ended.host()].note(&format!("TEST {}", ended.name()));
        match *ended {
            End::Start(n) => self.mesh.hosts[n].start(),
            End::Wake(n) => self.mesh.hosts[n].wake(),
            End::Join(a, b) => link::join(a, b),
            End::Plug(n, up) => link::plug(n, up),
            End::Clear(n, disk) => self.mesh.hosts[n].clear(disk),
        }
    }

    /// One fault, if the dice find a victim for it.
    fn strike(&mut self) {
        let kind = Kind::draw(&self.kinds, &mut self.rng);
        let lasts = kind.lasts(&mut self.rng);
        let (first, second) = (self.pick(HOSTS), self.pick(HOSTS - 1));
        let owners: Vec<usize> = self.asked.iter().map(|asked| asked.host).collect();
        let suits = |n: usize| {
            !(kind.aims_at_owner() && !owners.contains(&n)
                || kind.aims_at_worker() && owners.contains(&n))
        };
        let turn = |n: usize| (first + n) % HOSTS;
        let any = (0..HOSTS).map(turn).find(|n| suits(*n)).unwrap_or(first);
        let other = (any + 1 + second) % HOSTS;
        if !self.is_struck(kind, any, other, lasts) {
            return;
        }
        let number = self.report.fault(kind);
        let mut concerned = vec![any];
        if matches!(kind, Kind::KillBoth | Kind::Part) {
            concerned.push(other);
        }
        if kind == Kind::Alone {
            concerned = (0..HOSTS).collect();
        }
        for n in concerned {
            self.mesh.hosts[n].note(&format!("FAULT {number} {kind} at h{any}"));
        }
    }

    /// Does it; false when this victim cannot be struck so just now.
    fn is_struck(&mut self, kind: Kind, any: usize, other: usize, lasts: Duration) -> bool {
        let when = Instant::now() + lasts;
        // A host that is down, asleep or cut off already is not struck again until that ended.
        if self.is_marked(any) || !self.mesh.hosts[any].is_up() {
            return false;
        }
        match kind {
            Kind::KillOwner | Kind::KillWorker => self.kill(any, false, when),
            Kind::PowerOwner | Kind::PowerWorker => self.kill(any, true, when),
            Kind::KillBoth => {
                self.kill(any, false, when);
                if !self.is_marked(other) && self.mesh.hosts[other].is_up() {
                    let when = Instant::now() + kind.lasts(&mut self.rng);
                    self.kill(other, false, when);
                }
            }
            Kind::Restart => {
                let took = self.mesh.hosts[any].stop();
                self.report.stopped(took);
                self.ends.push((when, End::Start(any)));
            }
            Kind::Sleep => {
                self.mesh.hosts[any].sleep();
                self.ends.push((when, End::Wake(any)));
            }
            Kind::Part => self.part(any, other, when),
            Kind::Alone => {
                for n in (0..HOSTS).filter(|n| *n != any) {
                    self.part(any, n, when);
                }
            }
            Kind::Flap => self.flap(any),
            Kind::Address => {
                let turn = self.turns[any];
                link::change_address(any, turn, turn + 1);
                self.turns[any] = turn + 1;
            }
            Kind::StateFull | Kind::OutFull => {
                let disk = if kind == Kind::StateFull { "data" } else { "out" };
                self.mesh.hosts[any].fill(disk);
                self.ends.push((when, End::Clear(any, disk)));
            }
            Kind::Corrupt => return blobs::flip(&self.mesh.hosts[any].data(), &mut self.rng),
        }
        true
    }

    fn is_marked(&self, n: usize) -> bool {
        self.ends.iter().any(|(_, end)| end.host() == n)
    }

    fn kill(&mut self, n: usize, with_children: bool, when: Instant) {
        self.mesh.hosts[n].kill(with_children);
        self.ends.push((when, End::Start(n)));
    }

    fn part(&mut self, a: usize, b: usize, when: Instant) {
        let (a, b) = (a.min(b), a.max(b));
        let parted =
            |(_, end): &(Instant, End)| matches!(end, End::Join(x, y) if (*x, *y) == (a, b));
        if !self.ends.iter().any(parted) {
            link::part(a, b);
            self.ends.push((when, End::Join(a, b)));
        }
    }

    /// Down now, up and down again soon, up for good within two seconds.
    fn flap(&mut self, n: usize) {
        link::plug(n, false);
        let mut when = Instant::now();
        for up in [true, false, true] {
            when += Duration::from_millis(self.rng.within((100, 700)));
            self.ends.push((when, End::Plug(n, up)));
        }
    }
}

impl End {
    fn host(&self) -> usize {
        match *self {
            End::Start(n) | End::Wake(n) | End::Join(n, _) | End::Plug(n, _) | End::Clear(n, _) => {
                n
            }
        }
    }

    fn name(&self) -> String {
        match self {
            End::Start(_) => "the end of a pause".to_owned(),
            End::Wake(_) => "wakes it".to_owned(),
            End::Join(a, b) => format!("h{a} and h{b} hear each other again"),
            End::Plug(_, up) => format!("cable {}", if *up { "in" } else { "out" }),
            End::Clear(_, disk) => format!("room on {disk}"),
        }
    }
}
