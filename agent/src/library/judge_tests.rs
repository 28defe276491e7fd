//! Tests of [`super`].

use proptest::prelude::*;

use super::*;

const DAY_MS: i64 = 86_400_000;
const NOW: i64 = 1_000 * DAY_MS;

fn aim() -> Aim {
    let target = |preset: &str, kind, codec: &str| Target {
        preset: preset.to_owned(),
        kind,
        codec: codec.to_owned(),
    };
    Aim {
        targets: vec![
            target("hevc", MediaKind::Video, "hevc"),
            target("audio-opus", MediaKind::Audio, "opus"),
        ],
        kinds: vec![MediaKind::Video, MediaKind::Audio],
    }
}

fn film() -> Media {
    Media {
        kind: MediaKind::Video,
        codec: "h264".to_owned(),
        height: Some(1_080),
        seconds: Some(100),
        hdr: false,
    }
}

fn facts<'a>(path: &'a str, media: Option<&'a Media>) -> Facts<'a> {
    let path = Path::new(path);
    Facts { path, bytes: 100_000_000, changed_ms: NOW - 10 * DAY_MS, media }
}

fn decided(rules: &str, facts: &Facts<'_>) -> Decision {
    let rules = Rules::read(rules).unwrap();
    decide(&judge(&rules, &aim(), facts, NOW), &aim(), facts.media)
}

/// The rule that is against a file, and why.
fn against(rules: &str, facts: &Facts<'_>) -> Option<(String, String)> {
    match decided(rules, facts) {
        Decision::Skip { rule, why, .. } => Some((rule, why)),
        Decision::Look | Decision::Take(_) => None,
    }
}

#[test]
fn without_rules_a_film_in_another_codec_is_taken() {
    let media = film();
    assert_eq!(decided("", &facts("a.mkv", None)), Decision::Look);
    assert_eq!(decided("", &facts("a.mkv", Some(&media))), Decision::Take("hevc".to_owned()));
    let sound = Media { kind: MediaKind::Audio, codec: "flac".to_owned(), height: None, ..film() };
    let decision = decided("", &facts("a.flac", Some(&sound)));
    assert_eq!(decision, Decision::Take("audio-opus".to_owned()));
}

#[test]
fn each_rule_says_no_to_what_it_names_and_tells_the_value() {
    let media = film();
    let film = facts("Films/a.mkv", Some(&media));
    let cases = [
        ("smaller_than = \"200 MB\"", "smaller_than = \"99 MB\"", "100 MB"),
        ("larger_than = \"99 MB\"", "larger_than = \"200 MB\"", "100 MB"),
        ("younger_than = \"11 days\"", "younger_than = \"9 days\"", "10 days"),
        ("older_than = \"9 days\"", "older_than = \"11 days\"", "10 days"),
        ("names = [\"A.*\"]", "names = [\"b*\"]", "\"A.*\""),
        ("paths = [\"films/*\"]", "paths = [\"*.mkv\"]", "\"films/*\""),
        ("codecs = [\"H264\"]", "codecs = [\"vp9\"]", "h264"),
        ("height_below = 1081", "height_below = 1080", "1080 lines"),
        ("height_above = 1079", "height_above = 1080", "1080 lines"),
        ("bitrate_below = \"9 Mbit/s\"", "bitrate_below = \"8 Mbit/s\"", "8 Mbit/s"),
        ("bitrate_above = \"7 Mbit/s\"", "bitrate_above = \"8 Mbit/s\"", "8 Mbit/s"),
        ("shorter_than = \"2 min\"", "shorter_than = \"100 s\"", "1.67 min"),
        ("longer_than = \"1 min\"", "longer_than = \"100 s\"", "1.67 min"),
    ];
    for (no, yes, value) in cases {
        let key = no.split(' ').next().unwrap();
        let (rule, why) = against(&format!("[skip]\n{no}"), &film).unwrap();
        assert!(rule.contains(key), "{rule}");
        assert!(why.contains(value), "{no}: {why}");
        assert_eq!(against(&format!("[skip]\n{yes}"), &film), None, "{yes}");
    }
}

#[test]
fn what_is_only_wanted_leaves_out_the_others() {
    let media = film();
    let film = facts("Films/a.mkv", Some(&media));
    assert_eq!(against("[only]\nnames = [\"*.mkv\"]\npaths = [\"Films/**\"]", &film), None);
    let (rule, why) = against("[only]\nnames = [\"*.avi\", \"*.ts\"]", &film).unwrap();
    assert_eq!((rule.as_str(), why.as_str()), ("only.names", "it fits none of *.avi, *.ts"));
    assert_eq!(against("[only]\npaths = [\"*\"]", &film).unwrap().0, "only.paths");
}

