//! The demo's policy: `config/demo.yaml` and its schema, embedded in the binary and unpacked into a folder where they can be edited.
//! There it also gets what the admin page needs to change something: a token, a store, and a place where partners claim invitations.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::places::{Places, USUAL};

/// The policy in the repository.
const POLICY: &str = include_str!("../../../config/demo.yaml");
/// The files it names.
const FILES: [(&str, &str); 1] = [("new-order.json", include_str!("../../../config/new-order.json"))];

/// What the unpacked policy has at its end.
const ADDED: &str = "
store: ./store                        # keys, revocations and invitations of the admin page

self_service: { path: /.bartizan }    # where partners claim invitations
";

/// A policy in a folder that is removed when this value is dropped.
pub(super) struct Unpacked {
    /// Removes the folder when dropped.
    _folder: TempDir,
    file: PathBuf,
}

impl Unpacked {
    /// Unpacks the policy with the actual addresses.
    pub(super) fn new(places: &Places, admin_token: &str) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("bartizan-demo-").tempdir()?;
        let file = folder.path().join("demo.yaml");
        std::fs::write(&file, with_admin(&placed(places), admin_token))?;
        for (name, text) in FILES {
            std::fs::write(folder.path().join(name), text)?;
        }
        Ok(Self { _folder: folder, file })
    }

    /// The policy file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

fn placed(places: &Places) -> String {
    let moved = [
        (USUAL.proxy, places.proxy),
        (USUAL.api, places.api),
        (USUAL.issuer, places.issuer),
        (USUAL.admin, places.admin),
    ];
    moved.iter().fold(POLICY.to_owned(), |text, (usual, real)| text.replace(&usual.to_string(), &real.to_string()))
}

/// Adds the admin token, which is of this run only, the store and the self-service.
fn with_admin(policy: &str, token: &str) -> String {
    let admin = format!("admin:\n  token: {token}   # made for this run\n");
    policy.replace("admin:\n", &admin) + ADDED
}

#[cfg(test)]
mod tests {
    use super::super::places::loopback;
    use super::*;

    #[test]
    fn every_address_of_the_policy_can_be_moved() {
        let places = Places { proxy: loopback(1), api: loopback(2), issuer: loopback(3), admin: loopback(4) };
        let text = placed(&places);
        for address in
            ["- address: 127.0.0.1:1\n", "http://127.0.0.1:2\n", "http://127.0.0.1:3/jwks.json", " 127.0.0.1:4 "]
        {
            assert!(text.contains(address), "{address}");
        }
        for usual in ["8080", "9000", "9002", "9901"] {
            assert!(!text.contains(&format!(":{usual}")), "{usual}");
        }
        assert_eq!(placed(&USUAL), POLICY);
    }

    #[test]
    fn the_token_is_the_one_of_the_admin_listener() {
        let text = with_admin(POLICY, "secret");
        assert_eq!(text.matches("token: secret").count(), 1);
        assert!(text.contains("admin:\n  token: secret   # made for this run\n  address:"), "{text}");
    }

    #[test]
    fn the_folder_goes_away_with_the_value() {
        let unpacked = Unpacked::new(&USUAL, "token").unwrap();
        let file = unpacked.file().to_owned();
        assert!(file.exists());
        drop(unpacked);
        assert!(!file.parent().unwrap().exists());
    }
}
