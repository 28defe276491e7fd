//! What each setting means, in the words of a person who looks at it.

/// Settings that belong together: keys and what they mean.
pub(super) struct Group {
    pub title: &'static str,
    pub keys: &'static [(&'static str, &'static str)],
}

pub(super) const GROUPS: [Group; 5] = [
    Group {
        title: "This agent",
        keys: &[
            ("name", "The name that people see. Empty: the host's name."),
            ("slots", "Encodes at the same time. 0: chosen from the processor."),
            ("slots_of", "Encodes of a kind at the same time, where that is less."),
            ("accept", "Kinds of work that it takes: video, audio, image. None listed: all."),
            ("prefer", "Encoders whose work it should get before other agents."),
            ("hours", "When it works, in local time. Empty: always."),
            ("hardware_sessions", "Encodes at the same time on a graphics card or media chip."),
            ("calibrate", "Measures its speed when it starts and does not know it."),
            ("stop_grace_s", "How long running work gets when the agent stops."),
        ],
    },
    Group {
        title: "Mesh and network",
        keys: &[
            ("door", "Whether agents that see each other join by themselves."),
            ("listen", "Addresses for peers. None listed: port 7341, or a free one."),
            ("peers", "Peers to call, for networks without multicast."),
            ("discovery", "Announces itself and looks for others by mDNS."),
            ("discovery_port", "Another port for mDNS, for tests. 0: the standard one."),
        ],
    },
    Group {
        title: "Jobs",
        keys: &[
            ("presets", "Where own presets are. Not set: beside the configuration file."),
            ("jobs_open_max", "Jobs that are worked on at a time; others wait on the disk."),
            ("custodian", "Keeps whole jobs of members that leave."),
            ("hand_over", "Hands its own jobs over while this machine runs on its battery."),
            ("inbox", "Where results that others deliver to this agent are put."),
        ],
    },
    Group {
        title: "Disk and ffmpeg",
        keys: &[
            ("disk_reserve_bytes", "What stays free on a disk."),
            ("blob_quota_bytes", "The most for pieces and results of running jobs."),
            ("upload_quota_bytes", "The most for files that are sent here."),
            ("undo_keep_days", "Days that the originals of replaced files are kept."),
            ("undo_bytes_max", "The most bytes of them. 0: a tenth of the disk that they are on."),
            ("undo_dir", "Where they are kept. Not set: on the disk that they were on."),
            ("sandbox", "Confines ffmpeg to the files of each call."),
            ("sandbox_memory_bytes", "The most memory for one ffmpeg. 0: three quarters of all."),
        ],
    },
    Group {
        title: "API and dashboard",
        keys: &[
            ("api", "The address. Not set: port 7340 of this machine only."),
            ("api_hosts", "Other names under which it is called, as by a reverse proxy."),
            ("api_paths", "Directories whose files clients may name."),
            ("api_certificate", "Its certificate. Not set: the agent makes its own."),
            ("api_key", "The file of the certificate's private key."),
            (
                "api_calls_per_s",
                "Calls that each token may make in a second; that of this machine any number.",
            ),
            ("api_insecure", "Not encrypted where other machines reach it."),
            ("webhooks", "Who is told that a job is over (paths and secrets are not shown)."),
        ],
    },
];

pub(super) const MESH: [(&str, &str); 32] = [
    ("heartbeat_ms", "How often it tells each peer that it lives."),
    ("heartbeat_busy_ms", "How often it tells how far its work is."),
    ("grant_grace_ms", "How long granted work may be missing in what its worker tells."),
    ("suspect_ms", "Silence after which a peer gets no new work."),
    ("lease_ms", "Silence after which a peer's work is given to others."),
    ("sleep_gap_ms", "A longer gap is this machine's own sleep, not the silence of others."),
    ("stall_ms", "Work without progress for so long is given to others."),
    ("unproven_grants_max", "Work for a peer that has delivered nothing yet."),
    ("fetch_tries_max", "Fetches of a result before that counts as a failure."),
    ("disk_full_pause_ms", "How long it takes no work after its disk was full."),
    ("offer_repeat_ms", "How often work that is left is offered again."),
    ("grants_ahead", "Work that a peer gets beyond its slots."),
    ("pieces_ahead", "Pieces that are cut before somebody wants them."),
    ("offer_peers_max", "Peers that hear an offer at a time."),
    ("hedge_slots_percent", "Slots for second tries at slow parts."),
    ("hedge_gain_percent", "A second try must be done within this part of what is left."),
    ("hedge_left_ms", "What is done sooner gets no second try."),
    ("task_workers_failed_max", "Peers that must fail a part before its job fails."),
    ("task_failures_max", "Failures on the only able peers before the job fails."),
    ("backoff_after_failures", "Failures in a row after which a peer is left alone."),
    ("backoff_first_ms", "How long at first; it doubles."),
    ("backoff_max_ms", "How long at most."),
    ("result_kept_ms", "How long results are kept for an owner that is away."),
    ("custody_seek_ms", "How long somebody is looked for who keeps a job."),
    ("custody_offer_ms", "How long either may be silent while the source is on its way."),
    ("custody_stall_ms", "A kept job without progress for so long is taken back."),
    ("custody_silence_ms", "Silence after which a kept job is taken back."),
    ("custody_retry_ms", "How long until a result is fetched home again."),
    ("custody_max", "Jobs of others that it keeps at the same time."),
    ("custody_per_submitter_max", "Of these, jobs of one agent."),
    ("offers_per_owner_max", "Offers of one agent that it remembers."),
    ("held_max", "Parts that it holds for all agents."),
];
