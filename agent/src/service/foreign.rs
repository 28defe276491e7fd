//! Definitions for service managers of other systems. They are written by the book and have never
//! been run: each says so in its first lines.

use std::path::Path;

/// A launch agent of macOS, for `~/Library/LaunchAgents/dmc.agent.plist`.
pub fn launchd(program: &Path) -> String {
    let program = xml(&program.to_string_lossy());
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<!-- UNTESTED. Put it into ~/Library/LaunchAgents/dmc.agent.plist, then:
     launchctl bootstrap gui/$(id -u) ~/Library/LaunchAgents/dmc.agent.plist -->
<plist version="1.0">
<dict>
  <key>Label</key><string>dmc.agent</string>
  <key>ProgramArguments</key>
  <array><string>{program}</string><string>agent</string></array>
  <key>RunAtLoad</key><true/>
  <key>KeepAlive</key><dict><key>SuccessfulExit</key><false/></dict>
  <key>ProcessType</key><string>Background</string>
  <key>LowPriorityIO</key><true/>
  <key>ExitTimeOut</key><integer>90</integer>
  <key>StandardErrorPath</key><string>/tmp/dmc.agent.log</string>
</dict>
</plist>
"#
    )
}

/// A service of Windows as WinSW takes it, for `dmc-service.xml` beside `dmc-service.exe`.
pub fn windows(program: &Path) -> String {
    let program = xml(&program.to_string_lossy());
    format!(
        r#"<!-- UNTESTED. For WinSW (dmc-service.exe beside this file, dmc-service.xml): dmc itself does not
     speak with the service manager of Windows. Then: dmc-service.exe install -->
<service>
  <id>dmc</id>
  <name>dmc</name>
  <description>dmc, the distributed media converter</description>
  <executable>{program}</executable>
  <arguments>agent</arguments>
  <startmode>Automatic</startmode>
  <delayedAutoStart>true</delayedAutoStart>
  <onfailure action="restart" delay="5 sec"/>
  <stoptimeout>90 sec</stoptimeout>
  <priority>belownormal</priority>
  <log mode="roll"/>
</service>
"#
    )
}

fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_say_that_nobody_tried_them_and_escape_names() {
        for text in [launchd(Path::new("/opt/a & b/dmc")), windows(Path::new("C:/a & b/dmc.exe"))] {
            assert!(text.contains("UNTESTED") && text.contains("/a &amp; b/dmc"), "{text}");
        }
    }
}
