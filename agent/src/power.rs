//! Whether this machine runs on its battery, where the platform tells: Linux, through sysfs
//! (Documentation/ABI/testing/sysfs-class-power). Elsewhere it never does.

use std::fs;
use std::path::Path;

const SUPPLIES: &str = "/sys/class/power_supply";

/// Whether this machine runs on its battery now.
pub fn on_battery() -> bool {
    on_battery_in(Path::new(SUPPLIES))
}

/// A battery that is being drained, and nothing plugged in. Batteries of mice and the like are of
/// scope `Device`.
pub(crate) fn on_battery_in(supplies: &Path) -> bool {
    let read = |supply: &Path, name: &str| {
        fs::read_to_string(supply.join(name)).unwrap_or_default().trim().to_owned()
    };
    let (mut drained, mut plugged) = (false, false);
    for supply in fs::read_dir(supplies).into_iter().flatten().flatten() {
        let supply = supply.path();
        match read(&supply, "type").as_str() {
            "Battery" if read(&supply, "scope") != "Device" => {
                drained |= read(&supply, "status") == "Discharging";
            }
            "Mains" | "USB" | "Wireless" => plugged |= read(&supply, "online") == "1",
            _ => {}
        }
    }
    drained && !plugged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_battery_counts_only_while_nothing_is_plugged_in() {
        let dir = tempfile::tempdir().unwrap();
        let set = |supply: &str, facts: &[(&str, &str)]| {
            let supply = dir.path().join(supply);
            fs::create_dir_all(&supply).unwrap();
            facts.iter().for_each(|(name, text)| fs::write(supply.join(name), text).unwrap());
        };
        assert!(!on_battery_in(dir.path()), "a desktop");
        set("hid0", &[("type", "Battery\n"), ("scope", "Device\n"), ("status", "Discharging\n")]);
        assert!(!on_battery_in(dir.path()), "a mouse");
        set("BAT0", &[("type", "Battery\n"), ("status", "Discharging\n")]);
        assert!(on_battery_in(dir.path()));
        set("AC", &[("type", "Mains\n"), ("online", "1\n")]);
        assert!(!on_battery_in(dir.path()));
        set("AC", &[("online", "0\n")]);
        assert!(on_battery_in(dir.path()));
        set("BAT0", &[("status", "Full\n")]);
        assert!(!on_battery_in(dir.path()));
    }
}
