//! The door: while it is open, agents on the link join by themselves.
//!
//! The very first start opens it for half an hour. What is left of that is on disk, and is spent
//! there before it is used, so that restarts only ever shorten it.

use std::time::{Duration, Instant};

use dmc_store::{Batch, Kv, StoreError, Table, decode, encode};
use serde::{Deserialize, Serialize};

use crate::config;

const SCHEMA: u16 = 1;
pub(super) const KEY: &[u8] = b"door";
/// How long the first door is open.
const FIRST: Duration = Duration::from_secs(30 * 60);
/// What is taken off at a time.
const SLICE: Duration = Duration::from_secs(15);

/// The door of this agent.
#[derive(Debug)]
pub(super) struct Door {
    always: bool,
    /// The first door: what is still on disk, and until when the slice that was spent lasts.
    first_left: Duration,
    first_until: Option<Instant>,
    /// A person opened it: until when, and whether more than one agent may come.
    opened: Option<(Instant, bool)>,
}

/// The door as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorView {
    /// Whether agents join by themselves now.
    pub open: bool,
    /// Why, or why not: `first_start`, `opened`, `always`, `closed`.
    pub state: String,
    /// Seconds that it stays open, when it closes by itself.
    pub closes_in_s: Option<u64>,
}

impl DoorView {
    /// How it stands, in words.
    pub fn text(&self) -> String {
        let time = match self.closes_in_s.unwrap_or_default() {
            seconds if seconds > 90 => format!("{} min", seconds.div_ceil(60)),
            seconds => format!("{seconds} s"),
        };
        match self.state.as_str() {
            "first_start" => format!("open for {time}: new agents on this link join by themselves"),
            "opened" => format!("open for {time}"),
            "always" => "always open: every agent whose door is open joins".to_owned(),
            _ => "closed: agents join by a code (`dmc mesh invite`)".to_owned(),
        }
    }
}

pub(super) async fn keep(kv: &Kv, left: Duration) -> Result<(), StoreError> {
    let mut batch = Batch::new();
    batch.put(Table::Meta, KEY, encode(SCHEMA, &left.as_secs())?);
    kv.commit(batch).await
}

pub(super) async fn keep_closed(kv: &Kv) -> Result<(), StoreError> {
    keep(kv, Duration::ZERO).await
}

impl Door {
    pub(super) async fn open(
        kv: &Kv,
        setting: config::Door,
        is_first: bool,
    ) -> Result<Door, StoreError> {
        let known = kv.get(Table::Meta, KEY)?.map(|value| decode(SCHEMA, &value)).transpose()?;
        let left: u64 = match known {
            Some(left) => left,
            None => {
                let opens = is_first && setting == config::Door::Auto;
                let left = if opens { FIRST } else { Duration::ZERO };
                // An agent that did not open its door at first does not do so later by itself.
                keep(kv, left).await?;
                left.as_secs()
            }
        };
        let auto = setting == config::Door::Auto;
        let first_left = if auto { Duration::from_secs(left) } else { Duration::ZERO };
        let always = setting == config::Door::Open;
        Ok(Door { always, first_left, first_until: None, opened: None })
    }

    /// What must be on disk before the first door stays open; `None`: nothing is to be spent now.
    pub(super) fn spends(&self) -> Option<Duration> {
        let lasts = self.first_until.is_some_and(|until| until > Instant::now() + SLICE / 3);
        (!lasts && !self.first_left.is_zero()).then(|| self.first_left.saturating_sub(SLICE))
    }

    /// That is on disk now.
    pub(super) fn spent(&mut self, left: Duration) {
        let slice = self.first_left.saturating_sub(left);
        let now = Instant::now();
        let from = self.first_until.map_or(now, |until| until.max(now));
        self.first_until = Some(from + slice);
        self.first_left = left;
    }

    /// Whether this is the door of the very first start.
    pub(super) fn is_first(&self) -> bool {
        self.first_until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn is_open(&mut self) -> bool {
        self.opened.take_if(|(until, _)| *until <= Instant::now());
        self.always || self.is_first() || self.opened.is_some()
    }

    pub(super) fn open_for(&mut self, time: Duration, many: bool) {
        self.opened = Some((Instant::now() + time, many));
    }

    pub(super) fn close(&mut self) {
        (self.opened, self.first_until, self.first_left) = (None, None, Duration::ZERO);
    }

    /// An agent came in. `true`: that closed the door.
    pub(super) fn one_came(&mut self) -> bool {
        !self.is_first() && self.opened.take_if(|(_, many)| !*many).is_some()
    }

    pub(super) fn view(&mut self) -> DoorView {
        let open = self.is_open();
        let left = |until: Instant| until.saturating_duration_since(Instant::now()).as_secs();
        let (state, closes_in_s) = match (self.always, self.is_first(), self.opened) {
            (true, _, _) => ("always", None),
            (_, true, _) => {
                let until = self.first_until.map_or(0, left);
                ("first_start", Some(self.first_left.as_secs() + until))
            }
            (_, _, Some((until, _))) => ("opened", Some(left(until))),
            _ => ("closed", None),
        };
        DoorView { open, state: state.to_owned(), closes_in_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_door_is_spent_before_it_is_used_and_never_grows() {
        let kv = Kv::memory();
        let mut door = Door::open(&kv, config::Door::Auto, true).await.unwrap();
        assert!(!door.is_open(), "nothing is spent yet");
        let mut last = FIRST;
        for _ in 0..5 {
            let left = door.spends().unwrap();
            keep(&kv, left).await.unwrap();
            door.spent(left);
            assert!(door.is_open() && door.is_first());
            assert_eq!(door.spends(), None, "the slice lasts");
            // A restart, again and again: each costs a slice.
            door = Door::open(&kv, config::Door::Auto, false).await.unwrap();
            assert!(door.first_left < last);
            last = door.first_left;
        }
        keep_closed(&kv).await.unwrap();
        let mut door = Door::open(&kv, config::Door::Auto, false).await.unwrap();
        assert!(!door.is_open() && door.spends().is_none());
    }

    #[tokio::test]
    async fn a_door_that_is_closed_at_first_does_not_open_later_by_itself() {
        let kv = Kv::memory();
        let mut door = Door::open(&kv, config::Door::Closed, true).await.unwrap();
        assert!(!door.is_open() && door.spends().is_none());
        let door = Door::open(&kv, config::Door::Auto, false).await.unwrap();
        assert_eq!(door.spends(), None);
        let mut door = Door::open(&kv, config::Door::Open, false).await.unwrap();
        assert!(door.is_open() && !door.is_first());
    }

    #[tokio::test]
    async fn a_door_that_a_person_opens_lets_one_in_or_many() {
        let kv = Kv::memory();
        let mut door = Door::open(&kv, config::Door::Closed, true).await.unwrap();
        door.open_for(Duration::from_secs(60), false);
        assert_eq!(door.view().state, "opened");
        assert!(door.one_came() && !door.is_open());
        door.open_for(Duration::from_secs(60), true);
        assert!(!door.one_came() && door.is_open());
        door.open_for(Duration::ZERO, true);
        assert!(!door.is_open());
    }
}
