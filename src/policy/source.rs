//! Reads the files of a policy within bounds, keeps their text for error messages, and computes a digest so that a
//! reload detects changes.
//!
//! It only reads files and environment variables, and does not interpret them. Secrets are part of the digest, but are
//! never kept for printing.

use std::collections::{BTreeMap, HashSet};
use std::env::VarError;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{Context, SHA256};
use secrecy::{ExposeSecret, SecretString};

use super::included;
pub(crate) use super::quoted::quote;
use super::read_file::{FILE_LIMIT, POLICY_LIMIT, SECRET_LIMIT, read_bytes, read_text};
pub(crate) use super::read_file::{ReadError, ReadErrorKind};
pub(crate) use super::text::{Listing, Place, PolicyText, SourceText};
use super::vault_answers::VaultAnswers;
use crate::secrets::Lookup;
use crate::secrets::inputs::{Input, InputKind, Inputs};
use crate::secrets::vault::VaultReference;
use crate::xsd::document::decode::decode;

/// Looks up an environment variable: [`std::env::var`], or a stand-in.
pub(crate) type Env = Box<dyn Fn(&str) -> Result<String, VarError>>;

/// The environment of this process.
pub(crate) fn environment() -> Env {
    Box::new(|name| std::env::var(name))
}

/// Resolves the path of a file that another file names, relative to the folder of that file. The error says what is wrong
/// with the path. A path that leaves the policy's folder begins with `..`.
pub(crate) fn beside(from: &str, path: &str) -> Result<String, String> {
    let scheme = path.split_once(':').is_some_and(|(scheme, _)| !scheme.contains('/'));
    if scheme || path.starts_with("//") {
        return Err("a policy can only refer to files, not to URLs".to_owned());
    }
    if path.starts_with('/') || path.contains(['\\', '\0', '?']) {
        return Err("write the path of the file relative to this one".to_owned());
    }
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut segments: Vec<&str> = folder.split('/').filter(|segment| !segment.is_empty() && *segment != ".").collect();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." if segments.last().is_none_or(|last| *last == "..") => segments.push(".."),
            ".." => {
                segments.pop();
            }
            name => segments.push(name),
        }
    }
    let root = if folder.starts_with('/') { "/" } else { "" };
    Ok(format!("{root}{}", segments.join("/")))
}

/// Everything that was read for one policy.
pub(crate) struct Sources {
    /// Folder of the policy file, as given on the command line. Paths in the policy are relative to it.
    folder: PathBuf,
    /// The policy file itself.
    policy: Arc<SourceText>,
    /// What it includes, in the order of reading.
    included: Vec<Arc<SourceText>>,
    /// Their bytes.
    included_bytes: u64,
    /// What the patterns of `include` have found.
    listings: Vec<Listing>,
    /// The policy file and what it includes, by their paths without links.
    read: HashSet<PathBuf>,
    /// What it includes, if that was read before.
    kept: Option<(Vec<Arc<SourceText>>, Vec<Listing>)>,
    /// Files, by the name that messages show; each is read once.
    files: BTreeMap<String, Arc<SourceText>>,
    /// The same for XML files, with their bytes.
    xml: BTreeMap<String, (Arc<SourceText>, Arc<[u8]>)>,
    /// Secrets, by their references; each is read once, so that all uses agree.
    secrets: BTreeMap<String, SecretString>,
    /// Digest of everything that was read, including secrets.
    everything: Context,
    /// Digest without secrets.
    shown: Context,
    env: Env,
    /// Where the values of references to the vault come from.
    pub(crate) vault: VaultAnswers,
    /// What was read so far, to recognize it again.
    inputs: Inputs,
}

impl Sources {
    /// Reads the policy file, with `env` for references.
    pub(crate) fn open_with(policy: &Path, env: Env) -> Result<Self, ReadError> {
        let name = policy.display().to_string();
        let (text, modified) = read_text(policy, &name, POLICY_LIMIT)?;
        let mut sources = Self::with_text(policy, Arc::new(SourceText::new(name, text, 0)), env);
        if let Some(input) = sources.inputs.find(false, &sources.policy.name) {
            input.written(modified);
        }
        Ok(sources)
    }

