//! Who belongs to the mesh: new agents pair by themselves, later ones need a code, and whoever is
//! evicted gets nothing more.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::bed::{Bed, Meeting};
use crate::support::process::{Finished, run};
use crate::support::wait::wait_until;

const LIMIT: Duration = Duration::from_secs(60);

fn mesh(bed: &Bed, n: usize) -> Value {
    bed.ask(n, &["mesh", "status"])
}

fn try_mesh(bed: &Bed, n: usize, words: &[&str]) -> Finished {
    run(bed.dmc(n).arg("mesh").args(words), Duration::from_secs(90))
}

/// The names of an agent's members, or of its former ones.
fn names(bed: &Bed, n: usize, of: &str) -> BTreeSet<String> {
    let view = mesh(bed, n);
    let all = view[of].as_array().unwrap().iter();
    all.map(|agent| agent["name"].as_str().unwrap().to_owned()).collect()
}

fn are(agents: &[usize]) -> BTreeSet<String> {
    agents.iter().map(|n| format!("agent-{n}")).collect()
}

fn id(bed: &Bed, n: usize) -> String {
    bed.ask(n, &["status"])["id"].as_str().unwrap().to_owned()
}

fn connected(bed: &Bed, n: usize) -> BTreeSet<String> {
    let peers = bed.ask(n, &["peers"]);
    let there = peers.as_array().unwrap().iter().filter(|peer| peer["state"] == "connected");
    there.map(|peer| peer["name"].as_str().unwrap().to_owned()).collect()
}

/// A mesh of `count` whose doors are closed.
fn closed_mesh(count: usize) -> Bed {
    let bed = Bed::start(count, Meeting::Discovery);
    for n in 0..count {
        let status = mesh(&bed, n);
        assert_eq!(
            (&status["door"], &status["door_state"]),
            (&"open".into(), &"first_start".into())
        );
        assert!(status["door_closes_in_s"].as_u64().is_some_and(|s| s > 1_700 && s <= 1_800));
        bed.ask(n, &["mesh", "close"]);
    }
    bed
}

fn invite(bed: &Bed, n: usize) -> String {
    let invite = bed.ask(n, &["mesh", "invite"]);
    assert_eq!(invite["expires_in_s"], 600);
    invite["code"].as_str().unwrap().to_owned()
}

