//! Random schemas and values, judged by `ajv` and by Python's `jsonschema` as well. They are in the folder that the
//! environment variable `SCHEMA_JUDGES` names: `node_modules` and `python`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Map, Value, json};

use super::super::*;
use super::random::{self, Random, setting};

/// Reads lines `[draft, schema, [value, …]]`, and writes a digit for each value, or `error`; `?` where the judge itself fails.
const NODE: &str = r#"
const [Ajv, Ajv2019, Ajv2020] = ["ajv", "ajv/dist/2019", "ajv/dist/2020"].map((name) => require(name).default);
const options = { strict: false, validateFormats: false, validateSchema: false, unevaluated: true, logger: false };
const judges = { 7: Ajv, 2019: Ajv2019, 2020: Ajv2020 };
const verdict = (judge, value) => {
  try { return judge(value) ? "1" : "0"; } catch { return "?"; }
};
for (const line of require("fs").readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const [draft, schema, values] = JSON.parse(line);
  let judge = null;
  try { judge = new judges[draft](options).compile(schema); } catch {}
  console.log(judge ? values.map((value) => verdict(judge, value)).join("") : "error");
}
"#;

/// The same. Numbers are as they are written, and an integer is any number without a fraction.
const PYTHON: &str = r#"
import decimal, json, sys
import jsonschema
from jsonschema.validators import extend
decimal.getcontext().prec = 2000
def integer(checker, value):
    if isinstance(value, decimal.Decimal):
        return value == value.to_integral_value()
    return isinstance(value, int) and not isinstance(value, bool)
def judge(base):
    return extend(base, type_checker=base.TYPE_CHECKER.redefine("integer", integer))
judges = {7: judge(jsonschema.Draft7Validator), 2019: judge(jsonschema.Draft201909Validator), 2020: judge(jsonschema.Draft202012Validator)}
for line in sys.stdin:
    draft, schema, values = json.loads(line, parse_float=decimal.Decimal)
    try:
        validator = judges[draft](schema)
        print("".join("1" if validator.is_valid(value) else "0" for value in values))
    except Exception as error:
        print("error")
"#;

const DRAFTS: [(u32, &str); 3] = [
    (7, "http://json-schema.org/draft-07/schema#"),
    (2019, "https://json-schema.org/draft/2019-09/schema"),
    (2020, "https://json-schema.org/draft/2020-12/schema"),
];
const NAMES: [&str; 4] = ["a", "b", "c", "xa"];
/// Exact in binary64, for `ajv`.
const NUMBERS: [&str; 10] = ["0", "1", "2", "3", "1.0", "0.5", "1.5", "-1", "1e2", "100"];
/// As long as binary64, or 64 bits, keep what is written, for schemas.
const WRITTEN: [&str; 14] = [
    "0.1",
    "0.2",
    "0.3",
    "0.30000000000000004",
    "0.01",
    "1e-7",
    "1",
    "2251799813685248.5",
    "9007199254740992",
    "9007199254740993",
    "18446744073709551615",
    "-9223372036854775808",
    "1e15",
    "-0.1",
];

/// Values have these, too: `ajv` rounds them when it reads them.
const LONG: [&str; 24] = [
    "0.3000000000000000000001",
    "0.2999999999999999999999",
    "0.30000000000000000000000",
    "0.1000000000000000055511151231257827",
    "-0.1000000000000000000000000000000000000000000001",
    "1.0000000000000000000001",
    "1.0000000000000000000000",
    "1000000000000000000000000e-24",
    "1000000000000000000000001e-24",
    "9007199254740992.5",
    "9007199254740993.0",
    "18446744073709551615.0",
    "18446744073709551616",
    "18446744073709551617",
    "-9223372036854775808.0000001",
    "-9223372036854775809",
    "100000000000000000000000",
    "123456789012345678901234567890",
    "1e15",
    "1.0000000000000000000e15",
    "1e-400",
    "-1e-400",
    "5e-324",
    "0e-400",
];

/// Numbers of a schema, and of the values that it judges.
type Numbers = [&'static [&'static str]; 2];

/// What schemas and values are made of. A number is a text with this before it, until all is written.
struct Maker {
    random: Random,
    draft: u32,
    numbers: Numbers,
    in_schema: bool,
}

const NUMBER: char = '\u{1}';

/// A value as JSON.
fn written(value: &Value) -> String {
    let text = value.to_string();
    let mut parts = text.split("\"\\u0001");
    let mut written = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (number, after) = part.split_once('"').unwrap();
        written.push_str(number);
        written.push_str(after);
    }
    written
}

impl Maker {
    fn number(&mut self) -> Value {
        let [of_schema, of_values] = self.numbers;
        let numbers = if self.in_schema { of_schema } else { of_values };
        format!("{NUMBER}{}", self.random.pick(numbers)).into()
    }

    fn value(&mut self, depth: u32) -> Value {
        match self.random.below(if depth == 0 { 6 } else { 9 }) {
            0 => Value::Null,
            1 => json!(self.random.below(2) == 0),
            2 | 3 => self.number(),
            4 | 5 => json!(self.random.pick(&["a", "b", "ab", "xa", "", "é", "𝒳a"])),
            6 => (0..self.random.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let count = self.random.below(4);
                Value::Object((0..count).map(|_| (self.name(), self.value(depth - 1))).collect())
            }
        }
    }