    /// Sources around the texts of a policy that were read before.
    pub(crate) fn with_texts(path: &Path, texts: PolicyText, env: Env) -> Self {
        let PolicyText { file, included, listings } = texts;
        Self { kept: Some((included, listings)), ..Self::with_text(path, file, env) }
    }

    /// Sources around a policy file with another text.
    pub(crate) fn with_edited(path: &Path, text: &str, env: Env) -> Self {
        Self::with_text(path, Arc::new(SourceText::new(path.display().to_string(), text.to_owned(), 0)), env)
    }

    fn with_text(path: &Path, policy: Arc<SourceText>, env: Env) -> Self {
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let mut sources = Self::around(folder, policy, env);
        let Self { policy, inputs, .. } = &mut sources;
        inputs.add(InputKind::Policy, &policy.name, Some(path), policy.text.as_bytes());
        sources.read.extend(std::fs::canonicalize(path).ok());
        sources
    }

    /// Sources for a policy that will be written to this folder.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        let policy = Arc::new(SourceText::new(String::new(), String::new(), 0));
        Self::around(folder.to_path_buf(), policy, Box::new(|name| std::env::var(name)))
    }

    fn around(folder: PathBuf, policy: Arc<SourceText>, env: Env) -> Self {
        let mut shown = Context::new(&SHA256);
        // The name of the policy file is not part of its content.
        absorb(&mut shown, b'p', "", policy.text.as_bytes());
        let everything = shown.clone();
        Self {
            folder,
            policy,
            included: Vec::new(),
            included_bytes: 0,
            listings: Vec::new(),
            read: HashSet::new(),
            kept: None,
            files: BTreeMap::new(),
            xml: BTreeMap::new(),
            secrets: BTreeMap::new(),
            everything,
            shown,
            env,
            vault: VaultAnswers::NoVault,
            inputs: Inputs::default(),
        }
    }

    /// The policy file.
    pub(crate) fn policy(&self) -> &Arc<SourceText> {
        &self.policy
    }

    /// The policy file, and what it includes.
    pub(crate) fn texts(&self) -> PolicyText {
        let (file, included) = (Arc::clone(&self.policy), self.included.clone());
        PolicyText { file, included, listings: self.listings.clone() }
    }

    /// Takes what the policy includes, if that was read before.
    pub(crate) fn take_kept(&mut self) -> Option<Vec<Arc<SourceText>>> {
        let (kept, listings) = self.kept.take()?;
        listings.into_iter().for_each(|listing| self.add_listing(listing));
        kept.iter().for_each(|text| self.add_included(text, None));
        Some(kept)
    }

    /// Reads the files that a pattern of `include` finds, in the order of their names, except those that were read already.
    pub(crate) fn include(&mut self, pattern: &str) -> Result<Vec<Arc<SourceText>>, ReadError> {
        let (path, _) = self.locate(pattern)?;
        let failed = |kind| ReadError { name: pattern.to_owned(), kind };
        let found = if included::is_pattern(pattern) {
            let found = included::find(&self.folder, pattern).map_err(failed)?;
            self.add_listing(Listing { pattern: pattern.into(), names: included::names(&found).into() });
            found
        } else {
            vec![path]
        };
        let mut texts = Vec::new();
        for path in found {
            let name = path.display().to_string();
            if self.included.len() >= included::MOST_FILES {
                return Err(failed(ReadErrorKind::TooManyFiles(included::MOST_FILES)));
            }
            let (text, modified) = match read_text(&path, &name, POLICY_LIMIT) {
                Ok(read) => read,
                Err(error) => return Err(self.absorb_failure(&name, error)),
            };
            // The same file may be found under several names.
            if !self.read.insert(std::fs::canonicalize(&path).unwrap_or(path)) {
                continue;
            }
            self.included_bytes += text.len() as u64;
            if self.included_bytes + self.policy.text.len() as u64 > POLICY_LIMIT {
                return Err(ReadError { name, kind: ReadErrorKind::TooLargeTogether(POLICY_LIMIT) });
            }
            let text = Arc::new(SourceText::new(name, text, self.next_order()));
            self.add_included(&text, modified);
            texts.push(text);
        }
        Ok(texts)
    }

    fn add_listing(&mut self, listing: Listing) {
        let Listing { pattern, names } = &listing;
        self.inputs.add(InputKind::Listing, pattern, Some(&self.folder), names.as_bytes());
        absorb(&mut self.everything, b'l', pattern, names.as_bytes());
        self.listings.push(listing);
    }

    fn add_included(&mut self, text: &Arc<SourceText>, modified: Option<SystemTime>) {
        let (name, content) = (&text.name, text.text.as_bytes());
        self.inputs.add(InputKind::Included, name, Some(Path::new(name)), content).written(modified);
        absorb(&mut self.everything, b'f', name, content);
        absorb(&mut self.shown, b'f', name, content);
        self.included.push(Arc::clone(text));
    }

    /// The position of the next file in the order of reading.
    fn next_order(&self) -> usize {
        self.included.len() + self.files.len() + self.xml.len() + 1
    }

    /// Resolves a path written in the policy.
    pub(crate) fn path(&self, written: &str) -> PathBuf {
        self.folder.join(written)
    }

    /// Reads a file that the policy names. Keeps the text, so that problems in it can be shown.
    pub(crate) fn read(&mut self, written: &str) -> Result<Arc<SourceText>, ReadError> {
        let (path, name) = self.locate(written)?;
        if let Some(known) = self.files.get(&name) {
            return Ok(Arc::clone(known));
        }
        match read_text(&path, &name, FILE_LIMIT) {
            Ok((text, modified)) => {
                self.inputs.add(InputKind::File, &name, Some(&path), text.as_bytes()).written(modified);
                absorb(&mut self.everything, b'f', &name, text.as_bytes());
                absorb(&mut self.shown, b'f', &name, text.as_bytes());
                let source = Arc::new(SourceText::new(name.clone(), text, self.next_order()));
                self.files.insert(name, Arc::clone(&source));
                Ok(source)
            }
            Err(error) => Err(self.absorb_failure(&name, error)),
        }
    }

    /// Reads an XML file that the policy names: its text, in any encoding, and its bytes. A text that cannot be decoded is
    /// kept as well as it can be, so that the problem can be shown.
    pub(crate) fn read_xml(&mut self, written: &str) -> Result<(Arc<SourceText>, Arc<[u8]>), ReadError> {
        let (path, name) = self.locate(written)?;
        if let Some(known) = self.xml.get(&name) {
            return Ok(known.clone());
        }
        match read_bytes(&path, &name, FILE_LIMIT) {
            Ok((bytes, modified)) => {
                self.inputs.add(InputKind::File, &name, Some(&path), &bytes).written(modified);
                absorb(&mut self.everything, b'f', &name, &bytes);
                absorb(&mut self.shown, b'f', &name, &bytes);
                let text = decode(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes)).into_owned();
                let order = self.next_order();
                let read = (Arc::new(SourceText::new(name.clone(), text, order)), bytes.into());
                Ok(self.xml.entry(name).or_insert(read).clone())
            }
            Err(error) => Err(self.absorb_failure(&name, error)),
        }
    }

    /// Whether a path leads into a folder after following links. False if it does not exist.
    pub(crate) fn is_within(&self, folder: &str, written: &str) -> bool {
        let whole = |path: &str| {
            let path = self.path(path);
            // A bare file name is relative to the working directory.
            std::fs::canonicalize(if path.as_os_str().is_empty() { Path::new(".") } else { &path }).ok()
        };
        whole(folder).zip(whole(written)).is_some_and(|(folder, file)| file.starts_with(folder))
    }

    /// Reads a file that holds a secret. The text is unchanged and never shown, but part of the digest.
    pub(crate) fn read_secret(&mut self, written: &str) -> Result<SecretString, ReadError> {
        let (path, name) = self.locate(written)?;
        let memory = format!("file:{name}");
        if let Some(known) = self.secrets.get(&memory) {
            return Ok(known.clone());
        }
        match read_text(&path, &name, SECRET_LIMIT) {
            Ok((text, modified)) => {
                self.inputs.add(InputKind::Secret, &name, Some(&path), text.as_bytes()).written(modified);
                absorb(&mut self.everything, b's', &name, text.as_bytes());
                let secret = SecretString::from(text);
                self.secrets.insert(memory, secret.clone());
                Ok(secret)
            }
            Err(error) => Err(self.absorb_failure(&name, error)),
        }
    }

    /// Notes where the policy refers to a variable or a file: `env:NAME` or `file:PATH`. Does nothing if it was not read.
    pub(crate) fn used(&mut self, reference: &str, place: &Place) {
        let input = match reference.split_once(':') {
            Some(("file", path)) => self.locate(path).ok().and_then(|(_, name)| self.inputs.find(true, &name)),
            _ => self.inputs.find(false, reference),
        };
        if let Some(input) = input {
            input.used(&format!("${{{reference}}}"), || place.to_string());
        }
    }

    /// The same for a path to a file of this kind. Certificates beside a private key are a secret.
    pub(crate) fn used_path(&mut self, kind: InputKind, path: &str, place: &Place) {
        let Ok((_, name)) = self.locate(path) else { return };
        let has_key = self.files.get(&name).is_some_and(|file| file.text.contains("PRIVATE KEY-----"));
        if let Some(input) = self.inputs.find(kind == InputKind::Secret, &name) {
            // What is a part of the policy stays that.
            if input.kind.is_policy() {
                return;
            }
            input.kind = if has_key { InputKind::Secret } else { kind };
            input.used(path, || place.to_string());
        }
    }

    /// Everything that was read so far.
    pub(crate) fn inputs(&self) -> Vec<Input> {
        self.inputs.all()
    }

    /// Notes a certificate that was issued for the policy: another one is a change.
    pub(crate) fn issued(&mut self, name: &str, chain: &str) {
        absorb(&mut self.everything, b'i', name, chain.as_bytes());
    }

    /// SHA-256, in hexadecimal, of everything read so far. It covers secrets, so it is only compared and never shown.
    pub(crate) fn fingerprint(&self) -> String {
        hexadecimal(&self.everything)
    }

    /// SHA-256, in hexadecimal, of the policy and the files it names, without secrets. Identifies the policy in records.
    pub(crate) fn digest(&self) -> String {
        hexadecimal(&self.shown)
    }

    fn locate(&self, written: &str) -> Result<(PathBuf, String), ReadError> {
        if written.is_empty() {
            return Err(ReadError { name: String::new(), kind: ReadErrorKind::NoPath });
        }
        let path = self.path(written);
        let name = path.display().to_string();
        Ok((path, name))
    }

    fn absorb_failure(&mut self, name: &str, error: ReadError) -> ReadError {
        absorb(&mut self.everything, b'!', name, b"");
        error
    }
}