#[test]
fn new_agents_pair_by_themselves_and_a_late_one_needs_a_code() {
    let mut bed = closed_mesh(3);
    let words = mesh(&bed, 0)["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(words.split('-').count(), 3, "{words}");
    for n in 0..3 {
        wait_until("all know all", LIMIT, || names(&bed, n, "members") == are(&[0, 1, 2]));
        wait_until("one name", LIMIT, || mesh(&bed, n)["fingerprint"] == words.as_str());
    }

    let late = bed.add(|_| {});
    let late_id = id(&bed, late);
    wait_until("it is refused, and that is seen", LIMIT, || {
        (0..3).any(|n| mesh(&bed, n)["refused"].to_string().contains(&late_id))
    });
    wait_until("it is told what to do", LIMIT, || bed.log(late).contains("dmc mesh join CODE"));
    assert_eq!(names(&bed, late, "members"), are(&[late]));
    assert_eq!(mesh(&bed, late)["strangers"].as_array().unwrap().len(), 3);
    assert_eq!(connected(&bed, late), BTreeSet::new());

    let code = invite(&bed, 1);
    let wrong = format!("{}{}", &code[..10], if code.ends_with('0') { '1' } else { '0' });
    let refused = try_mesh(&bed, late, &["join", &wrong]);
    assert!(!refused.ok() && refused.stderr.contains("the code is wrong"), "{refused}");
    let joined = try_mesh(&bed, late, &["join", &code.to_lowercase()]);
    assert!(joined.ok(), "{joined}");
    for n in 0..4 {
        wait_until("all know all", LIMIT, || names(&bed, n, "members") == are(&[0, 1, 2, 3]));
        wait_until("all are connected", LIMIT, || connected(&bed, n).len() == 3);
        assert_eq!(mesh(&bed, n)["door"], if n == late { "open" } else { "closed" });
    }
    let vouched = mesh(&bed, 0);
    let member = vouched["members"].as_array().unwrap().iter().find(|m| m["name"] == "agent-3");
    assert_eq!(member.unwrap()["vouched_by"][0]["via"], "code");
    let again = try_mesh(&bed, late, &["join", &code]);
    assert!(!again.ok(), "a code is for once: {again}");
}

#[test]
fn three_wrong_guesses_burn_a_code() {
    let mut bed = closed_mesh(1);
    let guesser = bed.add(|command| {
        command.args(["--door", "closed"]);
    });
    let code = invite(&bed, 0);
    for letter in ['0', '1', '2', '3'].into_iter().filter(|l| !code.ends_with(*l)).take(3) {
        let refused = try_mesh(&bed, guesser, &["join", &format!("{}{letter}", &code[..10])]);
        assert!(!refused.ok() && refused.stderr.contains("the code is wrong"), "{refused}");
    }
    let refused = try_mesh(&bed, guesser, &["join", &code]);
    assert!(!refused.ok() && !refused.stderr.contains("wrong"), "{refused}");
    assert_eq!(names(&bed, 0, "members"), are(&[0]));
    let nonsense = try_mesh(&bed, guesser, &["join", "no code"]);
    assert_eq!(nonsense.code, Some(2), "{nonsense}");
}

#[test]
fn an_evicted_agent_gets_nothing_more_whoever_restarts() {
    let mut bed = closed_mesh(3);
    let out = id(&bed, 2);
    let evicted = try_mesh(&bed, 0, &["evict", "agent-2"]);
    assert!(evicted.ok(), "{evicted}");
    wait_until("it knows", LIMIT, || {
        bed.ask(2, &["status"])["trouble"].to_string().contains("evicted")
    });
    let is_out = |bed: &Bed| {
        for n in [0, 1] {
            wait_until("the others agree", LIMIT, || names(bed, n, "members") == are(&[0, 1]));
            wait_until("they work on", LIMIT, || connected(bed, n).len() == 1);
            assert!(mesh(bed, n)["former"].to_string().contains(&out));
        }
        wait_until("nobody speaks with it", LIMIT, || connected(bed, 2).is_empty());
    };
    is_out(&bed);
    // Each comes back first, once, and last.
    for order in [[2, 0, 1], [1, 2, 0], [0, 1, 2]] {
        for n in [0, 1, 2] {
            assert!(bed.stop(n), "it had to be forced:\n{}", bed.log(n));
        }
        for n in order {
            bed.start_again(n);
            bed.wait_for_peers(n, 0);
        }
        is_out(&bed);
        // Time for whatever would go wrong.
        thread::sleep(Duration::from_secs(2));
        is_out(&bed);
    }
    let again = invite(&bed, 0);
    let refused = try_mesh(&bed, 2, &["join", &again]);
    assert!(!refused.ok(), "an evicted key never returns: {refused}");

    // A new identity may.
    assert!(bed.stop(2), "it had to be forced:\n{}", bed.log(2));
    let asked = try_mesh(&bed, 2, &["reset"]);
    assert!(!asked.ok() && asked.stderr.contains("--yes"), "{asked}");
    let reset = try_mesh(&bed, 2, &["reset", "--yes"]);
    assert!(reset.ok(), "{reset}");
    bed.start_again(2);
    bed.wait_for_peers(2, 0);
    assert_ne!(id(&bed, 2), out);
    let joined = try_mesh(&bed, 2, &["join", &invite(&bed, 1)]);
    assert!(joined.ok(), "{joined}");
    for n in 0..3 {
        wait_until("all are connected", LIMIT, || connected(&bed, n).len() == 2);
    }
}

#[test]
fn an_eviction_reaches_a_member_that_was_away() {
    let mut bed = closed_mesh(3);
    for n in 0..3 {
        wait_until("all know all", LIMIT, || names(&bed, n, "members") == are(&[0, 1, 2]));
    }
    assert!(bed.stop(1), "it had to be forced:\n{}", bed.log(1));
    assert!(try_mesh(&bed, 0, &["evict", "agent-2"]).ok());
    assert!(bed.stop(0), "it had to be forced:\n{}", bed.log(0));
    // The two that are left have not heard of it: one is away, the other is who was evicted.
    bed.start_again(1);
    bed.wait_for_peers(1, 0);
    bed.start_again(0);
    bed.wait_for_peers(0, 0);
    for n in [0, 1] {
        wait_until("both know", LIMIT, || names(&bed, n, "members") == are(&[0, 1]));
        wait_until("both are connected", LIMIT, || connected(&bed, n).len() == 1);
    }
    wait_until("it is alone", LIMIT, || connected(&bed, 2).is_empty());
}

#[test]
fn doors_that_are_closed_stay_closed_and_two_meshes_stay_two() {
    let mut bed = closed_mesh(2);
    let shut = bed.add(|command| {
        command.args(["--door", "closed"]);
    });
    assert_eq!(mesh(&bed, shut)["door"], "closed");
    // Opened on one side only.
    bed.ask(0, &["mesh", "open", "--for", "90s"]);
    thread::sleep(Duration::from_secs(4));
    assert_eq!(names(&bed, shut, "members"), are(&[shut]));
    // On both: one comes in, and that closes it.
    bed.ask(shut, &["mesh", "open"]);
    wait_until("it joined", LIMIT, || names(&bed, shut, "members") == are(&[0, 1, shut]));
    wait_until("the door closed behind it", LIMIT, || mesh(&bed, 0)["door"] == "closed");

    let wrong = try_mesh(&bed, 0, &["open", "--for", "soon"]);
    assert_eq!(wrong.code, Some(2), "{wrong}");
    let wrong = try_mesh(&bed, 0, &["open", "--for", "0s"]);
    assert_eq!(wrong.code, Some(2), "{wrong}");
    let nobody = try_mesh(&bed, 0, &["evict", "agent-9"]);
    assert!(!nobody.ok() && nobody.stderr.contains("agent-9"), "{nobody}");
    let itself = try_mesh(&bed, 0, &["evict", "agent-0"]);
    assert!(!itself.ok() && itself.stderr.contains("reset"), "{itself}");
}

#[test]
fn a_copied_data_directory_is_noticed_on_both_sides() {
    let mut bed = Bed::start(1, Meeting::Discovery);
    let original = bed.data(0).to_owned();
    assert!(bed.stop(0), "it had to be forced:\n{}", bed.log(0));
    let copy = bed.dir("agent-1");
    copy_dir(&original, &copy);
    bed.start_again(0);
    bed.wait_for_peers(0, 0);
    let twin = bed.add(|_| {});
    assert_eq!(id(&bed, 0), id(&bed, twin));
    for n in [0, twin] {
        wait_until("it is told", LIMIT, || {
            bed.ask(n, &["status"])["trouble"].to_string().contains("was copied")
        });
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, target) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
