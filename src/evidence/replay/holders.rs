//! The consumers and keys of a policy, as a record names them: by name and by id.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::evidence::record::Record;
use crate::policy::Policy;
use crate::refusal::Reason;
use crate::stages::auth::api_key::Key;
use crate::stages::auth::caller::Consumer;
use crate::stages::auth::claims::OWN_ISSUER;
use crate::stages::auth::jwt::Issuer;
use crate::state::registry::entry::Identity;

/// What is known of a consumer of the policy.
#[derive(Debug)]
struct Known {
    consumer: Arc<Consumer>,
    /// Whose tokens it may have.
    issuers: HashSet<Box<str>>,
    has_certificates: bool,
    /// Clients of the token service may be in the store.
    has_clients: bool,
}

/// Who holds credentials under a policy.
#[derive(Debug)]
pub(super) struct Holders {
    consumers: HashMap<Box<str>, Known, ahash::RandomState>,
    /// By issuer and id.
    identified: HashMap<(Box<str>, Box<str>), Arc<Consumer>, ahash::RandomState>,
    keys: HashMap<Box<str>, Key, ahash::RandomState>,
    max_key_age: Option<SignedDuration>,
    /// Issuers and introspection endpoints, and whether their tokens need no listed consumer.
    issuers: HashMap<Box<str>, bool, ahash::RandomState>,
    /// Of issuers that have tenants.
    tenants: HashMap<Box<str>, HashSet<Box<str>>, ahash::RandomState>,
    /// Endpoints are asked about the tokens of issuers that nobody knows, too.
    introspects: bool,
    /// Operators may have added consumers and keys.
    has_store: bool,
}

/// The holder of a credential.
pub(super) struct Holder<'h> {
    /// Absent: not of the policy, but let in.
    pub(super) consumer: Option<&'h Consumer>,
    key: Option<&'h Key>,
}

/// Whether a credential that was verified then is good under this policy.
pub(super) enum Standing<'h> {
    Good(Holder<'h>),
    /// It is good if the store has it: the policy lists its consumer, and not the credential.
    Stored(Holder<'h>),
    Refused(Reason),
    /// That depends on what is not recorded.
    Unknown,
}

impl Known {
    /// Of a credential that the policy lists, or does not.
    fn standing(&self, is_listed: bool) -> Standing<'_> {
        if is_listed { Standing::Good(self.holder()) } else { Standing::Refused(Reason::UnknownConsumer) }
    }

    fn holder(&self) -> Holder<'_> {
        Holder { consumer: Some(&self.consumer), key: None }
    }
}

impl Holders {
    pub(super) fn of(policy: &Policy) -> Self {
        let auth = policy.auth();
        let has_clients = policy.token_service().is_some() || policy.has_store();
        let identified = |consumer: &Arc<Consumer>| {
            let of_issuer = |identity: &Identity| match identity {
                Identity::Issuer { issuer, id } => Some(((issuer.clone(), id.clone()), Arc::clone(consumer))),
                Identity::Certificate(_) | Identity::CertificateSan(_) => None,
            };
            auth.directory.identities(consumer.name()).into_iter().filter_map(of_issuer).collect::<Vec<_>>()
        };
        let known = |consumer: &Arc<Consumer>| {
            let identities = auth.directory.identities(consumer.name());
            let issuer = |identity: &&Identity| match identity {
                Identity::Issuer { issuer, .. } => Some(issuer.clone()),
                Identity::Certificate(_) | Identity::CertificateSan(_) => None,
            };
            let known = Known {
                consumer: Arc::clone(consumer),
                issuers: identities.iter().filter_map(issuer).collect(),
                has_certificates: identities.iter().any(|identity| issuer(identity).is_none()),
                has_clients,
            };
            (Box::from(&**consumer.name()), known)
        };
        let mut tenants: HashMap<Box<str>, HashSet<Box<str>>, _> = HashMap::default();
        for issuer in auth.issuers().map(Issuer::settings) {
            if let Some(tenant) = &issuer.tenant {
                tenants.entry(issuer.name.clone()).or_default().insert(tenant.value.clone());
            }
        }
        let issuers = auth.issuers().map(Issuer::settings);
        let issuers = issuers.chain(auth.introspection.iter().map(|endpoint| endpoint.settings()));
        Self {
            identified: auth.directory.listed().values().flat_map(identified).collect(),
            consumers: auth.directory.listed().values().map(known).collect(),
            keys: auth.keys.listed().map(|key| (key.id.clone(), key.clone())).collect(),
            max_key_age: auth.keys.max_age(),
            issuers: issuers.map(|one| (one.name.clone(), one.default_plan.is_some())).collect(),
            tenants,
            introspects: !auth.introspection.is_empty(),
            has_store: policy.has_store(),
        }
    }

    /// The holder of the credential of a record that was verified, at the time of the record.
    pub(super) fn holder(&self, record: &Record<'_>) -> Standing<'_> {
        let (Some(name), (Some(kind), id)) = (record.consumer(), record.credential()) else { return Standing::Unknown };
        if kind == "api_key" {
            return self.of_key(name, id.unwrap_or_default(), record);
        }
        match (kind, record.issuer()) {
            ("certificate", _) => self.of_certificate(name),
            (_, Some(issuer)) => self.of_token(name, issuer),
            (_, None) => self.of_unnamed_token(name),
        }
    }

    fn of_certificate(&self, name: &str) -> Standing<'_> {
        match self.consumers.get(name) {
            Some(known) => known.standing(known.has_certificates),
            None if self.has_store => Standing::Unknown,
            None => Standing::Refused(Reason::UnknownConsumer),
        }
    }

