//! Every command that the READMEs, the reference and `--help` show is run as it is written, except those listed here.

use std::cell::Cell;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{authority, upstream};

/// What a help text shows and this test does not run, and why. Its arguments are parsed all the same.
const HELP_EXCEPTIONS: [(&str, &str); 15] = [
    ("bartizan audit install-template", "needs a policy with an Elasticsearch sink; templates.rs runs it"),
    ("bartizan demo", "runs until it is interrupted; demo.rs runs it"),
    ("bartizan health", "needs a running proxy; health.rs runs it"),
    ("bartizan replay", "needs records of requests; replay.rs has some"),
    ("bartizan report unused", "needs records of a week; unused.rs has some"),
    ("bartizan run", "runs until it is interrupted; every other test runs it"),
    ("bartizan man key rotate | man", "needs man"),
    ("--bearer", "needs a token of an issuer that is reachable; explain.rs has one"),
    ("bartizan ready", "the policy of the README is not ready; ready.rs runs it"),
    ("bartizan drill", "needs running nodes; the READMEs run it"),
    ("bartizan client revoke", "the id is an example"),
    ("bartizan client remove", "the id is an example"),
    ("bartizan consumer ungrant", "the id is an example"),
    ("bartizan consumer withdraw", "the id is an example"),
    ("bartizan revoke undo", "the id is an example"),
];

/// What a README shows and this test does not run, and why: a block with this text, or a line that begins with it.
const README_EXCEPTIONS: [(&str, &str); 10] = [
    ("cargo ", "would build this crate again, or run these tests"),
    ("PATH=$PWD/target/release:$PATH", "the binary under test is on the path"),
    ("docker build", "needs docker and a cluster"),
    ("kubectl create", "needs a cluster"),
    ("helm upgrade", "needs a cluster; helm.rs renders the chart"),
    ("pip install grpcio", "needs grpcio; grpc.rs runs it"),
    ("docker run", "needs docker"),
    ("systemctl enable", "needs root, and systemd"),
    ("POST /orders --as", "about the policy of the main README"),
    ("cat > policy.test.yaml", "about the policy of the main README; configs.rs runs it"),
];

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The help text of every command without subcommands.
fn help_texts(words: &[String], found: &mut Vec<String>) {
    let output = Command::new(env!("CARGO_BIN_EXE_bartizan")).args(words).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{words:?}: {help}");
    if let Some(commands) = help.split("Commands:\n").nth(1) {
        let listed = commands.lines().take_while(|line| !line.is_empty());
        for name in listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
            help_texts(&[words, &[name.to_owned()]].concat(), found);
        }
    }
    found.push(help);
}

/// The commands in the examples of a help text.
fn examples(help: &str) -> Vec<String> {
    let Some((_, examples)) = help.split_once("\nExample") else { return Vec::new() };
    let joined = joined(examples);
    let commands = joined.lines().map(|line| line.trim_start_matches("s:").trim_start_matches(':').trim());
    let commands = commands.map(|line| line.strip_prefix("Then: ").unwrap_or(line));
    let command = |line: &&str| line.starts_with("bartizan ") || line.contains("$(bartizan ");
    commands.filter(command).map(str::to_owned).collect()
}

/// Runs a script with the binary on the path, at most a minute long.
fn bash(folder: &Path, script: &str) -> Output {
    let binary = Path::new(env!("CARGO_BIN_EXE_bartizan")).parent().unwrap();
    let vault = std::env::var("BAO").ok().and_then(|bao| Some(Path::new(&bao).parent()?.display().to_string()));
    let path = format!("{}:{}:{}", binary.display(), std::env::var("PATH").unwrap(), vault.unwrap_or_default());
    let mut command = Command::new("timeout");
    command.args(["60", "bash", "-c", script]).current_dir(folder).env("PATH", path).env("HOME", folder);
    command.env_remove("BARTIZAN_POLICY").env_remove("BARTIZAN_ADMIN").env_remove("BARTIZAN_ADMIN_TOKEN");
    command.output().unwrap()
}

