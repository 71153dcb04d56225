//! How long the certificates and revocation lists of listeners are valid. An invalid one does not keep a policy from being
//! loaded, because renewing it may need this very process; but it is reported wherever operators look.

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

/// The end is near in the last quarter of the period of validity, but at most this long before it.
const SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// What has a period of validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ValidityKind {
    /// A certificate of a listener's own chain.
    Certificate,
    /// An authority of client certificates.
    ClientCa,
    /// A revocation list of client certificates.
    Crl,
}

/// The period of validity of one certificate or revocation list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Validity {
    pub(crate) kind: ValidityKind,
    /// The file, as the policy names it.
    pub(crate) file: Box<str>,
    /// The subject of a certificate, the issuer of a list.
    pub(crate) name: Box<str>,
    start: Timestamp,
    /// The last moment; a list without one never ends.
    pub(crate) end: Option<Timestamp>,
}

/// Where the present lies in a period of validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValidityState {
    Valid,
    NotYetValid,
    ExpiresSoon,
    Expired,
}

impl ValidityKind {
    /// The name in metrics and on `/readyz`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::ClientCa => "client_ca",
            Self::Crl => "client_crl",
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::ClientCa => "client authority",
            Self::Crl => "revocation list",
        }
    }

    fn consequence(self) -> &'static str {
        match self {
            Self::Certificate => "clients refuse to connect",
            Self::ClientCa => "renew it before its clients stop trusting what it signed",
            Self::Crl => "client certificates of its issuer are refused",
        }
    }
}

impl ValidityState {
    /// The name on `/readyz`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::NotYetValid => "not_yet_valid",
            Self::ExpiresSoon => "expires_soon",
            Self::Expired => "expired",
        }
    }
}

impl Validity {
    /// The periods of a PEM file of certificates that has been read before; what cannot be parsed is left out.
    pub(super) fn of_certificates(kind: ValidityKind, file: &str, certificates: &[CertificateDer<'_>]) -> Vec<Self> {
        let one = |der: &CertificateDer<'_>| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            let period = certificate.validity();
            let (start, end) = (period.not_before.timestamp(), period.not_after.timestamp());
            Self::new(kind, file, certificate.subject().to_string(), start, Some(end))
        };
        certificates.iter().filter_map(one).collect()
    }

    /// The same for revocation lists (RFC 5280 §5.1.2.5).
    pub(super) fn of_lists(file: &str, lists: &[CertificateRevocationListDer<'_>]) -> Vec<Self> {
        let one = |der: &CertificateRevocationListDer<'_>| {
            let (_, list) = CertificateRevocationList::from_der(der).ok()?;
            let end = list.next_update().map(|end| end.timestamp());
            Self::new(ValidityKind::Crl, file, list.issuer().to_string(), list.last_update().timestamp(), end)
        };
        lists.iter().filter_map(one).collect()
    }

    fn new(kind: ValidityKind, file: &str, name: String, start: i64, end: Option<i64>) -> Option<Self> {
        let start = Timestamp::from_second(start).ok()?;
        let end = end.map(|end| Timestamp::from_second(end).unwrap_or(Timestamp::MAX));
        Some(Self { kind, file: file.into(), name: name.into(), start, end })
    }

    /// Where the present lies in the period.
    pub(crate) fn state(&self, now: Timestamp) -> ValidityState {
        let Some(end) = self.end else {
            return if now < self.start { ValidityState::NotYetValid } else { ValidityState::Valid };
        };
        let quarter = end.duration_since(self.start).as_secs() / 4;
        let soon = SOON.min(SignedDuration::from_secs(quarter));
        match end.duration_since(now) {
            _ if now < self.start => ValidityState::NotYetValid,
            left if left.is_negative() => ValidityState::Expired,
            left if left < soon => ValidityState::ExpiresSoon,
            _ => ValidityState::Valid,
        }
    }

    /// What an operator should know now, if anything.
    pub(crate) fn problem(&self, now: Timestamp) -> Option<String> {
        let Self { kind, file, name, start, .. } = self;
        let (noun, end) = (kind.noun(), self.end.unwrap_or(Timestamp::MAX));
        let thing = format!("the {noun} `{name}` in {file}");
        match self.state(now) {
            ValidityState::Valid => None,
            ValidityState::NotYetValid => Some(format!("{thing} is not valid before {start}: {}", kind.consequence())),
            ValidityState::ExpiresSoon => Some(format!("{thing} expires soon, at {end}; renew it")),
            ValidityState::Expired => Some(format!("{thing} expired at {end}: {}", kind.consequence())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + day * DAY).unwrap()
    }

    #[test]
    fn an_invalid_period_and_its_near_end_are_reported() {
        // U4: an expired certificate was served without a word.
        use ValidityState::{Expired, ExpiresSoon, NotYetValid, Valid};
        for (days, now, expected) in [
            (Some(90), -1, NotYetValid),
            (Some(90), 0, Valid),
            (Some(90), 76, Valid),
            (Some(90), 77, ExpiresSoon),
            (Some(90), 90, ExpiresSoon),
            (Some(90), 91, Expired),
            // Short-lived ones are renewed every few days: 14 days before the end would be always.
            (Some(8), 6, Valid),
            (Some(8), 7, ExpiresSoon),
            (None, -1, NotYetValid),
            (None, 100_000, Valid),
        ] {
            let end = days.map(|days| at(days).as_second());
            let period = Validity::new(ValidityKind::Crl, "a.crl", "CN=a".to_owned(), at(0).as_second(), end).unwrap();
            assert_eq!(period.state(at(now)), expected, "{days:?} {now}");
            assert_eq!(period.problem(at(now)).is_none(), expected == Valid);
        }
    }
}
