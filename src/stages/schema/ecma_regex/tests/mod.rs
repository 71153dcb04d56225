mod differential;

use super::*;

const STEPS: u64 = 1_000_000;

fn matches(pattern: &str, text: &str) -> bool {
    let compiled = Pattern::new(pattern).unwrap_or_else(|problem| panic!("{pattern}: {problem}"));
    compiled.matches(text, &mut Steps::new(STEPS)).unwrap_or_else(|Exhausted| panic!("{pattern}: exhausted"))
}

/// F40: patterns mean what ECMA-262 says, where other dialects say otherwise.
#[test]
fn patterns_mean_what_ecma_262_says() {
    for (pattern, good, bad) in [
        (r"^\<b\>$", &["<b>"][..], &["b"][..]),
        (r"^\b", &["a", "_"], &["é", "", "-"]),
        (r"é\B", &["é", "é!"], &["éa"]),
        (r"^[^]$", &["a", "\n", "😀"], &["", "ab"]),
        (r"^[]?$", &[""], &["a"]),
        (r"^[^\0]$", &["a"], &["\0"]),
        (r"^[\b]$", &["\u{8}"], &["b"]),
        (r"^\ud83d\ude00$", &["😀"], &["😁"]),
        (r"^[\ud83d\ude00-\ud83d\ude02]$", &["😀", "😂"], &["😃"]),
        (r"^.$", &["😀", "\u{85}"], &["\n", "\r", "\u{2028}"]),
        (r"^\d$", &["0"], &["٣"]),
        (r"^\w$", &["a"], &["é"]),
        (r"^\s$", &["\u{feff}", "\u{b}"], &["\u{85}", "\u{180e}"]),
        ("a$", &["a"], &["a\n"]),
        (r"^\cJ\x41\u0042\u{1F600}\/\-\_\@$", &["\nAB😀/-_@"], &[]),
        (r"^\p{Lu}\P{L}\p{Script=Greek}\p{gc=Nd}\p{Alphabetic}$", &["A1Ω٣b"], &["a1Ω٣b"]),
        ("^{a}]}$", &["{a}]}"], &[]),
        (r"^[\w-.]$", &["-", ".", "a"], &[","]),
        ("^(?:a|bc){2,3}?$", &["abc", "bcbcbc"], &["a", "aaaa"]),
        ("^(?i:É)s$", &["És", "és"], &["éS"]),
        ("(?m:^b$)", &["a\nb\u{2028}c"], &["ab"]),
        // The standard reads the halves apart, and then no text has them; the author meant whole characters.
        (r"^(\ud800[\udc00-\udfff]|[\ud801-\udbfe][\udc00-\udfff])*$", &["", "𐀀😀"], &["a", "\u{10ffff}"]),
    ] {
        good.iter().for_each(|text| assert!(matches(pattern, text), "{pattern} {text:?}"));
        bad.iter().for_each(|text| assert!(!matches(pattern, text), "{pattern} {text:?}"));
    }
}

