//! Evictions and partitions: whoever is cut off from the member that evicts learns of it when the
//! cut heals, and what the evicted one was doing is done by others.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use super::apart::{apart, ordinary};
use super::host::Host;
use super::link;
use super::mesh::{JOB_LIMIT, MEETING_LIMIT, Mesh};
use super::watch::{Watch, wait_until};
use crate::support::zoo;

const LOSSLESS: &[&str] = &["--preset", "lossless", "--segment-seconds", "2"];

/// The names that a host's status of the mesh has in a list; none while it does not answer.
fn names(host: &Host, list: &str) -> BTreeSet<String> {
    let status = host.ask(&["mesh", "status"]).unwrap_or_default();
    let agents = status[list].as_array().into_iter().flatten();
    agents.filter_map(|agent| agent["name"].as_str()).map(str::to_owned).collect()
}

fn are(hosts: &[usize]) -> BTreeSet<String> {
    hosts.iter().map(|n| format!("h{n}")).collect()
}

#[test]
fn a_partition_delays_an_eviction_and_nothing_else() {
    apart("evicted::a_partition_delays_an_eviction_and_nothing_else", ordinary(), |dir| {
        let mut mesh = Mesh::start(dir, 4, 200);
        for host in &mesh.hosts {
            wait_until("all know all", MEETING_LIMIT, || {
                names(host, "members") == are(&[0, 1, 2, 3])
            });
        }
        // h0 is cut off from everybody, and evicts h3 there.
        for other in [1, 2, 3] {
            link::part(0, other);
        }
        let done = mesh.hosts[0].call(&["mesh", "evict", "h3"]);
        assert!(done.ok(), "{done}");
        thread::sleep(Duration::from_secs(2));
        assert_eq!(names(&mesh.hosts[1], "members"), are(&[0, 1, 2, 3]), "nobody has heard of it");

        // One cut heals: h1 hears of it, and tells h2, which never met h0 again.
        link::join(0, 1);
        for n in [0, 1, 2] {
            let host = &mesh.hosts[n];
            wait_until("it knows", MEETING_LIMIT, || names(host, "members") == are(&[0, 1, 2]));
            assert_eq!(names(host, "former"), are(&[3]));
        }
        wait_until("it is alone", MEETING_LIMIT, || mesh.hosts[3].peers() == 0);
        for other in [2, 3] {
            link::join(0, other);
        }
        wait_until("the others are together", MEETING_LIMIT, || {
            [0, 1, 2].iter().all(|n| mesh.hosts[*n].peers() == 2)
        });
        thread::sleep(Duration::from_secs(3));
        assert_eq!(mesh.hosts[3].peers(), 0, "it is not let in again");
        let asked = mesh.submit(1, &zoo::get("plain.mp4"), "film.mkv", LOSSLESS);
        let id = asked.id.clone().unwrap();
        wait_until("it is converted", JOB_LIMIT, || {
            mesh.hosts[1].job(&id).is_some_and(|job| job.status() == "finished_successful")
        });
        let job = mesh.hosts[1].job(&id).unwrap();
        assert!(!job.workers().contains(&"h3".to_owned()), "{:#}", job.0);
        let jobs = mesh.wait_done(JOB_LIMIT);
        mesh.check_result(&asked, &jobs);
        mesh.check_tidy(&jobs);
    });
}

#[test]
fn a_worker_that_is_evicted_in_the_middle_of_a_film_costs_its_segments() {
    let name = "evicted::a_worker_that_is_evicted_in_the_middle_of_a_film_costs_its_segments";
    apart(name, ordinary(), |dir| {
        let mut mesh = Mesh::start(dir, 3, 300);
        let mut watch = Watch::new(&mesh);
        let words = ["--codec", "h264", "--encoder-speed", "medium", "--segment-seconds", "4"];
        let asked = mesh.submit(0, &zoo::get("long.mp4"), "film.mkv", &words);
        watch.until("it works", |host, line| host == 2 && line.contains(" starts "));
        let done = mesh.hosts[0].call(&["mesh", "evict", "h2"]);
        assert!(done.ok(), "{done}");
        wait_until("it has stopped", MEETING_LIMIT, || {
            mesh.hosts[2].children().is_empty() && mesh.hosts[2].peers() == 0
        });
        let id = asked.id.clone().unwrap();
        let job = mesh.hosts[0].job(&id).unwrap();
        assert!(!job.status().starts_with("finished"), "too early to show anything: {:#}", job.0);
        let jobs = mesh.wait_done(JOB_LIMIT);
        mesh.check_result(&asked, &jobs);
        mesh.check_tidy(&jobs);
    });
}
