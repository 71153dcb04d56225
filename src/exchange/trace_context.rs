//! W3C Trace Context: which trace a request belongs to, and its spans in it.
//!
//! Ids that begin here are derived from the id of the request, most of which is random: no other random number is drawn.

use http::header::HeaderValue;
use uuid::Uuid;

/// Length of a `traceparent` of version 00.
pub(crate) const TRACEPARENT_LENGTH: usize = 55;
/// Most members of a `tracestate` (§3.3.1.1).
const MEMBERS: usize = 32;

/// The id of a trace; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceId(pub(crate) u128);

/// The id of a span; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SpanId(pub(crate) u64);

/// The caller's span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    /// Its id.
    pub(crate) span: SpanId,
    /// The caller may have recorded it.
    pub(crate) sampled: bool,
}

/// Where a request is in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    /// The trace.
    pub(crate) trace: TraceId,
    /// The span of the request, from its head to its end.
    pub(crate) span: SpanId,
    /// The span of the caller whose trace is continued; absent if the trace begins here.
    pub(crate) parent: Option<Parent>,
}

impl TraceContext {
    /// A trace that begins with the request that has this id.
    pub(super) fn begin(request: Uuid) -> Self {
        let (high, low) = request.as_u64_pair();
        // Six bits of every UUID are constant. Samplers of other programs look at the lower half, which must be evenly distributed.
        let trace = u128::from(high) << 64 | u128::from(mixed(low));
        Self { trace: TraceId(trace.max(1)), span: SpanId(mixed(low ^ 0x5350_414e).max(1)), parent: None }
    }

    /// The same request in the trace of its caller. A trace begins here if `traceparent` is invalid or there is not exactly one.
    pub(super) fn continue_from<'a>(self, mut fields: impl Iterator<Item = &'a HeaderValue>) -> Self {
        match (fields.next().and_then(|field| parse(field.as_bytes())), fields.next()) {
            (Some((trace, parent)), None) => Self { trace, parent: Some(parent), ..self },
            _ => self,
        }
    }

    /// The span of the call to the upstream, a child of this one.
    pub(crate) fn upstream_span(&self) -> SpanId {
        SpanId(mixed(self.span.0).max(1))
    }

    /// A `traceparent` (§3.2) with this parent, of version 00.
    pub(crate) fn traceparent(&self, parent: SpanId, sampled: bool) -> [u8; TRACEPARENT_LENGTH] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        for (place, id) in [(3..35, self.trace.text().as_bytes()), (36..52, parent.text().as_bytes())] {
            if let Some(digits) = text.get_mut(place) {
                digits.copy_from_slice(id);
            }
        }
        let [.., last] = &mut text;
        *last += u8::from(sampled);
        text
    }
}

/// Spreads what is random over all bits; different numbers stay different (the finalizer of SplitMix64).
fn mixed(mut number: u64) -> u64 {
    number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// Reads a `traceparent` (§3.2.2). A later version may have more after a further hyphen (§4.3).
fn parse(text: &[u8]) -> Option<(TraceId, Parent)> {
    let (known, rest) = text.split_at_checked(TRACEPARENT_LENGTH)?;
    let [v1, v2, b'-', known @ ..] = known else { return None };
    let (trace, known) = known.split_at_checked(32)?;
    let (b'-', known) = known.split_first()? else { return None };
    let (span, known) = known.split_at_checked(16)?;
    let (b'-', flags) = known.split_first()? else { return None };
    let (trace, span) = (number(trace)?, u64::try_from(number(span)?).ok()?);
    let (version, flags) = (number(&[*v1, *v2])?, number(flags)?);
    let follows = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    let valid = follows && trace != 0 && span != 0;
    valid.then_some((TraceId(trace), Parent { span: SpanId(span), sampled: flags & 1 == 1 }))
}

/// The value of digits as Trace Context writes them: in lower case.
fn number(digits: &[u8]) -> Option<u128> {
    let mut number = 0;
    for digit in digits {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        number = number << 4 | u128::from(value);
    }
    Some(number)
}

/// The 16 hexadecimal digits of a number: eight at once, because every record has some.
fn digits(number: u64) -> [u8; 16] {
    let eight = |number: u64| {
        // One digit in each byte.
        let number = (number << 16 | number) & 0x0000_ffff_0000_ffff;
        let number = (number << 8 | number) & 0x00ff_00ff_00ff_00ff;
        let number = (number << 4 | number) & 0x0f0f_0f0f_0f0f_0f0f;
        // 1 in each byte that is above 9: letters come 39 after where the digits would go on.
        let letters = (number + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        number + 0x3030_3030_3030_3030 + letters * 39
    };
    let both = u128::from(eight(number >> 32)) << 64 | u128::from(eight(number & 0xffff_ffff));
    both.to_be_bytes()
}

/// An id in hexadecimal.
#[derive(Clone, Copy)]
pub(crate) struct Hexadecimal<const N: usize>([u8; N]);

impl<const N: usize> Hexadecimal<N> {
    /// Its digits, in ASCII.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TraceId {
    /// 32 digits in lower case.
    pub(crate) fn text(self) -> Hexadecimal<32> {
        let mut text = [0; 32];
        let (high, low) = text.split_at_mut(16);
        high.copy_from_slice(&digits((self.0 >> 64) as u64));
        low.copy_from_slice(&digits(self.0 as u64));
        Hexadecimal(text)
    }
}

impl SpanId {
    /// 16 digits in lower case.
    pub(crate) fn text(self) -> Hexadecimal<16> {
        Hexadecimal(digits(self.0))
    }
}

/// Whether the fields of a `tracestate` are valid together (§3.3.1). What is not is dropped as a whole.
pub(crate) fn is_tracestate<'a>(fields: impl Iterator<Item = &'a HeaderValue>) -> bool {
    let members = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    let mut count = 0;
    for member in members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
        count += 1;
        if count > MEMBERS || !is_member(member) {
            return false;
        }
    }
    true
}

fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|byte| *byte == b'=') else { return false };
    let (key, value) = member.split_at(equals);
    let value = value.get(1..).unwrap_or_default();
    let printable = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b',' | b'=');
    // Its last character is no space, which was trimmed.
    (1..=256).contains(&value.len()) && value.iter().all(printable) && is_key(key)
}

/// `KEY`, or `TENANT@SYSTEM` (§3.3.1.3.1).
fn is_key(key: &[u8]) -> bool {
    let rest = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
    let all = |part: &[u8], most| (1..=most).contains(&part.len()) && part.iter().all(rest);
    let letter = |part: &[u8]| part.first().is_some_and(u8::is_ascii_lowercase);
    let alphanumeric = |part: &[u8]| part.first().is_some_and(u8::is_ascii_alphanumeric);
    match key.iter().position(|byte| *byte == b'@') {
        None => letter(key) && all(key, 256),
        Some(at) => {
            let (tenant, system) = key.split_at(at);
            let system = system.get(1..).unwrap_or_default();
            alphanumeric(tenant) && all(tenant, 241) && letter(system) && all(system, 14)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn fields(texts: &[&str]) -> Vec<HeaderValue> {
        texts.iter().map(|text| HeaderValue::from_bytes(text.as_bytes()).unwrap()).collect()
    }

    fn here() -> TraceContext {
        TraceContext::begin(Uuid::from_u128(0x0192_f0c1_7a53_7c4e_8f00_0000_0000_0001))
    }

    /// The cases are those of the W3C's own suite, and more.
    #[test]
    fn a_trace_is_continued_only_from_exactly_one_valid_traceparent() {
        let id = format!("{TRACE}-00f067aa0ba902b7");
        let begun = |texts: &[&str]| here().continue_from(fields(texts).iter()) == here();
        for (text, sampled) in [
            (format!("00-{id}-01"), true),
            (format!("00-{id}-00"), false),
            (format!("00-{id}-03"), true),
            (format!("00-{id}-fe"), false),
            (format!("cc-{id}-01"), true),
            (format!("01-{id}-01-what-the-future-will-be-like"), true),
            (format!("cc-{id}-00-"), false),
        ] {
            let context = here().continue_from(fields(&[&text]).iter());
            let parent = Parent { span: SpanId(0x00f0_67aa_0ba9_02b7), sampled };
            assert_eq!((context.trace.text().as_bytes(), context.parent), (TRACE.as_bytes(), Some(parent)), "{text}");
            assert_eq!(context.span, here().span);
        }
        for text in [
            String::new(),
            format!("00-{id}"),
            format!("00-{id}-"),
            format!("00-{id}-1"),
            format!("00-{id}-001"),
            format!("00-{id}-01-"),
            format!("00-{id}-01-what-the-future-will-be-like"),
            format!("00-{id}-01."),
            format!("cc-{id}-01.what-the-future-will-be-like"),
            format!("ff-{id}-01"),
            format!("0-{id}-01"),
            format!("000-{id}-01"),
            format!(".0-{id}-01"),
            format!("0x-{id}-01"),
            format!("00-{id}-0x"),
            format!("00-{id}-0A"),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{}g-00f067aa0ba902b7-01", &TRACE[1..]),
            format!("00-{}-00f067aa0ba902b7-01", &TRACE[1..]),
            format!("00-0{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{TRACE}-00F067AA0BA902B7-01"),
            format!("00-{TRACE}-00f067aa0ba902b-01"),
            format!("00-{TRACE}-00f067aa0ba902b70-01"),
            format!("00_{id}-01"),
            format!("00-{TRACE}_00f067aa0ba902b7-01"),
            format!("00-{id}_01"),
            format!("00-{id}-01,00-{id}-01"),
        ] {
            assert!(begun(&[&text]), "{text}");
        }
        let valid = format!("00-{id}-01");
        assert!(begun(&[]) && begun(&[&valid, &valid]) && begun(&["", &valid]), "several fields, or none");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let context = here();
        for (sampled, flags) in [(true, "01"), (false, "00")] {
            let text = String::from_utf8(context.traceparent(context.span, sampled).to_vec()).unwrap();
            assert_eq!(text, format!("00-{:032x}-{:016x}-{flags}", context.trace.0, context.span.0));
            assert_eq!(parse(text.as_bytes()), Some((context.trace, Parent { span: context.span, sampled })));
        }
    }

    #[test]
    fn digits_are_hexadecimal() {
        for number in [0, 1, 9, 10, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 0x9999_aaaa_0f0f_f0f0, u64::MAX] {
            assert_eq!(digits(number), *format!("{number:016x}").as_bytes());
        }
    }

    #[test]
    fn ids_differ_and_their_lower_half_is_evenly_distributed() {
        let contexts: Vec<_> = (0..2000).map(|_| TraceContext::begin(Uuid::now_v7())).collect();
        let mut ids: Vec<u64> =
            contexts.iter().flat_map(|context| [context.span.0, context.upstream_span().0]).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 2 * contexts.len());
        for bit in 0..64 {
            let set = contexts.iter().filter(|context| context.trace.0 as u64 >> bit & 1 == 1).count();
            // Eight standard deviations.
            assert!((820..1180).contains(&set), "bit {bit} is set in {set} of 2000");
        }
    }

    proptest! {
        /// As the grammar says it, by other means.
        #[test]
        fn what_is_read_matches_the_grammar(
            text in "[0c]{2}-[0a]{31,33}-[0f]{15,17}-[01]{2}(-|[.]|-x)?|[ -~]{0,60}",
            place in 0..60usize,
            byte in any::<u8>(),
        ) {
            const GRAMMAR: &str = "^(?:00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}|\
                [0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-[^\\n]*)?)$";
            let grammar = regex_automata::meta::Regex::new(GRAMMAR).unwrap();
            let mut bytes = text.into_bytes();
            for changed in [false, true] {
                if changed && let Some(old) = bytes.get_mut(place) {
                    *old = if byte.is_ascii_graphic() { byte } else { b'0' };
                }
                let text = std::str::from_utf8(&bytes).unwrap();
                let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
                let fits = grammar.is_match(text)
                    && !text.starts_with("ff")
                    && (!text.starts_with("00") || text.len() == TRACEPARENT_LENGTH)
                    && !zero(&text[3..35])
                    && !zero(&text[36..52]);
                prop_assert_eq!(parse(&bytes).is_some(), fits, "{}", text);
            }
        }

        #[test]
        fn members_match_the_grammar(member in "[a-z0-9@_*/-]{0,5}=?[ -~]{0,4}|[ -~]{0,8}|[a-z]{1,3}@[a-z]{13,15}=1") {
            const GRAMMAR: &str = "^(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})=\
                [\\x20-\\x2b\\x2d-\\x3c\\x3e-\\x7e]{0,255}[\\x21-\\x2b\\x2d-\\x3c\\x3e-\\x7e]$";
            let trimmed = member.trim();
            let fits = regex_automata::meta::Regex::new(GRAMMAR).unwrap().is_match(trimmed);
            prop_assert_eq!(is_member(trimmed.as_bytes()), fits, "{}", trimmed);
        }
    }

    #[test]
    fn which_tracestates_are_valid() {
        let many = |count: usize| (0..count).map(|number| format!("k{number}=1")).collect::<Vec<_>>().join(",");
        let (long, longer) = ("z".repeat(256), "z".repeat(257));
        let tenant = |tenant: usize, system: usize| format!("{}@{}=1", "t".repeat(tenant), "v".repeat(system));
        for (texts, valid) in [
            (vec![], true),
            (vec![String::new()], true),
            (vec!["foo=1".into(), "bar=2".into()], true),
            (vec!["foo=1,".into(), " ,\t".into(), "bar=2".into()], true),
            (vec!["foo=1 \t , \t bar=2, \t baz=3".into()], true),
            (vec!["foo=1,foo=2".into()], true),
            (vec!["foo=bar baz,a-b_c*d/e=!~".into()], true),
            (vec!["1a@foo=1".into()], true),
            (vec![many(32)], true),
            (vec![many(33)], false),
            (vec![many(16), many(16)], true),
            (vec![many(16), many(17)], false),
            (vec![format!("{long}=1")], true),
            (vec![format!("{longer}=1")], false),
            (vec![tenant(241, 14)], true),
            (vec![tenant(242, 14)], false),
            (vec![tenant(241, 15)], false),
            (vec![format!("foo={long}")], true),
            (vec![format!("foo={longer}")], false),
            (vec!["foo".into()], false),
            (vec!["foo=".into()], false),
            (vec!["=1".into()], false),
            (vec!["foo =1".into()], false),
            (vec!["FOO=1".into()], false),
            (vec!["1foo=1".into()], false),
            (vec!["foo.bar=1".into()], false),
            (vec!["foo@=1,bar=2".into()], false),
            (vec!["@foo=1,bar=2".into()], false),
            (vec!["foo@@bar=1".into()], false),
            (vec!["foo@bar@baz=1".into()], false),
            (vec!["foo=bar=baz".into()], false),
            (vec!["foo=,bar=3".into()], false),
            (vec!["foo=a\tb".into()], false),
            (vec!["foo=1".into(), "b\u{e4}r=2".into()], false),
        ] {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            assert_eq!(is_tracestate(fields(&texts).iter()), valid, "{texts:?}");
        }
    }
}