/// F29: look-around and backreferences are decided, not refused.
#[test]
fn look_around_and_backreferences() {
    for (pattern, good, bad) in [
        ("^(?!default$).+$", &["defaults", "x"][..], &["default", ""][..]),
        (r"^(?=.*[A-Z])(?=.*\d).{12,}$", &["Abcdefghijk1"], &["abcdefghijk1", "Abcdefghijkl", "Ab1"]),
        (r"^((?!\.\.).)*$", &["a.b", ""], &["a..b"]),
        (r"(?<=\$)\d+(?!\d*€)", &["$12"], &["12", "$€"]),
        (r"(?<!a)b", &["b", "cb"], &["ab"]),
        ("^(?=(?!b).a)", &["aab", "ca"], &["ba", "ab"]),
        (r#"^(["'])[^"']*\1$"#, &["'a'", "\"\""], &["'a\""]),
        (r"^(?<day>\d)-\k<day>$", &["1-1"], &["1-2"]),
        (r"^(?:(a)|b)*\1$", &["ab", "aa", "b"], &["ba"]),
        (r"^(?=(a+))\1b$", &["aab"], &["a"]),
        (r"(?<=\1(a))b", &["aab"], &["ab"]),
        (r"^(?i:(a)\1)$", &["aA"], &["ab"]),
        ("^.{0,100000}$", &["", "abc"], &["a\n"]),
    ] {
        good.iter().for_each(|text| assert!(matches(pattern, text), "{pattern} {text:?}"));
        bad.iter().for_each(|text| assert!(!matches(pattern, text), "{pattern} {text:?}"));
    }
}

/// F40: what other dialects have is reported, not taken for something else.
#[test]
fn what_ecma_262_does_not_have_is_an_error() {
    for (pattern, expected) in [
        (r"\Aa", r"character 2: ECMA-262 has no escape `\A`; the start of the text is `^`"),
        (r"a\z", r"the end of the text is `$`"),
        (r"\h", r"see `[ \t]`"),
        ("(?x)a", "`(?` begins"),
        ("(?i)a", "write `(?i:…)` around the part"),
        ("[[:alpha:]]", "ECMA-262 has no class `[:alpha:]`"),
        ("a++", "no possessive quantifiers"),
        (r"\pL", r"`\p` takes a property in braces"),
        (r"\p{Greek}", r"write `\p{Script=Greek}`"),
        (r"\p{IsGreek}", "`IsGreek` is no property of Unicode"),
        (r"\x{41}", r"`\x` takes two hexadecimal digits"),
        ("(?P<n>a)", "a named group is written `(?<name>…)`"),
        ("(?>a)", "no atomic groups"),
        (r"\1(a)\2", "refers to a group that does not exist"),
        (r"\k<n>", "there is no group `n`"),
        ("(?<n>a)(?<n>b)", "the group `n` is defined twice"),
        ("*a", "`*` repeats nothing"),
        ("^*", "cannot be repeated"),
        ("a{2,1}", "the wrong way round"),
        ("[b-a]", "the wrong way round"),
        ("(a", "a group is not closed"),
        ("a)", "no group that this `)` closes"),
        ("[a", "a class is not closed"),
        ("a\\", "the pattern ends with `\\`"),
        (r"\u{110000}", r"`\u` takes four hexadecimal digits"),
        (r"\01", r"ECMA-262 has no escape `\0`"),
    ] {
        let problem = Pattern::new(pattern).map(|_| ()).unwrap_err().to_string();
        assert!(problem.contains(expected), "{pattern}: {problem}");
    }
}

/// A pattern with many places costs what a text leads to, and only one that is in most of them at once is expensive.
#[test]
fn a_large_pattern_costs_what_a_text_makes_of_it() {
    let mut random = 1_u32;
    let mut hostile = |_| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if random >> 31 == 0 { '0' } else { 'a' }
    };
    let hostile: String = (0..60_000).map(&mut hostile).collect();
    let names = [r"^[\p{L}\p{N} .,]{1,250}$", r"^[\p{L}][\p{L}\p{M}' -]{0,99}$", r"^\S.{0,1999}$"]
        .map(|text| Pattern::new(text).unwrap());
    for pattern in &names {
        assert!(!pattern.is_cheap());
        // A hundred names in one body.
        let mut steps = Steps::new(100_000);
        for _ in 0..100 {
            assert_eq!(pattern.matches("Zo\u{eb} K\u{f6}nig of Elm Street", &mut steps), Ok(true));
        }
        assert_eq!(pattern.matches(" -- ", &mut Steps::new(1000)).map(|_| ()), Ok(()));
    }
    let wide = Pattern::new("[0-9].{0,1000}!").unwrap();
    assert_eq!(wide.matches(&hostile, &mut Steps::new(1_000_000)), Err(Exhausted));
    assert_eq!(wide.matches("a 1 b!", &mut Steps::new(1000)), Ok(true));
}

#[test]
fn no_pattern_and_no_text_takes_more_than_its_steps() {
    let text = "a".repeat(50_000);
    for pattern in [
        r"^(a+)+\1b$",
        r"(a*)*\1(a|a)*$c",
        r"^(?:(a{0,50}){0,50}){0,50}\1b$",
        "^(?=(?=(?=a*b)a*b)a*b)",
        "((((a{1000}){1000}){1000}){1000}){1000}",
        "(((?:(?=a)){1000}){1000}){1000}(?!a)",
        "(?:){4294967295}(?:(?:){4294967295}){4294967295}(?=a)",
        r"(?:){4294967295}(?:a{0,4294967295}){4294967295}(b)?\1b",
        &format!("{}a{}", "(?:".repeat(100), ")*".repeat(100)),
        &format!("^{}", "(?=.*a)".repeat(2000)),
        &format!(r"^{}\1$", "(a)?".repeat(5000)),
    ] {
        // Decided or not, it ends.
        let _ = Pattern::new(pattern).unwrap().matches(&text, &mut Steps::new(100_000));
    }
    assert_eq!(Pattern::new(r"^(a+)+\1b$").unwrap().matches(&text, &mut Steps::new(STEPS)), Err(Exhausted));
    let deep = "(".repeat(100_000);
    assert!(Pattern::new(&deep).is_err());
    assert!(Pattern::new(&"a".repeat(MAX_LENGTH + 1)).is_err());
}
