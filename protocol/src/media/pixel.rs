//! The pixel formats that may be named in a task.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names that may reach an ffmpeg command. A format that is missing here is refused, not passed on.
const KNOWN: [&str; 94] = [
    "bgr0",
    "bgr24",
    "bgra",
    "gbrap",
    "gbrap10le",
    "gbrap12le",
    "gbrap16le",
    "gbrp",
    "gbrp10le",
    "gbrp12le",
    "gbrp14le",
    "gbrp16le",
    "gbrp9le",
    "gray",
    "gray10le",
    "gray12le",
    "gray14le",
    "gray16be",
    "gray16le",
    "gray9le",
    "monob",
    "monow",
    "nv12",
    "nv16",
    "nv21",
    "nv24",
    "p010le",
    "p016le",
    "pal8",
    "rgb24",
    "rgb48be",
    "rgb48le",
    "rgba",
    "rgba64be",
    "rgba64le",
    "rgb0",
    "rgb555le",
    "rgb565le",
    "uyvy422",
    "ya16be",
    "ya16le",
    "ya8",
    "yuv410p",
    "yuv411p",
    "yuv420p",
    "yuv420p10le",
    "yuv420p12le",
    "yuv420p14le",
    "yuv420p16le",
    "yuv420p9le",
    "yuv422p",
    "yuv422p10le",
    "yuv422p12le",
    "yuv422p14le",
    "yuv422p16le",
    "yuv422p9le",
    "yuv440p",
    "yuv440p10le",
    "yuv440p12le",
    "yuv444p",
    "yuv444p10le",
    "yuv444p12le",
    "yuv444p14le",
    "yuv444p16le",
    "yuv444p9le",
    "yuva420p",
    "yuva420p10le",
    "yuva420p16le",
    "yuva420p9le",
    "yuva422p",
    "yuva422p10le",
    "yuva422p12le",
    "yuva422p16le",
    "yuva422p9le",
    "yuva444p",
    "yuva444p10le",
    "yuva444p12le",
    "yuva444p16le",
    "yuva444p9le",
    "yuvj411p",
    "yuvj420p",
    "yuvj422p",
    "yuvj440p",
    "yuvj444p",
    "yuyv422",
    "yvyu422",
    "abgr",
    "argb",
    "0bgr",
    "0rgb",
    "gbrpf32le",
    "gbrapf32le",
    "grayf32le",
    "y210le",
];

/// A pixel format by ffmpeg's name, from a closed list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PixFmt(String);

impl PixFmt {
    /// The format of that name; `None` when the list does not hold it.
    pub fn new(name: &str) -> Option<PixFmt> {
        KNOWN.contains(&name).then(|| PixFmt(name.to_owned()))
    }

    /// ffmpeg's name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether the name is on the list. A value that came over the wire may not be.
    pub fn is_known(&self) -> bool {
        KNOWN.contains(&self.0.as_str())
    }

    /// Whether it holds transparency.
    pub fn has_alpha(&self) -> bool {
        let name = self.0.as_str();
        name.starts_with("yuva")
            || name.starts_with("gbrap")
            || name.starts_with("ya")
            || name.starts_with("rgba")
            || matches!(name, "bgra" | "abgr" | "argb" | "pal8")
    }

    /// Bits of one component.
    pub fn depth(&self) -> u8 {
        let name = self.0.as_str();
        let name = name.strip_suffix("le").or_else(|| name.strip_suffix("be")).unwrap_or(name);
        match name {
            "rgb48" | "rgba64" | "ya16" | "gray16" | "p016" => 16,
            "p010" | "y210" => 10,
            _ if name.ends_with("f32") => 32,
            _ => ["16", "14", "12", "10", "9"]
                .iter()
                .find(|bits| name.ends_with(&format!("p{bits}")) || name == format!("gray{bits}"))
                .and_then(|bits| bits.parse().ok())
                .unwrap_or(8),
        }
    }

    /// Whether its components are red, green and blue.
    pub fn is_rgb(&self) -> bool {
        let name = self.0.as_str();
        name.contains("rgb") || name.contains("bgr") || name.starts_with("gbr") || name == "pal8"
    }

    /// Whether it is grey only.
    pub fn is_grey(&self) -> bool {
        let name = self.0.as_str();
        name.starts_with("gray") || name.starts_with("ya") || name.starts_with("mono")
    }

    /// Whether the name itself says full range (`yuvj…`).
    pub fn is_full_range_name(&self) -> bool {
        self.0.starts_with("yuvj")
    }

    /// Whether chroma has a different density across and down, so that a quarter turn cannot be
    /// exact.
    pub fn has_uneven_chroma(&self) -> bool {
        let name = self.0.as_str();
        ["422", "440", "411", "410"].iter().any(|part| name.contains(part))
            || matches!(name, "nv16" | "y210le")
    }
}

impl fmt::Display for PixFmt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_and_alpha_follow_from_the_name() {
        for (name, depth, alpha) in [
            ("yuv420p", 8, false),
            ("yuv420p10le", 10, false),
            ("yuva444p12le", 12, true),
            ("gbrp16le", 16, false),
            ("rgba64be", 16, true),
            ("gray", 8, false),
            ("gray9le", 9, false),
            ("yuyv422", 8, false),
            ("grayf32le", 32, false),
        ] {
            let fmt = PixFmt::new(name).unwrap();
            assert_eq!((fmt.depth(), fmt.has_alpha()), (depth, alpha), "{name}");
        }
    }

    #[test]
    fn only_listed_names_are_accepted() {
        assert!(PixFmt::new("yuv420p,movie=/etc/passwd").is_none());
        assert!(PixFmt::new("").is_none());
    }
}
