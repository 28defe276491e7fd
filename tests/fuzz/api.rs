//! What people and programs of this machine say: requests and settings.

use dmc_agent::fuzzing;
use dmc_agent::intake::Wish;
use dmc_protocol::handover::is_relative_path;
use dmc_protocol::media::Preset;

/// The body of a request for a conversion.
pub fn body(data: &[u8]) -> bool {
    let Ok(wish) = serde_json::from_slice::<Wish>(data) else { return false };
    let json = serde_json::to_vec(&wish).expect("a wish can be written");
    assert!(serde_json::from_slice::<Wish>(&json).is_ok_and(|back| back == wish));
    if let Ok(preset) = Preset::builtin(&wish.preset).and_then(|p| p.with(&wish.overrides)) {
        preset.check().expect("a preset that was accepted can be used");
    }
    if let Some(name) = wish.deliver_as.as_deref().filter(|name| is_relative_path(name)) {
        let parts = std::path::Path::new(name).components();
        let plain = |part| matches!(part, std::path::Component::Normal(_));
        assert!(parts.into_iter().all(plain), "{name} leads out of the inbox");
    }
    true
}

/// A configuration file, then variables of the environment, `NAME=VALUE` each.
pub fn config(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let parts = super::parts(text.as_bytes());
    let part = |n: usize| String::from_utf8_lossy(parts.get(n).copied().unwrap_or_default());
    let variables = part(1)
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let Some(settings) = fuzzing::settings(&part(0), variables) else { return false };
    let written = toml::to_string(&settings).expect("settings can be written");
    let back = fuzzing::settings(&written, Vec::new()).expect("what was written reads");
    assert_eq!(toml::to_string(&back).expect("as before"), written);
    true
}