impl Lookup for Sources {
    fn env(&mut self, name: &str) -> Result<SecretString, VarError> {
        let memory = format!("env:{name}");
        if let Some(known) = self.secrets.get(&memory) {
            return Ok(known.clone());
        }
        let value = (self.env)(name).map(SecretString::from);
        match &value {
            Ok(value) => {
                self.inputs.add(InputKind::Variable, &memory, None, value.expose_secret().as_bytes());
                absorb(&mut self.everything, b'e', name, value.expose_secret().as_bytes());
                self.secrets.insert(memory, value.clone());
            }
            Err(_) => absorb(&mut self.everything, b'!', name, b""),
        }
        value
    }

    fn file(&mut self, path: &str) -> Result<SecretString, (String, Option<&'static str>)> {
        self.read_secret(path).map_err(|error| (error.to_string(), error.help()))
    }

    fn vault(&mut self, reference: &VaultReference) -> Result<SecretString, (String, Option<String>)> {
        let memory = reference.to_string();
        if let Some(known) = self.secrets.get(&memory) {
            return Ok(known.clone());
        }
        let value = self.vault.value(reference);
        match &value {
            Ok(value) => {
                absorb(&mut self.everything, b'v', &memory, value.expose_secret().as_bytes());
                self.secrets.insert(memory, value.clone());
            }
            Err(_) => absorb(&mut self.everything, b'!', &memory, b""),
        }
        value
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("policy", &self.policy.name)
            .field("files", &self.files.keys())
            .finish_non_exhaustive()
    }
}

