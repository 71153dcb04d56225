//! What a partner does with its credential, as commands for a shell: claim it, get a token, call, replace it.

use super::key_use::KeyUse;
use crate::policy::Policy;
use crate::policy::self_service::{SelfEndpoint, SelfService};
use crate::policy::token_service::{OwnEndpoint, TokenService};
use crate::stages::auth::locations::TokenLocation;
use crate::state::registry::entry::InvitedCredential;

/// Encodes standard input as base64url without padding (RFC 4648 §5), in any shell.
const BASE64URL: &str = "b64() { base64 | tr -d '=\\n' | tr '+/' '-_'; }";
/// How `curl` connects with a client certificate.
const CERTIFICATE: &str = "--cert client.crt --key client.key";
/// The first line of a claim.
const READ_CODE: &str = "read -rs CODE      # paste the code; it stays out of the history of your shell\n";

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
            InvitedCredential::ApiKey => "it gives your API key, which is shown only once",
            InvitedCredential::ClientSecret => "it gives the secret of your client, which is shown only once",
            InvitedCredential::PrivateKeyJwt => {
                "you send your public key with it, and get the id of your client. Your private key never leaves you"
            }
            InvitedCredential::Certificate => {
                "you send your client certificate with it, and get the id of your client. Its key never leaves you"
            }
        }
    }

    /// The commands that claim it, and what the answer has.
    pub(super) fn claim(&self) -> (String, &'static str) {
        let url = quoted(&format!("{}{}", self.base, self.config.path_of(SelfEndpoint::ClaimInvitation)));
        let send = |more: &str| {
            format!(
                "{READ_CODE}curl -s {url} -H 'Content-Type: application/json' -d \"{{\\\"code\\\": \\\"$CODE\\\"{more}}}\"\n"
            )
        };
        match self.credential {
            InvitedCredential::ApiKey => (
                send(""),
                "The answer has the key (`key`), its id (`id`) and its end (`expires`). Keep the key where you keep secrets.",
            ),
            InvitedCredential::ClientSecret => (
                send(""),
                "The answer has the client's id (`client_id`), its secret (`client_secret`) and its end (`expires`). Keep the \
                 secret where you keep secrets.",
            ),
            InvitedCredential::PrivateKeyJwt => {
                let make = format!(
                    "openssl genpkey -algorithm ed25519 -out private.pem      # stays with you\n{BASE64URL}\n\
                     X=$(openssl pkey -in private.pem -pubout -outform DER | tail -c 32 | b64)\n"
                );
                let jwk = r#", \"jwk\": {\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"$X\"}"#;
                (
                    make + &send(jwk),
                    "The answer has the client's id (`client_id`) and its end (`expires`). Keys on P-256 and P-384, and RSA keys \
                     of 2048 bits or more, are taken as well.",
                )
            }
            InvitedCredential::Certificate => {
                let read = "CERTIFICATE=$(awk '{printf \"%s\\\\n\", $0}' client.crt)      # with its chain, in PEM\n";
                (
                    read.to_owned() + &send(r#", \"certificate\": \"$CERTIFICATE\""#),
                    "The answer has the client's id (`client_id`) and its end (`expires`). The certificate must be one that this \
                     API takes: ask us who may sign it.",
                )
            }
        }
    }

    /// The commands that get a token; none for an API key.
    pub(super) fn token(&self) -> Option<String> {
        let tokens = self.tokens()?;
        let (issuer, url) = (quoted(&tokens.issuer), quoted(&tokens.url(OwnEndpoint::Token)));
        Some(match self.credential {
            InvitedCredential::ApiKey => return None,
            InvitedCredential::ClientSecret => {
                format!("curl -s {url} -u \"YOUR_ID:YOUR_SECRET\" -d grant_type=client_credentials\n")
            }
            InvitedCredential::PrivateKeyJwt => format!(
                "{BASE64URL}\nNOW=$(date +%s)\n\
                 HEAD=$(printf '{{\"alg\":\"EdDSA\",\"typ\":\"client-authentication+jwt\"}}' | b64)\n\
                 BODY=$(printf '{{\"iss\":\"%s\",\"sub\":\"%s\",\"aud\":\"%s\",\"jti\":\"%s\",\"iat\":%s,\"exp\":%s}}' YOUR_ID YOUR_ID \
                 {issuer} \"$(openssl rand -hex 16)\" $NOW $((NOW+60)) | b64)\n\
                 printf %s \"$HEAD.$BODY\" > to-sign\n\
                 SIGNATURE=$(openssl pkeyutl -sign -rawin -inkey private.pem -in to-sign | b64)\n\
                 curl -s {url} -d grant_type=client_credentials \
                 -d client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer \
                 -d \"client_assertion=$HEAD.$BODY.$SIGNATURE\"\n"
            ),
            InvitedCredential::Certificate => {
                format!("curl -s {CERTIFICATE} {url} -d grant_type=client_credentials -d client_id=YOUR_ID\n")
            }
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

    /// The command that replaces it, or whom to ask.
    pub(super) fn replace(&self) -> String {
        let path = |endpoint, id| self.config.path_of(endpoint).replace("{id}", id);
        match self.credential {
            InvitedCredential::ApiKey => format!(
                "curl -s -X POST {}   # a new key; the old one stays valid for 7 days\n",
                self.call(&path(SelfEndpoint::RotateKey, "KEY_ID"))
            ),
            InvitedCredential::ClientSecret => format!(
                "curl -s -X POST -u \"YOUR_ID:YOUR_SECRET\" {}   # a new secret; the old one stays valid for 7 days\n",
                quoted(&format!("{}{}", self.base, path(SelfEndpoint::RotateSecret, "YOUR_ID")))
            ),
            InvitedCredential::PrivateKeyJwt | InvitedCredential::Certificate => {
                "# before it ends, ask us for a new invitation: both clients are valid for a while\n".to_owned()
            }
        }
    }

    /// What partners see of refusals of their credential: status, code, what to do.
    pub(super) fn refusals(&self) -> &'static [(&'static str, &'static str, &'static str)] {
        match self.credential {
            InvitedCredential::ApiKey => {
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

    fn tokens(&self) -> Option<&'p TokenService> {
        self.policy.token_service().filter(|_| self.credential.is_client())
    }
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