    fn name(&mut self) -> String {
        self.random.pick(&NAMES).to_owned()
    }

    fn schema(&mut self, depth: u32) -> Value {
        if depth == 0 || self.random.below(12) == 0 {
            return match self.random.below(6) {
                0 => json!(true),
                1 => json!(false),
                2 => json!({"$ref": "#/definitions/x"}),
                3 => json!({"type": "string"}),
                4 => json!({"type": "integer"}),
                _ => json!({"type": ["object", "array"]}),
            };
        }
        let mut members = Map::new();
        for _ in 0..=self.random.below(3) {
            let (key, value) = self.keyword(depth);
            // Beside `$ref`, draft-07 ignores what `ajv` judges.
            if key == "$ref" && self.draft < 2019 {
                return json!({"$ref": value});
            }
            members.insert(key.to_owned(), value);
        }
        // `ajv` ignores `if` alone, and what it evaluates; the standard does not (2019-09 core, §9.2.2.1).
        if members.contains_key("if") && !members.contains_key("then") && !members.contains_key("else") {
            members.insert("then".to_owned(), json!({"minLength": 0}));
        }
        Value::Object(members)
    }

    fn keyword(&mut self, depth: u32) -> (&'static str, Value) {
        const OLD: [&str; 33] = [
            "type",
            "enum",
            "const",
            "minimum",
            "maximum",
            "exclusiveMinimum",
            "exclusiveMaximum",
            "multipleOf",
            "minLength",
            "maxLength",
            "pattern",
            "required",
            "minProperties",
            "maxProperties",
            "minItems",
            "maxItems",
            "uniqueItems",
            "properties",
            "patternProperties",
            "additionalProperties",
            "propertyNames",
            "items",
            "contains",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
            "if",
            "then",
            "else",
            "$ref",
            "$ref",
            "type",
        ];
        const LATER: [&str; 6] = [
            "minContains",
            "maxContains",
            "dependentSchemas",
            "dependentRequired",
            "unevaluatedProperties",
            "unevaluatedItems",
        ];
        let key = match self.random.below(8) {
            0 if self.draft >= 2019 => match self.random.pick(&LATER) {
                // Python's judge takes what `additionalProperties` has evaluated for unevaluated.
                later if later.starts_with("unevaluated") && self.numbers[0].len() > NUMBERS.len() => "contains",
                later => later,
            },
            1 if self.draft == 2020 => "prefixItems",
            1 if self.draft < 2019 => "dependencies",
            2 if self.draft < 2020 => "additionalItems",
            _ => self.random.pick(&OLD),
        };
        (key, self.argument(key, depth))
    }

    fn argument(&mut self, key: &str, depth: u32) -> Value {
        match key {
            "type" => json!(self.random.pick(&["null", "boolean", "integer", "number", "string", "array", "object"])),
            "enum" => json!([self.value(1), self.value(2)]),
            "const" => self.value(1),
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => self.number(),
            "multipleOf" => loop {
                let number = self.number();
                if written(&number).parse::<f64>().is_ok_and(|number| number > 0.0) {
                    break number;
                }
            },
            "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties" | "minContains"
            | "maxContains" => json!(self.random.below(3)),
            "pattern" => json!(self.random.pick(&["^a", "b$", "x", "^.$", "[^a]"])),
            "required" => json!([self.name()]),
            "uniqueItems" => json!(true),
            "properties" => json!({ (self.name()): self.schema(depth - 1), (self.name()): self.schema(depth - 1) }),
            "patternProperties" => json!({"^x": self.schema(depth - 1), "a$": self.schema(depth - 1)}),
            "items" if self.draft < 2020 && self.random.below(2) == 0 => {
                json!([self.schema(depth - 1), self.schema(depth - 1)])
            }
            "prefixItems" | "allOf" | "anyOf" | "oneOf" => json!([self.schema(depth - 1), self.schema(depth - 1)]),
            "dependentSchemas" => json!({"a": self.schema(depth - 1)}),
            "dependentRequired" => json!({"a": ["b"]}),
            "dependencies" => json!({"a": self.schema(depth - 1), "b": ["c"]}),
            "$ref" => json!(self.random.pick(&["#/definitions/x", "#/definitions/y"])),
            _ => self.schema(depth - 1),
        }
    }

    fn document(&mut self, uri: &str) -> Value {
        loop {
            let definitions = json!({"x": self.schema(2), "y": self.schema(2)});
            let Value::Object(mut members) = self.schema(3) else { continue };
            if self.draft < 2019 && members.contains_key("$ref") {
                continue;
            }
            members.insert("$schema".to_owned(), uri.into());
            members.insert("definitions".to_owned(), definitions);
            return Value::Object(members);
        }
    }
}

/// A draft, a schema, and values, as JSON.
type Case = (u32, String, Vec<String>);

