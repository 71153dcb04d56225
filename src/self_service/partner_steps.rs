//! What a partner does with its credential, as commands for a shell: claim it, get a token, call, replace it.

use std::borrow::Cow;

use super::key_use::KeyUse;
use crate::policy::Policy;
use crate::policy::self_service::{SelfEndpoint, SelfService};
use crate::policy::token_service::{OwnEndpoint, TokenService};
use crate::stages::auth::locations::TokenLocation;
use crate::state::registry::entry::InvitedCredential;
use crate::url::{Form, HttpUrl};

/// Encodes standard input as base64url without padding (RFC 4648 §5), in any shell.
const BASE64URL: &str = "base64 | tr -d '=\\n' | tr '+/' '-_'";
/// How `curl` connects with a client certificate.
const CERTIFICATE: &str = "--cert client.crt --key client.key";
/// The file that the partner writes the code to: it is in no history of a shell, and in no list of processes.
const CODE: &str = "\"$(tr -d '[:space:]' < code.txt)\"";
/// Makes a private key. RSA, because the `openssl` of every system signs with it.
const MAKE_KEY: &str = "openssl genrsa -out private.pem 3072";
/// The modulus of that key: 384 bytes before the exponent, which is 5 bytes at the end of the public key (RFC 8017 A.1.1).
const MODULUS: &str = "openssl pkey -in private.pem -pubout -outform DER | tail -c 389 | head -c 384";

/// A step: what to do, and one command on one line, which works as pasted in any shell. So there are no comments in it (an interactive
/// zsh does not know them), nothing is read from the terminal that would be the next line pasted, and no secret is in it.
pub(super) struct Step {
    pub(super) words: String,
    pub(super) command: String,
}

impl Step {
    fn new(words: impl Into<String>, command: impl Into<String>) -> Self {
        Self { words: words.into(), command: command.into() }
    }
}

/// The steps for one kind of credential.
pub(super) struct Steps<'p> {
    policy: &'p Policy,
    config: &'p SelfService,
    credential: InvitedCredential,
    /// The URL that the partner calls, without a slash at its end.
    base: String,
}

impl<'p> Steps<'p> {
    pub(super) fn new(
        policy: &'p Policy,
        config: &'p SelfService,
        credential: InvitedCredential,
        base: Option<&str>,
    ) -> Self {
        Self { policy, config, credential, base: base.map_or_else(|| likely_base(policy), str::to_owned) }
    }

