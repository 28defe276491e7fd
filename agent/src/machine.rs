//! What the platform tells of this machine: how busy it is, how warm, and what feeds it.
//!
//! Linux only, through `/proc` (proc(5)) and `/sys` (Documentation/hwmon/sysfs-interface.rst,
//! Documentation/ABI/testing/sysfs-class-thermal); elsewhere nothing is known.

use std::fs;
use std::path::{Path, PathBuf};

use crate::power;

/// Sensors of processors, by the names of their drivers.
const PROCESSORS: [&str; 7] =
    ["coretemp", "k10temp", "k8temp", "zenpower", "cpu_thermal", "soc_thermal", "via_cputemp"];
/// Thermal zones of processors, by the beginnings of their types.
const ZONES: [&str; 5] = ["x86_pkg_temp", "cpu", "soc", "bigcore", "package"];

/// Threads that this process and its children may run at once, by their affinity and quota; 1 where
/// the platform does not tell.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Where the platform's files are.
#[derive(Debug, Clone)]
pub struct Machine {
    root: PathBuf,
}

/// Processor time since the machine started, in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks {
    /// In which it did something.
    pub busy: u64,
    /// All of it, idle time included.
    pub all: u64,
}

impl Machine {
    /// The machine whose `/proc` and `/sys` are below this directory.
    pub fn at(root: impl Into<PathBuf>) -> Machine {
        Machine { root: root.into() }
    }

    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    /// Load average of the last minute.
    pub fn load(&self) -> Option<f64> {
        self.read("proc/loadavg")?.split_whitespace().next()?.parse().ok()
    }

    /// Processor time, over all threads.
    pub fn ticks(&self) -> Option<Ticks> {
        let stat = self.read("proc/stat")?;
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let words = line.split_whitespace().map(str::parse::<u64>);
        // user, nice, system, idle, iowait, irq, softirq, steal; guests are in the first two.
        let counts: Vec<u64> = words.take(8).collect::<Result<_, _>>().ok()?;
        let [user, nice, system, idle, ..] = counts[..] else { return None };
        let of = |at: usize| counts.get(at).copied().unwrap_or(0);
        let busy = user + nice + system + of(5) + of(6);
        Some(Ticks { busy, all: busy + idle + of(4) + of(7) })
    }

    /// Whether it runs on its battery.
    pub fn on_battery(&self) -> bool {
        power::on_battery_in(&self.root.join("sys/class/power_supply"))
    }

    /// The processor's temperature in degrees Celsius: of several sensors the warmest.
    pub fn temperature_c(&self) -> Option<u8> {
        let sensors = self.sensors().into_iter().filter_map(|file| {
            let millis: i64 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
            // What is outside of this is a sensor that is not connected.
            u8::try_from(millis / 1_000).ok().filter(|degrees| (1..=125).contains(degrees))
        });
        sensors.max()
    }

    fn sensors(&self) -> Vec<PathBuf> {
        let named = |dir: &Path, file: &str, names: &dyn Fn(&str) -> bool| {
            fs::read_to_string(dir.join(file)).is_ok_and(|name| names(name.trim()))
        };
        let of_class = |class: &str| {
            let entries = fs::read_dir(self.root.join("sys/class").join(class));
            entries.into_iter().flatten().flatten().map(|entry| entry.path())
        };
        let chips =
            of_class("hwmon").filter(|dir| named(dir, "name", &|n| PROCESSORS.contains(&n)));
        let inputs = chips.flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
        let inputs = inputs.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("temp") && name.ends_with("_input")
        });
        let mut found: Vec<PathBuf> = inputs.collect();
        if found.is_empty() {
            let of_processor = |kind: &str| ZONES.iter().any(|begin| kind.starts_with(begin));
            let zones = of_class("thermal").filter(|dir| named(dir, "type", &of_processor));
            found.extend(zones.map(|dir| dir.join("temp")));
        }
        found
    }
}

/// Processor time that a process and those that it has waited for took, in the kernel's ticks.
pub fn ticks_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc_pid_stat(5): behind the name, utime, stime, cutime and cstime are the 12th word and the
    // next three.
    let (_, words) = stat.rsplit_once(')')?;
    let ticks = words.split_whitespace().skip(11).take(4).map(str::parse::<u64>);
    Some(ticks.collect::<Result<Vec<_>, _>>().ok()?.into_iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let machine = Machine::at(dir.path());
        (dir, machine)
    }

    #[test]
    fn the_kernels_own_files_are_read() {
        let stat = "cpu  100 20 30 1000 50 6 4 9 7 0\ncpu0 1 2 3 4\n";
        let (_dir, machine) = machine(&[
            ("proc/loadavg", "1.25 0.80 0.50 2/345 6789\n"),
            ("proc/stat", stat),
            ("sys/class/hwmon/hwmon0/name", "nvme\n"),
            ("sys/class/hwmon/hwmon0/temp1_input", "90000\n"),
            ("sys/class/hwmon/hwmon1/name", "coretemp\n"),
            ("sys/class/hwmon/hwmon1/temp1_input", "61500\n"),
            ("sys/class/hwmon/hwmon1/temp2_input", "58000\n"),
            ("sys/class/hwmon/hwmon1/temp2_crit", "100000\n"),
            ("sys/class/hwmon/hwmon1/temp3_input", "-128000\n"),
            ("sys/class/thermal/thermal_zone0/type", "x86_pkg_temp\n"),
            ("sys/class/thermal/thermal_zone0/temp", "70000\n"),
        ]);
        assert_eq!(machine.load(), Some(1.25));
        assert_eq!(machine.ticks(), Some(Ticks { busy: 160, all: 1219 }));
        assert_eq!(machine.temperature_c(), Some(61));
        assert!(!machine.on_battery());
    }

    #[test]
    fn a_machine_that_tells_nothing_is_no_error() {
        let (_dir, empty) = machine(&[]);
        assert_eq!((empty.load(), empty.ticks(), empty.temperature_c()), (None, None, None));
        let (_dir, odd) = machine(&[
            ("proc/loadavg", "much\n"),
            ("proc/stat", "cpu  1 2\n"),
            ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
            ("sys/class/thermal/thermal_zone0/temp", "43000\n"),
        ]);
        assert_eq!((odd.load(), odd.ticks(), odd.temperature_c()), (None, None, Some(43)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_tells_of_itself() {
        let machine = Machine::at("/");
        let ticks = machine.ticks().unwrap();
        assert!(machine.load().unwrap() >= 0.0 && ticks.busy > 0 && ticks.all > ticks.busy);
        assert!(ticks_of(std::process::id()).is_some());
        assert_eq!(ticks_of(0), None);
    }
}
