//! Errors of the system and of libraries in messages: what is wrong, then what to do, without codes such as `os error 17`.

use std::io::{self, ErrorKind};

/// Returns an error of the system in words for a message.
pub(crate) fn system(error: &io::Error) -> String {
    // Made here or by a library, with words of its own.
    if error.get_ref().is_some() {
        return without_codes(&error.to_string());
    }
    let words = match error.kind() {
        ErrorKind::NotFound => "it does not exist; check the path",
        ErrorKind::PermissionDenied => "permission is denied; give it to this user, or run as another one",
        ErrorKind::AlreadyExists => "it exists already; remove it, or choose another path",
        ErrorKind::IsADirectory => "it is a folder; name a file",
        ErrorKind::NotADirectory => "a part of its path is not a folder; check the path",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "the disk is full; free some space",
        ErrorKind::ReadOnlyFilesystem => "its file system is read-only; choose another folder",
        ErrorKind::AddrInUse => "the address is in use; stop what listens there, or choose another port",
        ErrorKind::AddrNotAvailable => "this machine does not have the address; choose one of its own",
        ErrorKind::ConnectionRefused => "nothing listens there; check address and port",
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => "the other side closed the connection",
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "it cannot be reached; check address and network",
        ErrorKind::TimedOut => "there was no answer in time",
        _ => return without_codes(&error.to_string()),
    };
    words.to_owned()
}

/// Returns an error of a connection with the help that one of TLS needs: what to change in the settings of a server.
pub(crate) fn connection(error: &io::Error) -> String {
    use rustls::{CertificateError, Error};

    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    // A verifier of our own has words of its own.
    if let Some(Error::InvalidCertificate(CertificateError::Other(other))) = tls {
        return other.0.to_string();
    }
    let text = system(error);
    match tls.and_then(tls_help) {
        Some(help) => format!("{text}; {help}"),
        None => text,
    }
}

fn tls_help(error: &rustls::Error) -> Option<&'static str> {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error};
    Some(match error {
        Error::InvalidCertificate(certificate) => match certificate {
            // Of a trusted authority, by name, but with another key: it was made anew.
            Certificate::UnknownIssuer | Certificate::BadSignature => {
                "name the authority of its certificate in `tls.ca`"
            }
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. } => {
                "call it by a name of its certificate, or write one in `tls.server_name`"
            }
            Certificate::Expired | Certificate::ExpiredContext { .. } => "its certificate must be renewed",
            Certificate::NotValidYet | Certificate::NotValidYetContext { .. } => "check the clocks of both machines",
            _ => return None,
        },
        Error::AlertReceived(Alert::CertificateRequired) => {
            "it asks for a certificate: write one in `tls.certificate` and `tls.key`"
        }
        Error::AlertReceived(Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown) => {
            "it does not accept the certificate of `tls.certificate`"
        }
        Error::InvalidMessage(_) => "it may not speak TLS: check port and scheme",
        _ => return None,
    })
}

/// Returns the text of an error without the numbers that the system gives to errors.
pub(crate) fn without_codes(text: &str) -> String {
    const CODE: &str = " (os error ";
    let mut parts = text.split(CODE);
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((digits, rest)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => plain.push_str(rest),
            _ => {
                plain.push_str(CODE);
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    /// U12: a message says what is wrong and what to do, in words.
    #[test]
    fn an_error_of_the_system_is_put_into_words() {
        for (error, expected) in [
            (io::Error::from_raw_os_error(2), "it does not exist; check the path"),
            (io::Error::from_raw_os_error(17), "it exists already; remove it, or choose another path"),
            (io::Error::from_raw_os_error(28), "the disk is full; free some space"),
            (
                io::Error::from_raw_os_error(98),
                "the address is in use; stop what listens there, or choose another port",
            ),
            (io::Error::from_raw_os_error(111), "nothing listens there; check address and port"),
            (io::Error::from_raw_os_error(40), "Too many levels of symbolic links"),
            (io::Error::new(ErrorKind::NotFound, "no such name"), "no such name"),
        ] {
            assert_eq!(system(&error), expected, "{error}");
        }
    }

    #[test]
    fn codes_are_removed_and_nothing_else() {
        for (text, plain) in [
            ("a: Connection refused (os error 111)", "a: Connection refused"),
            ("a (os error 1): b (os error 22) - c", "a: b - c"),
            ("a (os error x)", "a (os error x)"),
            ("a (os error 1", "a (os error 1"),
            ("(b)", "(b)"),
            ("", ""),
        ] {
            assert_eq!(without_codes(text), plain, "{text}");
        }
    }
}
