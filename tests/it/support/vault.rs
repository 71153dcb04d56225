//! A real OpenBao, which is a Vault to its clients; and one of our own, which answers as a test wants.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::certificates::Certified;
use super::{eventually, skipped};

/// An unsealed OpenBao in memory. Dropping it kills it.
pub struct Vault {
    port: u16,
    tls: u16,
    root: String,
    key: String,
    child: Child,
    _folder: TempDir,
}

/// Starts one, or returns `None` where there is none (`BAO`: its binary). It has engines at `secret` (version 2) and `kv1`
/// (version 1), and TLS with this certificate at a second port.
#[track_caller]
pub fn vault(certified: Option<&Certified>) -> Option<Vault> {
    let Some(binary) = std::env::var_os("BAO") else {
        skipped("there is no OpenBao: set BAO to the path of `bao`");
        return None;
    };
    // Somebody else may take a port before the server does: then others.
    loop {
        let folder = TempDir::new().unwrap();
        let port = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (plain, tls) = (port(), port());
        let mut config = format!(
            "storage \"inmem\" {{}}\ndisable_mlock = true\napi_addr = \"http://127.0.0.1:{plain}\"\n\
             listener \"tcp\" {{\n address = \"127.0.0.1:{plain}\"\n tls_disable = true\n}}\n"
        );
        if let Some(certified) = certified {
            let path = |name: &str| folder.path().join(name).display().to_string();
            std::fs::write(path("tls.crt"), &certified.certificate).unwrap();
            std::fs::write(path("tls.key"), &certified.key).unwrap();
            config += &format!(
                "listener \"tcp\" {{\n address = \"127.0.0.1:{tls}\"\n tls_cert_file = \"{}\"\n tls_key_file = \"{}\"\n}}\n",
                path("tls.crt"),
                path("tls.key")
            );
        }
        let file = folder.path().join("bao.hcl");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(&binary);
        command.args(["server", "-config"]).arg(&file).env("HOME", folder.path());
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("BAO can be run");
        let up = eventually("OpenBao takes connections, or ends", || match child.try_wait().unwrap() {
            Some(_) => Some(false),
            None => TcpStream::connect(("127.0.0.1", plain)).is_ok().then_some(true),
        });
        if !up {
            continue;
        }
        let mut vault = Vault { port: plain, tls, root: String::new(), key: String::new(), child, _folder: folder };
        let made = eventually("it is initialised", || {
            let made = vault.ask("PUT", "sys/init", &json!({"secret_shares": 1, "secret_threshold": 1}));
            made["root_token"].is_string().then_some(made)
        });
        vault.root = made["root_token"].as_str().unwrap().to_owned();
        vault.key = made["keys_base64"][0].as_str().unwrap().to_owned();
        vault.unseal();
        vault.mounts("secret", &json!({"type": "kv", "options": {"version": "2"}}));
        vault.mounts("kv1", &json!({"type": "kv", "options": {"version": "1"}}));
        return Some(vault);
    }
}

impl Vault {
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// By TLS.
    pub fn https(&self) -> String {
        format!("https://localhost:{}", self.tls)
    }

    /// A token that may do everything.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// One request; the answer as JSON, whatever its status.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.ask_with(&[], method, path, body)
    }

    fn ask_with(&self, headers: &[(&str, &str)], method: &str, path: &str, body: &Value) -> Value {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return Value::Null };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "{method} /v1/{path} HTTP/1.0\r\nX-Vault-Token: {}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.root,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_default()
    }

    /// One request that must succeed.
    #[track_caller]
    pub fn does(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.ask(method, path, body);
        assert_eq!(answer.get("errors"), None, "{method} {path}: {answer}");
        answer
    }

    pub fn mounts(&self, path: &str, settings: &Value) {
        self.does("POST", &format!("sys/mounts/{path}"), settings);
        // An engine of version 2 is upgraded in the background.
        eventually("the engine is ready", || {
            let answer = self.ask("GET", &format!("{path}/config"), &Value::Null);
            let text = answer.to_string();
            (!text.contains("Upgrading") && !text.contains("being upgraded")).then_some(())
        });
    }

    /// Writes a secret below `secret`; returns its version.
    pub fn puts(&self, path: &str, fields: &Value) -> u64 {
        let answer = self.does("POST", &format!("secret/data/{path}"), &json!({"data": fields}));
        answer["data"]["version"].as_u64().unwrap()
    }

    /// A policy with this name, which may read everything, and more.
    pub fn lets_read(&self, name: &str, more: &str) {
        let policy = format!(
            "path \"secret/*\" {{ capabilities = [\"read\"] }}\npath \"kv1/*\" {{ capabilities = [\"read\"] }}\n{more}"
        );
        self.does("PUT", &format!("sys/policies/acl/{name}"), &json!({"policy": policy}));
    }

    /// An AppRole that may read; its tokens are good for so many seconds. Returns role id and secret id.
    pub fn approle(&self, seconds: u64) -> (String, String) {
        self.lets_read("reader", "");
        self.does("POST", "sys/auth/approle", &json!({"type": "approle"}));
        let role = json!({"token_policies": "reader", "token_ttl": seconds, "token_max_ttl": seconds});
        self.does("POST", "auth/approle/role/proxy", &role);
        let id = self.does("GET", "auth/approle/role/proxy/role-id", &Value::Null);
        let secret = self.does("POST", "auth/approle/role/proxy/secret-id", &json!({}));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&id["data"]["role_id"]), text(&secret["data"]["secret_id"]))
    }

    /// A secret id that is wrapped in the token that is returned.
    pub fn wrapped_secret_id(&self) -> String {
        let path = "auth/approle/role/proxy/secret-id";
        let answer = self.ask_with(&[("X-Vault-Wrap-TTL", "300s")], "POST", path, &json!({}));
        answer["wrap_info"]["token"].as_str().unwrap().to_owned()
    }

    pub fn seal(&self) {
        self.ask("PUT", "sys/seal", &Value::Null);
        eventually("it is sealed", || {
            (self.ask("GET", "sys/seal-status", &Value::Null)["sealed"] == json!(true)).then_some(())
        });
    }

    pub fn unseal(&self) {
        self.ask("PUT", "sys/unseal", &json!({"key": self.key}));
        eventually("it is active", || {
            (self.ask("GET", "sys/leader", &Value::Null)["is_self"] == json!(true)
                || self.ask("GET", "sys/health", &Value::Null)["standby"] == json!(false))
            .then_some(())
        });
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