#[test]
fn names_spare_looking_into_what_nobody_wants() {
    for (name, part) in [
        ("a.srt", "does not end like"),
        ("noend", "does not end like"),
        ("poster.JPG", "named like a picture"),
    ] {
        let (_, why) = against("", &facts(name, None)).unwrap();
        assert!(why.contains(part), "{name}: {why}");
    }
    let decision = decided("[only]\nnames = [\"noend\"]", &facts("noend", None));
    assert_eq!(decision, Decision::Look, "who names it means it");
}

#[test]
fn what_is_in_a_file_counts_more_than_its_name() {
    let picture = Media { kind: MediaKind::Image, codec: "png".to_owned(), ..film() };
    let (rule, why) = against("", &facts("really-a-picture.mkv", Some(&picture))).unwrap();
    assert!(rule.starts_with("kinds = video, audio") && why == "it is a picture", "{rule}: {why}");
}

#[test]
fn what_is_in_the_codec_already_is_left_alone_unless_a_person_says_otherwise() {
    let media = Media { codec: "hevc".to_owned(), ..film() };
    let film = facts("a.mkv", Some(&media));
    let (rule, why) = against("", &film).unwrap();
    assert!(rule.starts_with("skip.same_codec") && why == "it is hevc already", "{rule}: {why}");
    assert_eq!(against("[skip]\nsame_codec = false", &film), None);
}

#[test]
fn what_is_too_young_is_looked_at_again() {
    let young = Facts { changed_ms: NOW - DAY_MS, ..facts("a.mkv", None) };
    let rules = "[skip]\nyounger_than = \"3 days\"";
    let Decision::Skip { until_ms, .. } = decided(rules, &young) else { panic!("it is young") };
    assert_eq!(until_ms, Some(NOW + 2 * DAY_MS));
    // The clock of whoever wrote it was wrong: that is no reason to wait for a century.
    let future = Facts { changed_ms: NOW + 36_500 * DAY_MS, ..young };
    let Decision::Skip { until_ms, .. } = decided(rules, &future) else { panic!("not yet") };
    assert_eq!(until_ms, Some(NOW + 3 * DAY_MS));
}

#[test]
fn what_is_not_known_is_against_nothing() {
    let media = Media { seconds: None, height: None, codec: String::new(), ..film() };
    let rules = "[skip]\nshorter_than = \"1 h\"\nbitrate_below = \"1 Gbit/s\"\nheight_below = 2160\n\
                 codecs = [\"h264\"]\nhdr = true";
    assert_eq!(against(rules, &facts("a.mkv", Some(&media))), None);
    let hdr = Media { hdr: true, ..film() };
    assert_eq!(
        against(rules, &facts("a.mkv", Some(&hdr))).map(|of| of.0),
        Some("skip.codecs = h264".into())
    );
    assert_eq!(against("[skip]\nhdr = true", &facts("a.mkv", Some(&hdr))).unwrap().0, "skip.hdr");
}

proptest! {
    /// Looking into a file only adds rulings: what was against it before still is.
    #[test]
    fn a_closer_look_never_pardons(
        name in "[a-z]{1,5}\\.(mkv|flac|jpg|srt|x)",
        bytes in 0_u64..1 << 40,
        age_ms in -DAY_MS..3_000 * DAY_MS,
        small in 0_u64..1 << 40,
        young in 0_u64..2_000,
        height in proptest::option::of(1_u32..5_000),
        seconds in proptest::option::of(0_u64..100_000),
    ) {
        let rules = format!("[skip]\nsmaller_than = {small}\nyounger_than = \"{young} h\"\nheight_below = 700\nbitrate_above = 5000000");
        let rules = Rules::read(&rules).unwrap();
        let media = Media { height, seconds, ..film() };
        let cheap = Facts { path: Path::new(&name), bytes, changed_ms: NOW - age_ms, media: None };
        let full = Facts { media: Some(&media), ..cheap };
        let first = judge(&rules, &aim(), &cheap, NOW);
        let second = judge(&rules, &aim(), &full, NOW);
        prop_assert_eq!(&second[..first.len()], &first[..]);
        match decide(&first, &aim(), None) {
            Decision::Look => {}
            other => prop_assert_eq!(other, decide(&second, &aim(), Some(&media))),
        }
        prop_assert!(second.iter().all(|ruling| !ruling.rule.is_empty() && !ruling.why.is_empty()));
    }
}
