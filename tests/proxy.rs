//! An agent behind nginx and Apache, as the files in `examples/` put it there.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::bed::{Bed, Meeting, free_tcp_port};
use crate::support::process::{Finished, Running, run};
use crate::support::zoo;

const LIMIT: Duration = Duration::from_secs(180);
/// What the server of an example listens to, and the agent that it passes calls to.
const EXAMPLE_AGENT: &str = "127.0.0.1:7340";

/// A server that puts an agent below `/dmc/`.
struct Proxy {
    bed: Bed,
    port: u16,
    dir: PathBuf,
    _server: Running,
}

/// Where a server program is; the places of Debian, too, that are in no user's PATH.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    dirs.map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The example's text, for another agent than the usual one.
fn example(name: &str, agent: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name);
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(EXAMPLE_AGENT), "{text}");
    text.replace(EXAMPLE_AGENT, agent)
}

/// nginx in one process, as the user that runs the test.
fn nginx(server: &Path, dir: &Path, port: u16) -> Command {
    let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temp = temp.map(|kind| format!("{kind}_temp_path {}/{kind};\n", dir.display())).concat();
    let text = format!(
        "daemon off; master_process off; pid {0}/pid; error_log stderr;\nevents {{}}\n\
         http {{ access_log off;\n{temp}\
         server {{ listen 127.0.0.1:{port};\ninclude {0}/dmc.conf; }} }}\n",
        dir.display()
    );
    fs::write(dir.join("server.conf"), text).unwrap();
    let mut command = Command::new(server);
    command.args(["-e", "stderr", "-p"]).arg(dir).arg("-c").arg(dir.join("server.conf"));
    command
}

/// Apache in the foreground. As root it gives up root, for the user that Debian has for that.
fn apache(server: &Path, dir: &Path, port: u16) -> Command {
    let modules =
        ["mpm_event", "authz_core", "alias", "proxy", "proxy_http", "headers", "reqtimeout"];
    let load =
        |name: &str| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n");
    let text = format!(
        "ServerRoot {0}\nServerName localhost\nDefaultRuntimeDir {0}\nPidFile {0}/pid\n\
         ErrorLog {0}/error.log\nMutex sem\nListen 127.0.0.1:{port}\n{1}\
         User www-data\nGroup www-data\nStartServers 1\n\
         <VirtualHost *:{port}>\nInclude {0}/dmc.conf\n</VirtualHost>\n",
        dir.display(),
        modules.map(load).concat(),
    );
    fs::write(dir.join("server.conf"), text).unwrap();
    let mut command = Command::new(server);
    command.arg("-DFOREGROUND").arg("-f").arg(dir.join("server.conf"));
    command
}

impl Proxy {
    /// `None`, and a word about it, where this machine has no such server.
    fn start(
        name: &str,
        file: &str,
        command: impl Fn(&Path, &Path, u16) -> Command,
    ) -> Option<Self> {
        let Some(server) = program(name) else {
            eprintln!("skipped: {name} is not installed here");
            return None;
        };
        let port = free_tcp_port();
        let bed = Bed::start_with(1, Meeting::Address, |_, agent| {
            agent.env("DMC_API_HOSTS", format!("localhost:{port},nas.home:{port}"));
        });
        let contact = fs::read_to_string(bed.data(0).join("agent.json")).unwrap();
        let contact: Value = serde_json::from_str(&contact).unwrap();
        let dir = bed.dir("server");
        fs::write(dir.join("dmc.conf"), example(file, contact["api"].as_str().unwrap())).unwrap();
        let server = Running::start(&mut command(&server, &dir, port));
        let end = Instant::now() + Duration::from_secs(30);
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        while TcpStream::connect(at).is_err() {
            if Instant::now() > end {
                let log = fs::read_to_string(dir.join("error.log")).unwrap_or_default();
                panic!("{name} does not start: {}\n{log}", server.wait(Duration::ZERO));
            }
            sleep(Duration::from_millis(50));
        }
        Some(Self { bed, port, dir, _server: server })
    }

    fn url(&self, path: &str) -> String {
        format!("http://nas.home:{}/dmc{path}", self.port)
    }

    /// The command line, at this address.
    fn dmc(&self) -> Command {
        let mut command = self.bed.dmc(0);
        command.env("DMC_AGENT", format!("http://localhost:{}/dmc", self.port));
        command.env("DMC_TOKEN_FILE", self.bed.data(0).join("api.token"));
        command
    }

