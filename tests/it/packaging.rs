//! How it is installed: the systemd unit, and the image.

use std::fs;
use std::path::Path;

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
    assert_eq!(values("ExecReload"), [check.as_str(), "/bin/kill -HUP $MAINPID"]);
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
}