    /// What the partner gets, as the end of a sentence.
    pub(super) fn gives(&self) -> &'static str {
        match self.credential {
            InvitedCredential::ApiKey | InvitedCredential::Later(_) => {
                "it gives your API key, which is shown only once"
            }
            InvitedCredential::ClientSecret => "it gives the secret of your client, which is shown only once",
            InvitedCredential::PrivateKeyJwt => {
                "you send your public key with it, and get the id of your client. Your private key never leaves you"
            }
            InvitedCredential::Certificate => {
                "you send your client certificate with it, and get the id of your client. Its key never leaves you"
            }
        }
    }

    /// The steps that claim it, and what the answer has.
    pub(super) fn claim(&self) -> (Vec<Step>, &'static str) {
        let url = quoted(&format!("{}{}", self.claim_base(), self.config.path_of(SelfEndpoint::ClaimInvitation)));
        // The key of a certificate is shown by connecting with it.
        let curl = match self.credential {
            InvitedCredential::Certificate => format!("curl -s {CERTIFICATE}"),
            _ => "curl -s".to_owned(),
        };
        // `printf` is of the shell itself.
        let send = |members: &str, values: &str| {
            let json = format!("printf '{{\"code\": \"%s\"{members}}}' {CODE}{values}");
            Step::new(
                "Write the code to a file `code.txt`, claim, and delete the file:",
                format!("{json} | {curl} {url} -H 'Content-Type: application/json' -d @-"),
            )
        };
        match self.credential {
            InvitedCredential::ApiKey | InvitedCredential::Later(_) => (
                vec![send("", "")],
                "The answer has the key (`key`), its id (`id`) and its end (`expires`). Keep the key where you keep secrets.",
            ),
            InvitedCredential::ClientSecret => (
                vec![send("", "")],
                "The answer has the client's id (`client_id`), its secret (`client_secret`) and its end (`expires`). Keep the \
                 secret where you keep secrets.",
            ),
            InvitedCredential::PrivateKeyJwt => {
                let make = Step::new("Make a private key, which stays with you:", MAKE_KEY);
                let jwk = ", \"jwk\": {\"kty\": \"RSA\", \"e\": \"AQAB\", \"n\": \"%s\"}";
                (
                    vec![make, send(jwk, &format!(" \"$({MODULUS} | {BASE64URL})\""))],
                    "The answer has the client's id (`client_id`) and its end (`expires`). Ed25519 keys and those on P-256 and P-384 \
                     are taken as well, as `jwk` (RFC 7517).",
                )
            }
            InvitedCredential::Certificate => {
                // Lines may end as those of Windows do.
                let lines = r#" "$(awk '{sub(/\r$/, ""); printf "%s\\n", $0}' client.crt)""#;
                let mut send = send(", \"certificate\": \"%s\"", lines);
                send.words.insert_str(0, "Have your certificate, with its chain, as `client.crt`, and its key as `client.key`, both in PEM. The address of the claim must take client certificates: if the answer says that you have shown none, tell us. ");
                (
                    vec![send],
                    "The answer has the client's id (`client_id`) and its end (`expires`). The certificate must be one that this \
                     API takes: ask us who may sign it.",
                )
            }
        }
    }

    /// The step that gets a token, and the text of the script that it runs, if it runs one; none for an API key.
    pub(super) fn token(&self) -> Option<(Step, Option<String>)> {
        let tokens = self.tokens()?;
        let url = quoted(&tokens.url(OwnEndpoint::Token));
        let grant = format!("{url} -d grant_type=client_credentials");
        Some(match self.credential {
            InvitedCredential::ApiKey | InvitedCredential::Later(_) => return None,
            InvitedCredential::ClientSecret => {
                (Step::new("It asks for your secret:", format!("curl -s -u YOUR_ID {grant}")), None)
            }
            InvitedCredential::PrivateKeyJwt => {
                let words =
                    "Write this, with your id, to a file `token.sh`, beside `private.pem`, and run it for each token:";
                (Step::new(words, "sh token.sh"), Some(script(&tokens.issuer, &grant)))
            }
            InvitedCredential::Certificate => (
                Step::new("With your certificate:", format!("curl -s {CERTIFICATE} {grant} -d client_id=YOUR_ID")),
                None,
            ),
        })
    }

    /// What `curl` is called with for a path.
    pub(super) fn call(&self, path: &str) -> String {
        let url = format!("{}{path}", self.base);
        if self.credential == InvitedCredential::ApiKey {
            return KeyUse::of(self.policy).curl(&url, "YOUR_KEY");
        }
        let token = match self.policy.auth().locations.tokens.first() {
            Some(TokenLocation::Cookie(name)) => format!("-H \"Cookie: {name}=YOUR_TOKEN\""),
            Some(TokenLocation::Header(name)) => format!("-H \"{name}: YOUR_TOKEN\""),
            Some(TokenLocation::Authorization) | None => "-H \"Authorization: Bearer YOUR_TOKEN\"".to_owned(),
        };
        let shown =
            if self.credential == InvitedCredential::Certificate { format!("{CERTIFICATE} ") } else { String::new() };
        format!("{shown}{token} {}", quoted(&url))
    }

    /// The step that replaces it, or what to do instead.
    pub(super) fn replace(&self) -> Result<Step, &'static str> {
        let path = |endpoint, id| self.config.path_of(endpoint).replace("{id}", id);
        match self.credential {
            InvitedCredential::ApiKey | InvitedCredential::Later(_) => Ok(Step::new(
                "A new key; the old one stays valid for 7 days:",
                format!("curl -s -X POST {}", self.call(&path(SelfEndpoint::RotateKey, "KEY_ID"))),
            )),
            InvitedCredential::ClientSecret => {
                let url = quoted(&format!("{}{}", self.base, path(SelfEndpoint::RotateSecret, "YOUR_ID")));
                Ok(Step::new(
                    "A new secret; the old one, which it asks for, stays valid for 7 days:",
                    format!("curl -s -X POST -u YOUR_ID {url}"),
                ))
            }
            InvitedCredential::PrivateKeyJwt | InvitedCredential::Certificate => {
                Err("Before your client ends, ask us for a new invitation: both clients are valid for a while.")
            }
        }
    }

    /// What partners see of refusals of their credential: status, code, what to do.
    pub(super) fn refusals(&self) -> &'static [(&'static str, &'static str, &'static str)] {
        match self.credential {
            InvitedCredential::ApiKey | InvitedCredential::Later(_) => {
                &[("401", "`invalid_key`, `expired_key`", "check the key; replace it before it ends")]
            }
            InvitedCredential::ClientSecret => &[
                (
                    "401",
                    "`invalid_client`, for a token",
                    "check the id and the secret; replace the secret before it ends",
                ),
                ("401", "`expired_token`, `invalid_token`", "get a new token"),
            ],
            InvitedCredential::PrivateKeyJwt => &[
                ("401", "`invalid_client`, for a token", "`error_description` says what is wrong with the assertion"),
                ("401", "`expired_token`, `invalid_token`", "get a new token"),
            ],
            InvitedCredential::Certificate => &[
                ("401", "`invalid_client`, for a token", "connect with the certificate that you sent"),
                ("401", "`expired_token`, `invalid_token`", "get a new token; call with the certificate, too"),
            ],
        }
    }

    /// Where it is claimed. A certificate has to be shown there: the address of the token service takes those of clients, and the one
    /// that is called may not.
    fn claim_base(&self) -> Cow<'_, str> {
        let shows = self.credential == InvitedCredential::Certificate;
        let issuer = self.tokens().filter(|_| shows).and_then(|tokens| origin(&tokens.issuer));
        match issuer {
            Some(issuer) if origin(&self.base).as_ref() != Some(&issuer) => Cow::Owned(issuer),
            _ => Cow::Borrowed(&self.base),
        }
    }

    fn tokens(&self) -> Option<&'p TokenService> {
        self.policy.token_service().filter(|_| self.credential.is_client())
    }
}