    /// A call with curl, with the token when that is wanted: its status and its body.
    fn curl(&self, token: bool, words: &[&str]) -> (String, Vec<u8>) {
        let (body, secret) = (self.dir.join("body"), self.dir.join("secret"));
        let _ = fs::remove_file(&body);
        let text = fs::read_to_string(self.bed.data(0).join("api.token")).unwrap();
        let text = if token {
            format!("header = \"Authorization: Bearer {text}\"")
        } else {
            String::new()
        };
        fs::write(&secret, text).unwrap();
        let done = run(self.bare_curl().arg("--config").arg(&secret).args(words), LIMIT);
        (done.stdout, fs::read(&body).unwrap_or_default())
    }

    fn bare_curl(&self) -> Command {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-N", "-w", "%{http_code}", "--max-time", "150", "--noproxy", "*"]);
        curl.args(["--resolve", &format!("nas.home:{}:127.0.0.1", self.port)]);
        curl.arg("-o").arg(self.dir.join("body"));
        curl
    }

    fn json(&self, expected: &str, words: &[&str]) -> Value {
        let (status, body) = self.curl(true, words);
        let text = String::from_utf8_lossy(&body);
        assert_eq!(status, expected, "{words:?}: {text}");
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }
}

/// Everything that has to come through.
fn comes_through(proxy: &Proxy) {
    assert_eq!(proxy.json("200", &[&proxy.url("/api/v1/status")])["name"], "agent-0");
    let (status, refused) = proxy.curl(false, &[&proxy.url("/api/v1/status")]);
    assert_eq!(status, "401", "{}", String::from_utf8_lossy(&refused));
    let (status, _) = proxy.curl(true, &["-H", "Host: evil.example", &proxy.url("/api/v1/status")]);
    assert_eq!(status, "403", "names that nobody listed are refused");
    let (status, _) = proxy.curl(true, &[proxy.url("").as_str()]);
    assert_eq!(status, "308", "the way to the dashboard");
    large_bodies(proxy);
    events_at_once(proxy);
    the_command_line(proxy);
}

/// Files that are larger than what servers allow when nobody tells them.
fn large_bodies(proxy: &Proxy) {
    let film = zoo::get("long.mp4");
    let size = fs::metadata(&film).unwrap().len();
    assert!(size > 2 << 20, "the film is too small for this: {size}");
    let file = format!("file=@{};filename=long.mp4", film.display());
    let form = ["-F", "client_id=c", "-F", "conversion_type=h264", "-F", &file];
    let item = proxy.json("201", &[&form[..], &[&proxy.url("/api/v1/item")]].concat());
    assert_eq!(item["file_size"], size);
    let expected = blake3::hash(&fs::read(&film).unwrap()).to_hex();
    assert_eq!(item["checksum"], expected.as_str());
    let place = proxy.url(&format!("/api/v1/item/c/{}", item["item_id"].as_str().unwrap()));
    assert_eq!(proxy.curl(true, &["-X", "DELETE", &place]).0, "204");
    assert_eq!(proxy.curl(true, &[&place]).0, "404");
}

/// An answer without end whose first words are there at once: they are not held back for more.
fn events_at_once(proxy: &Proxy) {
    let began = Instant::now();
    let accept = "Accept: text/event-stream";
    let words = ["--max-time", "4", "-H", accept, &proxy.url("/api/v1/events")];
    let (status, body) = proxy.curl(true, &words);
    assert!(status.starts_with("200") && began.elapsed() > Duration::from_secs(3), "{status}");
    let text = String::from_utf8_lossy(&body);
    assert!(text.starts_with(": dmc"), "nothing came within seconds: {text:?}");
}

/// A film there and back, and parts of its result.
fn the_command_line(proxy: &Proxy) {
    let asked: Finished = run(proxy.dmc().args(["status", "--json"]), LIMIT);
    assert!(asked.ok() && asked.stdout.contains("agent-0"), "{asked}");
    let out = proxy.bed.dir("out").join("tiny.mkv");
    let mut convert = proxy.dmc();
    convert.args(["convert", "--preset", "h264", "--keep", "-o"]).arg(&out);
    let done = run(convert.arg(zoo::get("tiny.mp4")), LIMIT);
    assert!(done.ok(), "{done}");
    let result = fs::read(&out).unwrap();
    let jobs = proxy.json("200", &[&proxy.url("/api/v1/jobs?status=finished_successful")]);
    let id = jobs[0]["id"].as_str().unwrap();
    let (status, part) =
        proxy.curl(true, &["-r", "100-1099", &proxy.url(&format!("/api/v1/jobs/{id}/file"))]);
    assert_eq!((status.as_str(), &part[..]), ("206", &result[100..1_100]));
}

#[test]
fn nginx_as_in_the_example_passes_everything() {
    if let Some(proxy) = Proxy::start("nginx", "nginx.conf", nginx) {
        comes_through(&proxy);
    }
}

#[test]
fn apache_as_in_the_example_passes_everything() {
    if let Some(proxy) = Proxy::start("apache2", "apache.conf", apache) {
        comes_through(&proxy);
    }
}
