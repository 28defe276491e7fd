//! The dashboard as a person sees it: in Chromium, driven over WebDriver, while agents work.
//!
//! `DMC_SCREENSHOTS=DIR` keeps pictures of the pages.

use std::env;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::bed::{Bed, Meeting};
use crate::support::process::{Running, end_tree};
use crate::support::zoo;

const LIMIT: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(100);

/// A browser of its own; dropping it ends it.
struct Browser {
    driver: Child,
    page: Option<Client>,
    home: String,
    _profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser is a child of its driver.
        end_tree(&mut self.driver, Duration::from_secs(5));
    }
}

/// What is only Chromium's: the log of a page, and how it is shown.
#[derive(Debug)]
struct Chromium {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Chromium {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

impl Browser {
    /// None where there is no Chromium.
    async fn start(home: &str) -> Option<Browser> {
        for program in ["chromedriver", "chromium"] {
            if Command::new(program).arg("--version").stdout(Stdio::null()).status().is_err() {
                eprintln!("skipped: there is no {program}");
                return None;
            }
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let profile = tempfile::Builder::new().prefix("dmc-browser-").tempdir().unwrap();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .env("TMPDIR", profile.path())
            .env("HOME", profile.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut browser = Browser { driver, page: None, home: home.to_owned(), _profile: profile };
        let end = Instant::now() + LIMIT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "chromedriver does not listen");
            tokio::time::sleep(PAUSE).await;
        }
        let options = json!({
            "goog:chromeOptions": { "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--window-size=1200,900", "--lang=en", "--hide-scrollbars",
            ] },
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let options = options.as_object().unwrap().clone();
        let mut builder =
            ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        let page = builder.capabilities(options).connect(&format!("http://127.0.0.1:{port}")).await;
        browser.page = Some(page.unwrap());
        Some(browser)
    }

    fn page(&self) -> &Client {
        self.page.as_ref().unwrap()
    }

    async fn open(&self, path: &str) {
        self.page().goto(&format!("{}/{path}", self.home)).await.unwrap();
    }

    async fn ask(&self, script: &str) -> Value {
        self.page().execute(&format!("return {script}"), Vec::new()).await.unwrap()
    }

    /// Waits until an expression of JavaScript is true, without loading the page again.
    async fn until(&self, what: &str, script: &str) {
        let end = Instant::now() + LIMIT;
        while self.ask(script).await != json!(true) {
            assert!(Instant::now() < end, "not seen: {what}; {}", self.text().await);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn text(&self) -> String {
        self.ask("document.body.innerText").await.as_str().unwrap_or_default().to_owned()
    }

    async fn chromium(&self, path: &'static str, body: Value) -> Value {
        self.page().issue_cmd(Chromium { path, body }).await.unwrap()
    }

    /// What the page complained of: blocked scripts, missing files, errors.
    async fn complaints(&self) -> Vec<String> {
        let log = self.chromium("se/log", json!({ "type": "browser" })).await;
        let log = log.as_array().cloned().unwrap_or_default();
        log.into_iter().map(|entry| entry["message"].to_string()).collect()
    }

    async fn dark(&self, dark: bool) {
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        let params = json!({ "features": features });
        let body = json!({ "cmd": "Emulation.setEmulatedMedia", "params": params });
        self.chromium("goog/cdp/execute", body).await;
    }

    async fn width(&self, width: u32, height: u32, phone: bool) {
        let params =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone });
        let body = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": params });
        self.chromium("goog/cdp/execute", body).await;
    }

    /// Opens a page, which must not be wider than the telephone that [`Self::width`] has set.
    async fn open_on_phone(&self, page: &str) {
        self.open(page).await;
        let wide = self.ask("document.documentElement.scrollWidth").await;
        assert!(wide.as_u64() <= Some(390), "{page} is {wide} wide on a phone");
    }

    async fn picture(&self, name: &str) {
        let Some(dir) = env::var_os("DMC_SCREENSHOTS").map(PathBuf::from) else { return };
        fs::create_dir_all(&dir).unwrap();
        let picture = self.page().screenshot().await.unwrap();
        fs::write(dir.join(format!("{name}.png")), picture).unwrap();
    }
}

fn count(selector: &str) -> String {
    format!("document.querySelectorAll(\"{selector}\").length")
}

#[test]
fn a_film_is_watched_from_the_first_part_to_the_proof_while_an_agent_is_lost() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(watch_a_film());
}

async fn watch_a_film() {
    let mut bed = Bed::start(3, Meeting::Address);
    let link = bed.ask(0, &["dashboard"])["url"].as_str().unwrap().to_owned();
    let home = link.split_once("/login").unwrap().0.to_owned();
    let Some(browser) = Browser::start(&home).await else { return };
    // Who has not signed in sees how to.
    browser.open("jobs").await;
    assert!(browser.page().current_url().await.unwrap().path().ends_with("/login"));
    browser.picture("sign-in").await;
    browser.page().goto(&link).await.unwrap();
    let peers = format!("{} == 2", count(".peer[data-state=connected]"));
    browser.until("both peers", &peers).await;
    browser.open("jobs").await;
    browser.until("how to begin", &format!("{} > 0", count(".empty"))).await;
    browser.picture("jobs-empty").await;

    let out = bed.dir("out").join("a film.mkv");
    let mut command = bed.dmc(0);
    command.args(["convert", "--preset", "hevc", "--encoder-speed", "slower"]);
    command.args(["--segment-seconds", "1", "-o"]).arg(&out).arg("--").arg(zoo::get("plain.mp4"));
    let converting = Running::start(&mut command);
    let row = "a[href^='jobs/0']";
    browser.until("the job in the list", &format!("{} > 0", count(row))).await;
    browser.page().find(Locator::Css(row)).await.unwrap().click().await.unwrap();
    let parts = format!("{} > 5", count(".segment"));
    browser.until("the map of the film", &parts).await;
    let committed = format!("{} > 1", count(".segment[data-state=committed]"));
    browser.until("parts that are done, as they come", &committed).await;
    browser.picture("job-running").await;

    bed.pull_plug(2);
    let job = browser.page().current_url().await.unwrap();
    browser.open("").await;
    let lost = ".peer[data-state=gone], .peer[data-state=suspect]";
    browser.until("the lost agent", &format!("{} == 1", count(lost))).await;
    browser.picture("mesh").await;
    browser.page().goto(job.as_str()).await.unwrap();
    browser.until("the proof", &format!("{} == 1", count("#proof"))).await;
    let done = converting.wait(LIMIT);
    assert!(done.ok(), "{done}");
    browser.ask("document.querySelector('#stills').scrollIntoView()").await;
    let loaded = "Array.from(document.querySelectorAll('#stills img')).filter(i => i.naturalWidth > 0).length >= 2";
    browser.until("both stills", loaded).await;
    browser.picture("job-stills").await;
    browser.ask("window.scrollTo(0, 0)").await;
    browser.picture("job-done").await;
    browser.dark(true).await;
    browser.picture("job-done-dark").await;
    browser.dark(false).await;

    for (page, name) in [("jobs", "jobs"), ("savings", "savings"), ("settings", "settings")] {
        browser.open(page).await;
        browser.picture(name).await;
    }
    browser.width(390, 800, true).await;
    let path = job.path().trim_start_matches('/');
    for page in ["", "jobs", path, "savings", "settings"] {
        browser.open_on_phone(page).await;
        browser
            .picture(&format!("phone-{}", if page.starts_with("jobs/") { "job" } else { page }))
            .await;
    }
    let complaints = browser.complaints().await;
    // An agent that was lost is no error of the page.
    assert_eq!(complaints, Vec::<String>::new());
    browser.page().clone().close().await.unwrap();
}

#[test]
fn a_folder_is_watched_from_the_form_to_what_was_left_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(watch_a_folder());
}

async fn watch_a_folder() {
    let bed = Bed::start_with(1, Meeting::Address, |_, agent| {
        agent.env("DMC_WATCH_SETTLE_S", "1");
    });
    let dir = bed.dir("films \u{1f3ac}");
    fs::create_dir_all(&dir).unwrap();
    fs::copy(zoo::get("tiny.mp4"), dir.join("summer.mp4")).unwrap();
    fs::write(dir.join("summer.srt"), "no film").unwrap();
    fs::write(dir.join("broken <b>.mkv"), "no film either").unwrap();
    let link = bed.ask(0, &["dashboard"])["url"].as_str().unwrap().to_owned();
    let home = link.split_once("/login").unwrap().0.to_owned();
    let Some(browser) = Browser::start(&home).await else { return };
    browser.page().goto(&link).await.unwrap();
    browser.open("library").await;
    browser.until("how to begin", &format!("{} > 0", count(".empty"))).await;
    browser.picture("library-empty").await;

    let field = browser.page().find(Locator::Id("watch-dir")).await.unwrap();
    field.send_keys(&dir.display().to_string()).await.unwrap();
    let rules = browser.page().find(Locator::Id("watch-rules")).await.unwrap();
    rules.send_keys("no_such_rule = 1").await.unwrap();
    let button = Locator::Id("watch-button");
    browser.page().find(button).await.unwrap().click().await.unwrap();
    let told = "document.querySelector('#alerts').innerText.includes('no_such_rule')";
    browser.until("what is wrong with the rules", told).await;
    rules.clear().await.unwrap();
    rules.send_keys("priority = 5").await.unwrap();
    browser.page().find(button).await.unwrap().click().await.unwrap();
    let numbers = "document.querySelector('dl.numbers')?.innerText.replace(/\\s+/g, ' ') ?? ''";
    let at_rest = format!("/Done 1 .*Waiting 0 Skipped 2 /.test({numbers})");
    browser.until("the folder at rest", &at_rest).await;
    browser.picture("library").await;

    browser
        .page()
        .find(Locator::Css("h2 a[href^='library/']"))
        .await
        .unwrap()
        .click()
        .await
        .unwrap();
    for part in ["broken <b>.mkv", "not a media file", "summer.srt", "does not end like"] {
        let shown = format!("document.querySelector('#folder').innerText.includes('{part}')");
        browser.until(part, &shown).await;
    }
    browser.picture("library-folder").await;
    browser.width(390, 800, true).await;
    for page in ["library", "library/1"] {
        browser.open_on_phone(page).await;
        browser.picture(&format!("phone-{}", page.replace('/', "-"))).await;
    }
    // The refused rules are an answer with an error, which the browser notes.
    let complaints = browser.complaints().await;
    assert!(complaints.iter().all(|one| one.contains("422")), "{complaints:?}");
    browser.page().clone().close().await.unwrap();
}