fn hexadecimal(digest: &Context) -> String {
    digest.clone().finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Adds a part with its kind and lengths, so that different inputs never produce the same bytes.
fn absorb(digest: &mut Context, kind: u8, name: &str, bytes: &[u8]) {
    digest.update(&[kind]);
    digest.update(&(name.len() as u64).to_be_bytes());
    digest.update(name.as_bytes());
    digest.update(&(bytes.len() as u64).to_be_bytes());
    digest.update(bytes);
}

/// Reads a file within the bounds of a policy file.
pub(super) fn read_like_a_policy(path: &Path) -> Result<SourceText, ReadError> {
    let name = path.display().to_string();
    let (text, _) = read_text(path, &name, POLICY_LIMIT)?;
    Ok(SourceText::new(name, text, 0))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn no_env(_: &str) -> Result<String, VarError> {
        Err(VarError::NotPresent)
    }

    #[test]
    fn files_are_read_once_and_every_byte_counts_in_the_digest() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy.yaml");
        std::fs::write(&policy, "version: 1\n").unwrap();
        std::fs::write(folder.path().join("a.json"), "{}").unwrap();
        std::fs::write(folder.path().join("secret"), "hush\n").unwrap();
        let run = || {
            let mut sources = Sources::open_with(&policy, Box::new(no_env)).unwrap();
            let first = sources.read("a.json").unwrap();
            assert!(Arc::ptr_eq(&first, &sources.read("a.json").unwrap()));
            assert_eq!(first.name, folder.path().join("a.json").display().to_string());
            assert_eq!(sources.read_secret("secret").unwrap().expose_secret(), "hush\n");
            assert!(!format!("{sources:?}").contains("hush"));
            sources.fingerprint()
        };
        let before = run();
        assert_eq!(before.len(), 64);
        assert_eq!(before, run());
        std::fs::write(folder.path().join("a.json"), "[]").unwrap();
        let after = run();
        assert_ne!(before, after);
        std::fs::write(folder.path().join("secret"), "hush!\n").unwrap();
        // run() asserts the old secret, so this reading is made by hand.
        let mut sources = Sources::open_with(&policy, Box::new(no_env)).unwrap();
        sources.read("a.json").unwrap();
        sources.read_secret("secret").unwrap();
        assert_ne!(after, sources.fingerprint());
    }

    #[test]
    fn what_is_no_readable_text_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let policy = folder.path().join("policy.yaml");
        std::fs::write(&policy, "version: 1\n").unwrap();
        std::fs::write(folder.path().join("binary"), [0xff, 0xfe, 0x00]).unwrap();
        let large = File::create(folder.path().join("large")).unwrap();
        large.set_len(FILE_LIMIT + 1).unwrap();
        let mut sources = Sources::open_with(&policy, Box::new(no_env)).unwrap();
        for (path, kind) in [
            ("absent", ReadErrorKind::NotFound),
            (".", ReadErrorKind::Folder),
            ("binary", ReadErrorKind::NotText),
            ("large", ReadErrorKind::TooLarge(FILE_LIMIT)),
            ("", ReadErrorKind::NoPath),
            ("/dev/zero", ReadErrorKind::NotAFile),
        ] {
            assert_eq!(sources.read(path).unwrap_err().kind, kind, "{path}");
        }
        // F36: a policy may be larger than a file that it names.
        large.set_len(POLICY_LIMIT + 1).unwrap();
        let too_large = Sources::open_with(&folder.path().join("large"), Box::new(no_env)).err().unwrap();
        assert_eq!(too_large.kind, ReadErrorKind::TooLarge(POLICY_LIMIT));
        std::fs::write(folder.path().join("real"), "text").unwrap();
        std::os::unix::fs::symlink(folder.path().join("real"), folder.path().join("link")).unwrap();
        assert_eq!(sources.read("link").unwrap().text, "text");
        let (_pipe, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        assert_eq!(sources.read("socket").unwrap_err().kind, ReadErrorKind::NotAFile);
        drop(socket);
    }
}
