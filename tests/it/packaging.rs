//! How it is installed: the systemd unit, the packages, and the image. `.packages/check` installs and runs them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// A reload with a bad policy fails, a bad policy is not started for ever, and what it keeps has a place (U13).
#[test]
fn the_unit_checks_a_reload_gives_up_on_a_bad_policy_and_has_folders() {
    let unit = text("examples/systemd-edge/bartizan.service");
    let values = |key: &str| -> Vec<&str> {
        unit.lines().filter_map(|line| line.split_once('=').filter(|(name, _)| *name == key)).map(|(_, v)| v).collect()
    };
    let run = values("ExecStart")[0];
    let check = run.replace(" run --policy ", " check ");
    assert_ne!(run, check);
    assert_eq!(values("ExecReload"), [check.as_str(), "/bin/sh -c 'kill -HUP $MAINPID'"]);
    assert_eq!((values("Restart"), values("RestartPreventExitStatus")), (vec!["on-failure"], vec!["2"]));
    for key in ["StateDirectory", "RuntimeDirectory", "LogsDirectory"] {
        assert_eq!(values(key), ["bartizan"], "{key}");
    }
}

/// What is built into the binary from outside `src/` is sent to Docker, and what is large or secret is not.
#[test]
fn the_image_is_built_from_what_it_needs() {
    let ignored = text(".dockerignore");
    let sent: Vec<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert!(ignored.lines().any(|line| line == "*"), "everything else stays here");
    for needed in ["Cargo.toml", "Cargo.lock", "src", "config", "benches/chain.rs"] {
        assert!(sent.contains(&needed), "{needed}");
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(needed).exists(), "{needed}");
    }
    for source in ["src/cli/demo/policy.rs"] {
        for path in text(source).split("include_str!(\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            let outside = path.trim_start_matches("../");
            let folder = outside.split('/').next().unwrap();
            assert!(path.starts_with("../../../") && sent.contains(&folder), "{source}: {path}");
        }
    }

    let image = text("examples/sidecar/Dockerfile");
    let (_, last) = image.rsplit_once("\nFROM ").unwrap();
    assert!(last.contains("VOLUME /var/lib/bartizan") && last.contains("-o 65532"), "a store outlives the container");
    assert!(last.contains("CMD [\"/usr/local/bin/bartizan\", \"health\"]"), "Docker asks for its health");
}

/// The workload that the packages' binary is trained with: each kind of work is done, and answered as it should be.
#[test]
fn the_training_of_the_packages_binary_runs() {
    // It needs Python 3.11 and openssl, as those who build packages have.
    for (tool, arguments) in
        [("python3", ["-c", "import asyncio; asyncio.TaskGroup"]), ("openssl", ["list", "-commands"])]
    {
        if !Command::new(tool).args(arguments).output().is_ok_and(|output| output.status.success()) {
            println!("skipped: there is no {tool} here that it works with");
            return;
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(".packages/training/train.py");
    let mut command = Command::new("python3");
    command.arg("-B").arg(script).args([env!("CARGO_BIN_EXE_bartizan"), "--seconds", "0"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    for work in
        ["passed through: 32 requests", "HTTP/2: 32 requests", "refusals: 160 requests", "WebSockets: 48 frames"]
    {
        assert!(said.contains(work), "{work} is not in: {said}");
    }
}

/// As installed, it is closed: it listens on this machine, and nobody is let in.
#[test]
fn the_policy_of_the_packages_is_valid_and_lets_nobody_in() {
    let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join(".packages/policy.yaml");
    let bartizan = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bartizan"));
        let output = command.args(arguments).arg(&policy).output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, said) = bartizan(&["check"]);
    assert_eq!((code, said.starts_with("ok: ")), (Some(0), true), "{said}");
    let (code, said) = bartizan(&["explain", "GET", "/", "--policy"]);
    assert_eq!((code, said.contains("missing_credentials")), (Some(1), true), "{said}");
    let written = text(".packages/policy.yaml");
    for listens in written.lines().map(|line| line.split('#').next().unwrap()).filter(|line| line.contains("address:"))
    {
        assert!(listens.contains("127.0.0.1:"), "{listens}");
    }
    assert!(!written.contains("\n  issuers:") && !written.contains("\nconsumers:") && !written.contains("public:"));
}

/// Both packages have the same files, for the folders of their distributions.
#[test]
fn the_deb_and_the_rpm_have_the_same_files() {
    let manifest = text("Cargo.toml");
    let section = |name: &str| manifest.split_once(name).unwrap().1.split("\n]").next().unwrap().to_owned();
    let sources = |section: &str, before: &str| -> BTreeSet<String> {
        let lines = section.lines().filter_map(|line| line.trim().strip_prefix(before));
        lines.map(|line| line.split('"').next().unwrap().to_owned()).collect()
    };
    let deb = sources(&section("[package.metadata.deb]"), "[\"");
    let mut rpm = sources(&section("[package.metadata.generate-rpm]"), "{ source = \"");
    assert!(rpm.remove("target/packages/stage/LICENSE"), "Debian has the text of the licence");
    assert!(deb.len() >= 9, "{deb:?}");
    assert_eq!(deb, rpm);
}
