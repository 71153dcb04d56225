//! The chain without sockets: walks one request through the very stages that `run` would, and says how it ends.
//!
//! Nothing is forwarded, and nothing is kept but what the stages keep: limits are counted, verified tokens remembered.

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use http_body_util::Full;

use crate::chain::{self, Learnt, Reached, Tools};
use crate::exchange::{Exchange, Peer};
use crate::policy::Policy;
use crate::policy::compile::{self, Lasting};
use crate::stages::auth::cache::TokenCache;
use crate::stages::schema::body::{Counter, Source};
use crate::state::register::entry::{Change, Entry, Revocation};
use crate::state::register::mark::Target;

/// A policy that requests can be walked through.
pub struct Rehearsal {
    policy: Policy,
    lasting: Lasting,
    tokens: TokenCache,
}

/// How a request ended: the refusal's status and code, or `None` when it would have been forwarded.
pub type Verdict = Option<(u16, &'static str)>;

impl Rehearsal {
    /// Compiles a policy file. The error is the text that `bartizan check` prints.
    ///
    /// # Errors
    /// When the policy has errors.
    pub fn new(policy: &Path) -> Result<Self, String> {
        let lasting = Lasting::new(Instant::now());
        let (policy, problems) = compile::compile(policy, &lasting);
        let policy = policy.ok_or_else(|| problems.text(false))?;
        Ok(Self { policy, tokens: TokenCache::new(lasting.epoch.clone()), lasting })
    }

    /// Forgets all verified tokens.
    pub fn forget_tokens(&mut self) {
        self.tokens = TokenCache::new(self.lasting.epoch.clone());
    }

    /// Revokes so many tokens that nobody has, by their ids.
    pub fn revoke_others(&self, count: usize) {
        let register = self.policy.auth().directory().register();
        for number in 0..count {
            register.learn(Change::Put(Entry::Revocation(Revocation {
                target: Target::Jti(format!("revoked-{number}").into()),
                issued_before: None,
                expires: None,
                reason: None,
                created: jiff::Timestamp::UNIX_EPOCH,
                created_by: "rehearsal".into(),
            })));
        }
    }

    /// Walks one request through route, auth, scope, rate limit and schema. Bodies are read within a tokio runtime that
    /// has time.
    pub async fn ask(&self, method: &Method, path: &str, headers: &mut HeaderMap, body: Bytes) -> Verdict {
        let peer = Peer::new(([127, 0, 0, 1], 1).into(), None);
        let exchange = Exchange::open(&peer, method, Version::HTTP_11, path, headers);
        let route = match self.policy.route("", method, path) {
            Ok(route) => route,
            Err(refusal) => return Some((refusal.reason().status().as_u16(), refusal.reason().code())),
        };
        let reached = Reached { scheme: "http", authority: "", path, query: None, certificate: None };
        let tools = Tools { tokens: &self.tokens, ledger: &self.lasting.ledger, reached };
        let body = (&*headers, Source::Given(Full::new(body)), &Counter::default());
        let admitted = chain::admit(&self.policy, route, tools, &exchange, body, &mut Learnt::default()).await;
        admitted.err().map(|refusal| (refusal.reason().status().as_u16(), refusal.reason().code()))
    }
}