/// A script that signs an assertion (RFC 7523 §2.2), and gets a token with it.
fn script(issuer: &str, grant: &str) -> String {
    let issuer = quoted(issuer);
    format!(
        "ID=YOUR_ID\n\
         ISSUER={issuer}\n\
         b64() {{ {BASE64URL}; }}\n\
         NOW=$(date +%s)\n\
         HEAD=$(printf '{{\"alg\":\"RS256\",\"typ\":\"client-authentication+jwt\"}}' | b64)\n\
         BODY=$(printf '{{\"iss\":\"%s\",\"sub\":\"%s\",\"aud\":\"%s\",\"jti\":\"%s\",\"iat\":%s,\"exp\":%s}}' \
         \"$ID\" \"$ID\" \"$ISSUER\" \"$(openssl rand -hex 16)\" \"$NOW\" \"$((NOW+60))\" | b64)\n\
         SIGNATURE=$(printf %s \"$HEAD.$BODY\" | openssl dgst -sha256 -sign private.pem -binary | b64)\n\
         curl -s {grant} \\\n  \
         -d client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer \\\n  \
         -d \"client_assertion=$HEAD.$BODY.$SIGNATURE\"\n"
    )
}

/// The origin of a URL (RFC 6454 §4), with its port unless that is the usual one.
fn origin(url: &str) -> Option<String> {
    let url = HttpUrl::parse(url, Form::BASE).ok()?;
    let (scheme, usual) = if url.is_https() { ("https", 443) } else { ("http", 80) };
    let (host, port) = (url.host().to_ascii_lowercase(), url.port());
    // An address of IPv6 is in brackets (RFC 3986 §3.2.2).
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
    Some(if port == usual { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{port}") })
}

/// The URL that partners most likely call.
fn likely_base(policy: &Policy) -> String {
    let mut hosts = policy.apis().iter().flat_map(|api| api.hosts()).filter(|host| !host.starts_with("*."));
    hosts.next().map_or_else(|| "https://YOUR-API".to_owned(), |host| format!("https://{host}"))
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_neither_a_path_nor_the_usual_port() {
        for (url, expected) in [
            ("https://API.example.com:443/tenant", Some("https://api.example.com")),
            ("https://api.example.com:8443", Some("https://api.example.com:8443")),
            ("http://api.example.com:443/", Some("http://api.example.com:443")),
            ("http://[2001:db8::1]:80/x", Some("http://[2001:db8::1]")),
            ("api.example.com", None),
        ] {
            assert_eq!(origin(url).as_deref(), expected, "{url}");
        }
    }
}
