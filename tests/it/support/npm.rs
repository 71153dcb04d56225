//! Packages of npm that tests drive, with the versions of a lock file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use super::has;

/// Where packages are, or why not, by folder.
type Installed = HashMap<String, Arc<OnceLock<Result<PathBuf, String>>>>;

/// Tests that need the same packages run at the same time: two `npm ci` in one folder take away each other's files.
static INSTALLED: LazyLock<Mutex<Installed>> = LazyLock::new(Mutex::default);

/// Installs what `tests/it/NAME/package-lock.json` has beside the build's other files, with these scripts of the same folder; once.
///
/// # Errors
/// Why this cannot be done.
pub fn install(name: &str, scripts: &[&str]) -> Result<PathBuf, String> {
    let installed = Arc::clone(INSTALLED.lock().unwrap().entry(name.to_owned()).or_default());
    installed.get_or_init(|| install_now(name, scripts)).clone()
}

fn install_now(name: &str, scripts: &[&str]) -> Result<PathBuf, String> {
    if !has("node") || !has("npm") {
        return Err("there is no node with npm".to_owned());
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(name);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["package.json", "package-lock.json"].iter().chain(scripts) {
        std::fs::copy(source.join(name), folder.join(name)).unwrap();
    }
    let npm = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder).output().unwrap();
    if npm.status.success() {
        Ok(folder)
    } else {
        Err(format!("npm ci failed: {}", String::from_utf8_lossy(&npm.stderr)))
    }
}