    fn of_token(&self, name: &str, issuer: &str) -> Standing<'_> {
        // A policy that gives the issuer another name knows its tokens by that: names are all that a record has.
        let Some(is_open) = self.issuers.get(issuer) else {
            return if self.introspects { Standing::Unknown } else { Standing::Refused(Reason::InvalidToken) };
        };
        // `ISSUER:ID`, as consumers are called that neither the policy nor the store lists.
        if let Some(id) = name.strip_prefix(issuer).and_then(|rest| rest.strip_prefix(':')) {
            return match self.identified.get(&(Box::from(issuer), Box::from(id))) {
                Some(consumer) => Standing::Good(Holder { consumer: Some(consumer), key: None }),
                None if !self.has_tenant(issuer, id) => Standing::Refused(Reason::InvalidToken),
                None if *is_open => Standing::Good(Holder::unknown()),
                None => Standing::Refused(Reason::UnknownConsumer),
            };
        }
        match self.consumers.get(name) {
            Some(known) if known.issuers.contains(issuer) => Standing::Good(known.holder()),
            // Operators add clients to a consumer of the policy, but no identities at issuers.
            Some(known) if *issuer == *OWN_ISSUER && known.has_clients => Standing::Stored(known.holder()),
            // It goes on as `ISSUER:ID`, but the id is not recorded.
            _ if *is_open => Standing::Unknown,
            None if self.has_store => Standing::Unknown,
            _ => Standing::Refused(Reason::UnknownConsumer),
        }
    }

    /// Whether the tenant of an id is one of those of its issuer, if that has tenants.
    fn has_tenant(&self, issuer: &str, id: &str) -> bool {
        let tenants = self.tenants.get(issuer);
        tenants.is_none_or(|all| id.split_once('/').is_some_and(|(tenant, _)| all.contains(tenant)))
    }

    /// Of recorders that did not write who issued a token.
    fn of_unnamed_token(&self, name: &str) -> Standing<'_> {
        let is_open = |issuer: &str| self.issuers.get(issuer).is_some_and(|is_open| *is_open);
        match self.consumers.get(name) {
            Some(known) if known.issuers.is_empty() && known.has_clients => Standing::Stored(known.holder()),
            Some(known) => known.standing(!known.issuers.is_empty()),
            None if self.has_store => Standing::Unknown,
            None if name.split_once(':').is_some_and(|(issuer, _)| is_open(issuer)) => {
                Standing::Good(Holder::unknown())
            }
            None if self.issuers.values().any(|is_open| *is_open) => Standing::Unknown,
            None => Standing::Refused(Reason::UnknownConsumer),
        }
    }

    fn of_key(&self, name: &str, id: &str, record: &Record<'_>) -> Standing<'_> {
        let Some(key) = self.keys.get(id) else {
            return match self.consumers.get(name).filter(|_| self.has_store) {
                Some(known) => Standing::Stored(Holder { consumer: Some(&known.consumer), key: None }),
                None if self.has_store => Standing::Unknown,
                None => Standing::Refused(Reason::InvalidKey),
            };
        };
        let at = record.at().unwrap_or(Timestamp::UNIX_EPOCH).as_second();
        let is_early = key.not_before.is_some_and(|start| at < start.as_second());
        let is_late = key.end(self.max_key_age).is_some_and(|end| at >= end.as_second());
        if is_early || is_late {
            return Standing::Refused(Reason::ExpiredKey);
        }
        Standing::Good(Holder { consumer: Some(&key.consumer), key: Some(key) })
    }
}

impl Holder<'_> {
    /// That of a credential of which nothing is known but what the record says.
    pub(super) fn unknown() -> Self {
        Self { consumer: None, key: None }
    }

    /// The name that its consumer has under this policy.
    pub(super) fn name<'n>(&'n self, record: &'n Record<'_>) -> &'n str {
        self.consumer.map_or_else(|| record.consumer().unwrap_or_default(), |consumer| consumer.name())
    }

    /// Whether its credential is good from an address.
    pub(super) fn is_good_from(&self, client: Option<IpAddr>) -> bool {
        let networks = self.consumer.and_then(Consumer::networks).into_iter();
        let mut all = networks.chain(self.key.and_then(|key| key.networks.as_ref()));
        all.all(|networks| client.is_some_and(|client| networks.contain(client)))
    }

    /// Whether its credential has a scope under this policy.
    pub(super) fn has(&self, scope: &str, record: &Record<'_>) -> bool {
        let has = |all: &[crate::evidence::record::Text<'_>]| all.iter().any(|one| **one == *scope);
        if has(record.lent()) {
            return true;
        }
        let ceiling = self.consumer.map(|consumer| consumer.ceiling());
        let allows = |scopes: &[Box<str>]| scopes.iter().any(|one| **one == *scope);
        match (ceiling, self.key, record.credential().0) {
            (Some(None), Some(_), _) => false,
            (Some(None), None, Some("certificate")) => false,
            (Some(Some(ceiling)), Some(key), _) => allows(ceiling) && key.scopes.as_deref().is_none_or(allows),
            (Some(Some(ceiling)), None, Some("certificate")) => allows(ceiling),
            // What a token says of itself is what was granted, and what its consumer's roles cut.
            (Some(Some(ceiling)), None, _) => allows(ceiling) && (has(record.granted()) || has(record.cut())),
            (Some(None) | None, _, _) => has(record.granted()) || has(record.cut()),
        }
    }
}