/// Cases whose schemas we take: a reference may lead back to itself.
fn cases(seed: u64, count: usize, numbers: Numbers) -> Vec<(Case, JsonSchema)> {
    let mut maker = Maker { random: Random(seed), draft: 0, numbers, in_schema: true };
    let mut cases = Vec::new();
    for (draft, uri) in DRAFTS.into_iter().cycle().take(count) {
        (maker.draft, maker.in_schema) = (draft, true);
        let text = written(&maker.document(uri));
        maker.in_schema = false;
        // In 2019-09, `contains` evaluates no items (core, §9.3.1.3); both judges say otherwise.
        if draft == 2019 && text.contains("contains") && text.contains("unevaluatedItems") {
            continue;
        }
        match JsonSchema::new(&serde_json::from_str(&text).unwrap()) {
            Ok(ours) => {
                let values = (0..10).map(|_| written(&maker.value(3))).collect();
                cases.push(((draft, text, values), ours));
            }
            Err(problem) => {
                assert!(problem.message.contains("leads back to itself"), "seed {seed}: {problem:?} {text}");
            }
        }
    }
    cases
}

/// The verdicts of a judge, a line for each case. `None`: it is not here.
fn judged(command: &mut Command, lines: &str) -> Option<Vec<String>> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    let (mut input, lines) = (child.stdin.take()?, lines.to_owned());
    let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().ok()?;
    writing.join().unwrap().unwrap();
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

/// Judges `count` schemas with ten values each. Where the judges differ among themselves, no verdict is expected: they
/// do about `unevaluatedProperties` and `unevaluatedItems`. Returns how many pairs all agreed on, and the rest.
fn agree(seed: u64, count: usize, numbers: Numbers, judges: &mut [Command]) -> (usize, usize) {
    let cases = cases(seed, count, numbers);
    let line = |((draft, schema, values), _): &(Case, _)| format!("[{draft},{schema},[{}]]\n", values.join(","));
    let lines: String = cases.iter().map(line).collect();
    let verdicts: Vec<Vec<String>> = judges.iter_mut().map(|judge| judged(judge, &lines).unwrap()).collect();
    let (mut agreed, mut disputed) = (0, 0);
    for (position, ((_, schema, values), ours)) in cases.iter().enumerate() {
        let lines: Vec<&str> = verdicts.iter().map(|lines| &*lines[position]).collect();
        for (nth, value) in values.iter().enumerate() {
            let theirs: Vec<_> = lines.iter().map(|line| line.get(nth..=nth)).collect();
            let first = theirs[0].filter(|_| lines.iter().all(|line| *line != "error"));
            let Some(expected) = first.filter(|_| theirs.iter().all(|verdict| *verdict == theirs[0])) else {
                disputed += 1;
                continue;
            };
            let found = ours.violations_of_written(value);
            assert_eq!(found.is_empty(), expected == "1", "seed {seed}: {schema} {value} {found:?}");
            // What is valid may be refused for what other readers make of its numbers, and nothing else is accepted.
            let accepted = ours.check(value.as_bytes()).is_ok();
            assert!(if numbers[0].len() > NUMBERS.len() {
                !accepted || found.is_empty()
            } else {
                accepted == found.is_empty()
            });
            agreed += 1;
        }
    }
    (agreed, disputed)
}

/// F40, and the differential test of verdicts. `SCHEMA_PAIRS` is the number of pairs of each kind, `SCHEMA_SEED` the seed.
#[test]
fn verdicts_are_those_of_ajv_and_of_pythons_jsonschema() {
    /// Pairs that are judged together.
    const TOGETHER: usize = 10_000;
    let Some(folder) = std::env::var_os("SCHEMA_JUDGES") else {
        return eprintln!("SKIPPED: SCHEMA_JUDGES names no folder");
    };
    let seed = setting("SCHEMA_SEED", 88_172_645_463_325_252);
    let pairs = setting("SCHEMA_PAIRS", TOGETHER as u64) as usize;
    let folder = Path::new(&folder);
    let node = || {
        let mut node = Command::new("node");
        node.args(["-e", NODE]).current_dir(folder);
        node
    };
    let python = || {
        let mut python = Command::new("python3");
        python.args(["-W", "ignore", "-c", PYTHON]).env("PYTHONPATH", folder.join("python"));
        python
    };
    let all: &'static [&'static str] = [&WRITTEN[..], &LONG].concat().leak();
    let mut sums = [(0, 0); 2];
    for seed in (seed..).take(pairs.div_ceil(TOGETHER)) {
        let both = agree(seed, TOGETHER / 10, [&NUMBERS, &NUMBERS], &mut [node(), python()]);
        let written = agree(seed, TOGETHER / 10, [&WRITTEN, all], &mut [python()]);
        for ((agreed, disputed), sum) in [both, written].into_iter().zip(&mut sums) {
            assert!(agreed > TOGETHER / 2 && disputed * 20 < agreed, "seed {seed}: {agreed} {disputed}");
            *sum = (sum.0 + agreed, sum.1 + disputed);
        }
    }
    random::print(&format!(
        "schemas from seed {seed}: {sums:?} verdicts agreed and disputed, by both judges and with decimals and large numbers by one"
    ));
}