const POLICY: &str = "version: 1
listen: [{ address: \"127.0.0.1:0\" }]
store: state
token_service: { issuer: https://api.example.com, audience: [orders-api] }
self_service: { path: /.bartizan }
audit: none
auth:
  issuers:
    corp: { issuer: i, audience: [a], algorithms: [HS256], max_lifetime: 1h, default_plan: free,
      secret: 9f86d081884c7d659a2feaa0c55ad015 }
roles: { clerk: [orders:read, orders:write], auditor: [orders:read], finance: [orders:refund] }
plans: { free: { rate: 10/s } }
apis:
  orders:
    upstream: http://127.0.0.1:9
    routes: { GET /v1/orders: { scopes: [orders:read] }, POST /v1/orders: { scopes: [orders:write] } }
";

/// What the examples of help texts refer to.
fn help_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let description =
        std::fs::read_to_string(repository().join("examples/openapi-onboarding/orders.openapi.yaml")).unwrap();
    let tests = "policy: policy.yaml\ncallers: { reader: { issuer: corp, id: app, scopes: [orders:read] } }\n\
                 tests: [{ name: reads, as: reader, request: GET /v1/orders, expect: allow }]\n";
    let files = [
        ("policy.yaml", POLICY.to_owned()),
        ("policy.new.yaml", POLICY.to_owned()),
        ("policy.test.yaml", tests.to_owned()),
        ("orders.openapi.yaml", description),
        ("order.json", "{}".to_owned()),
        ("token.txt", "eyJhbGciOiJIUzI1NiJ9.eyJqdGkiOiJhIn0.AAAA".to_owned()),
        ("client.pem", authority().certifies(&["client.example"]).certificate),
    ];
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    // A signed record, of a command.
    let audit = "audit: { chain: { key: \"${file:audit.pem}\" }, to: [file: { path: audit.jsonl }] }";
    std::fs::write(folder.path().join("signed.yaml"), POLICY.replace("audit: none", audit)).unwrap();
    let signed = "set -e; openssl genpkey -algorithm ed25519 -out audit.pem; openssl pkey -in audit.pem -pubout -out audit.pub
                  bartizan consumer list --policy signed.yaml; cp audit.jsonl audit-1.jsonl; : > audit.jsonl; rm -r state";
    let signed = bash(folder.path(), signed);
    assert!(signed.status.success(), "{signed:?}");
    std::fs::create_dir_all(folder.path().join(".local/share/bash-completion/completions")).unwrap();
    folder
}

#[test]
fn every_example_of_a_help_text_runs() {
    let (mut texts, mut used) = (Vec::new(), [false; HELP_EXCEPTIONS.len()]);
    help_texts(&[], &mut texts);
    let commands: Vec<String> = texts.iter().flat_map(|text| examples(text)).collect();
    assert!(commands.len() > 30, "{commands:#?}");
    let mut failures = Vec::new();
    for command in commands {
        let exception = HELP_EXCEPTIONS.iter().position(|(shown, _)| command.contains(shown));
        let folder = help_folder();
        let prepare = match () {
            () if command.contains("--out policy.yaml") => "rm policy.yaml",
            () if command.contains("consumer add") => "true",
            () if command.contains("consumer resume") => {
                "bartizan consumer add acme --role clerk && bartizan consumer suspend acme --reason unpaid"
            }
            () => {
                "bartizan consumer add acme --role clerk && bartizan key new --consumer acme --id acme-1 --expires 90d"
            }
        };
        let script = match exception {
            None => format!("set -e; export BARTIZAN_POLICY=policy.yaml; {prepare} > /dev/null; {command}"),
            Some(index) => {
                used[index] = true;
                // Parses the arguments, and does nothing.
                command.split(" && ").map(|one| one.split(" | ").next().unwrap().to_owned() + " --help\n").collect()
            }
        };
        let output = bash(folder.path(), &script);
        if !output.status.success() {
            failures.push(format!("{command}: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
    let unused = HELP_EXCEPTIONS.iter().zip(used).find(|(_, used)| !used);
    assert!(unused.is_none(), "no help text shows this any more: {unused:?}");
}

/// The READMEs that show commands, with the folder in which they are run.
fn readmes() -> Vec<(PathBuf, Option<PathBuf>)> {
    let examples = std::fs::read_dir(repository().join("examples")).unwrap().map(|example| example.unwrap().path());
    let mut found: Vec<_> = examples.map(|example| (example.join("README.md"), Some(example))).collect();
    found.push((repository().join("README.md"), None));
    found.push((repository().join(".github/REFERENCE.md"), None));
    found
}

/// A text in which each command is on one line.
pub fn joined(text: &str) -> String {
    text.replace("\\\n", " ")
}

/// The blocks of shell commands in a README.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap())
}

/// The commands of a README, without the exceptions.
fn script_of(text: &str, used: &[Cell<bool>]) -> String {
    let mut script = String::new();
    for block in blocks(text) {
        let skips = |part: &str, begins: bool| {
            let found = README_EXCEPTIONS.iter().position(|(shown, _)| match begins {
                true => part.starts_with(shown),
                false => part.contains(shown) && !shown.starts_with("cargo") && !shown.starts_with("PATH"),
            });
            found.inspect(|index| used[*index].set(true)).is_some()
        };
        if !skips(block, false) {
            for line in block.lines().filter(|line| !skips(line, true)) {
                // `explain` of a request that is refused exits with 1; `init` always writes port 8080.
                let end = match line {
                    _ if line.starts_with("bartizan explain") => " || [ $? = 1 ]\n",
                    _ if line.contains("bartizan init") => "\nsed -i 's/80[8]0/8080/' policy.yaml\n",
                    _ => "\n",
                };
                script.extend([line, end]);
                // Servers take a moment to start, which a reader gives them.
                if line.starts_with("python3 ") {
                    let issues = line.contains("issuer.py") || line.contains("idp.py");
                    let port = if issues { "9002" } else { "9000" };
                    script
                        .push_str(&format!("until (: < /dev/tcp/127.0.0.1/{port}) 2> /dev/null; do sleep 0.1; done\n"));
                }
            }
        }
    }
    script
}

/// Copies a folder, with other ports in its files.
fn copy(from: &Path, to: &Path, ports: &dyn Fn(&str) -> String) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&from, &to, ports);
        } else if let Ok(text) = std::fs::read_to_string(&from) {
            std::fs::write(&to, ports(&text)).unwrap();
        }
    }
}

/// The statuses that comments behind calls promise, or on the line above, and those that were answered.
fn statuses(script: &str, said: &str) -> (Vec<String>, Vec<String>) {
    let before = std::iter::once("").chain(script.lines());
    let calls = before.zip(script.lines());
    let calls = calls.filter(|(_, line)| line.contains("curl -i ") || line.starts_with("call "));
    let promised = calls.map(|(before, line)| {
        let behind = line.rsplit_once(" # ").map(|(_, comment)| comment);
        let comment = behind.or_else(|| before.strip_prefix("# ")).unwrap_or_default().trim_start_matches("also ");
        comment.chars().take_while(char::is_ascii_digit).collect()
    });
    let answers = said.split("HTTP/").skip(1).filter(|rest| rest.starts_with("1.") || rest.starts_with("2 "));
    let status = |rest: &str| rest.split_whitespace().nth(1).unwrap_or_default().to_owned();
    (promised.filter(|status: &String| !status.is_empty()).collect(), answers.map(status).collect())
}

/// Ends what a script has started. A call right after `bartizan run … &` is as in the README: it must wait by itself (U13).
const START: &str = "set -eum
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT
# One call is meant to fail, but none because nobody listens.
curl() { command curl --max-time 20 \"$@\" || [ $? != 7 ]; }
";

#[test]
fn every_command_of_a_readme_runs() {
    let used: Vec<Cell<bool>> = README_EXCEPTIONS.iter().map(|_| Cell::new(false)).collect();
    let mut failures = Vec::new();
    for (readme, example) in readmes() {
        let text = std::fs::read_to_string(&readme).unwrap();
        let script = script_of(&text, &used);
        let tools = ["curl", "openssl", "python3", "redis-server", "redis-cli", "prometheus", "promtool", "bao "]
            .map(|tool| (tool, script.contains(tool)));
        let lacks = |(tool, needed): &(&str, bool)| {
            // It is rarely on the path.
            let is_missing = || match *tool {
                "bao " => std::env::var_os("BAO").is_none(),
                tool => Command::new(tool).arg("--version").output().is_err(),
            };
            *needed && is_missing()
        };
        if script.is_empty() {
            continue;
        }
        if tools.iter().any(lacks) {
            eprintln!("skipped, for want of a tool: {}", readme.display());
            continue;
        }
        // One that is part of another comes after it.
        let written = [
            "8080", "8081", "8200", "8443", "9000", "9001", "9002", "9090", "9901", "9902", "26379", "6379", "6380",
            "6381",
        ];
        let mut listeners = Vec::new();
        while listeners.len() < written.len() {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port().to_string();
            if !written.iter().any(|written| port.contains(written)) {
                listeners.push((listener, port));
            }
        }
        // The API of the reader, which the README tells nobody to start.
        let api = (example.is_none() && text.contains("http://127.0.0.1:9000")).then(|| upstream().start());
        let own = api.as_ref().map(|api| api.url().rsplit(':').next().unwrap().to_owned());
        let port = |(written, (_, free)): (&&str, (TcpListener, String))| match (*written, &own) {
            ("9000", Some(port)) => port.clone(),
            _ => free,
        };
        let free: Vec<_> = written.iter().zip(listeners).map(port).collect();
        let ports =
            |text: &str| written.iter().zip(&free).fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        let folder = tempfile::tempdir().unwrap();
        if let Some(example) = example {
            copy(&example, folder.path(), &ports);
        }
        let output = bash(folder.path(), &format!("{START}{}", ports(&script)));
        let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let (promised, answered) = statuses(&script, &said);
        let mut rest = answered.iter();
        if !output.status.success() || !promised.iter().all(|status| rest.any(|answer| answer == status)) {
            let readme = readme.display();
            failures.push(format!("{readme}: {}: {promised:?}, {answered:?}\n{said}\n{failed}", output.status));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    let unused = README_EXCEPTIONS.iter().zip(&used).find(|(_, used)| !used.get());
    assert!(unused.is_none(), "no README shows this any more: {unused:?}");
}

/// An interactive zsh does not know comments: `curl` would send what is before one to the hosts that its words name.
pub fn sends_what_is_before_a_comment(line: &str) -> bool {
    let (command, _) = line.split_once(" # ").unwrap_or_default();
    let has_credential = ["$", " -u ", " --user ", "--cert "].iter().any(|part| command.contains(part));
    has_credential && !line.trim_start().starts_with('#')
}

#[test]
fn no_command_with_a_credential_has_a_comment_behind_it() {
    assert!(sends_what_is_before_a_comment("curl -H \"X-API-Key: $KEY\" http://127.0.0.1/ # 200"));
    assert!(sends_what_is_before_a_comment("curl -u id:secret http://127.0.0.1/   # 200"));
    assert!(!sends_what_is_before_a_comment("# 200, with $KEY # and so on"));
    assert!(!sends_what_is_before_a_comment("curl http://127.0.0.1/ # 401"));
    assert!(sends_what_is_before_a_comment(&joined("curl -H \"X-API-Key: $KEY\" \\\n  http://127.0.0.1/ # 200")));
    let found: Vec<String> = readmes()
        .into_iter()
        .flat_map(|(readme, _)| {
            let text = std::fs::read_to_string(&readme).unwrap();
            let lines = blocks(&text).map(joined).collect::<Vec<_>>().join("\n");
            let lines: Vec<String> = lines.lines().map(str::to_owned).collect();
            let wrong = lines.into_iter().filter(|line| sends_what_is_before_a_comment(line));
            wrong.map(|line| format!("{}: {line}", readme.display())).collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "write the comment on the line above:\n{}", found.join("\n"));
}

#[test]
fn every_command_in_running_text_exists() {
    let mut count = 0;
    for (readme, _) in readmes() {
        let text = std::fs::read_to_string(&readme).unwrap();
        let outside: String = text.split("\n```").step_by(2).collect();
        for span in outside.split('`').skip(1).step_by(2).filter(|span| span.starts_with("bartizan ")) {
            let command = span.split(['>', '|', '&', ';']).next().unwrap();
            let words: Vec<&str> = command.split_whitespace().skip(1).collect();
            let placeholder = |word: &&str| word.chars().all(|c| c.is_ascii_uppercase());
            if words.iter().any(placeholder) {
                continue;
            }
            let help: &[&str] = if words[0] == "help" { &[] } else { &["--help"] };
            let output = Command::new(env!("CARGO_BIN_EXE_bartizan")).args(words).args(help).output().unwrap();
            assert!(output.status.success(), "{}: `{span}`", readme.display());
            count += 1;
        }
    }
    assert!(count > 15, "{count}");
}
