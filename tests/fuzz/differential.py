#!/usr/bin/env python3
"""Judges generated schemas and instances by Bartizan, by libxml2's xmllint and by xmlschema of PyPI, and prints where they differ.

    BARTIZAN=target/release/bartizan tests/fuzz/differential.py [SECONDS [SEED]] > differences.txt

Who is right is to be read in the specification; what we judged wrongly becomes a test in src/xsd/tests. A difference is printed once
for each kind, with the schema and the instance, and a count at the end. What is known to be their fault is in KNOWN.
"""

import os
import random
import re
import subprocess
import sys
import tempfile
import time
import warnings

import xmlschema

warnings.simplefilter("ignore")
BARTIZAN = os.environ.get("BARTIZAN", "bartizan")
SCHEMAS, INSTANCES = 30, 12

# What the others are known to let through, by what we say of it. libxml2 does not check references to identifiers (Part 1, §3.3.4),
# facets of built-in types within unions (`NMTOKENS` has at least one token), most of what makes particles ambiguous and most
# restrictions of particles; it takes NaN as greater than all. xmlschema does not check that attributes are there only once.
KNOWN = {
    "libxml2": [
        "no element has the identifier", "fractionDigits-valid-restriction", "cos-nonambig", "cos-element-consistent", "rcase-",
        "of the union type", "underruns the allowed minimum length of `1`", "`NaN` is not a value",
    ],
    "xmlschema": ["ct-props-correct.4", "length-minLength-maxLength", "`NaN` is not a value"],
}


class Generator:
    """A schema, and instances that mostly keep to it."""

    BUILT_IN = {
        "string": ["", "a", "ab", " a  b ", "abc", "x" * 12, "é\u3042"],
        "token": ["a", " a b ", "abc"],
        "normalizedString": ["a\tb", "a b", "  a "],
        "boolean": ["true", "0", "1", "TRUE", " false "],
        "decimal": ["0", "-0", "+1.50", "1.5", "100", "-3.25", ".5", "5.", ".", "1e3", "0012.0000", "99999999999999999999"],
        "integer": ["0", "-0", "7", "+12", "-3", "007", "1.0", "100"],
        "positiveInteger": ["1", "0", "12", "-1", "+7"],
        "byte": ["127", "128", "-128", "-129", "+5"],
        "unsignedInt": ["4294967295", "4294967296", "-0", "5"],
        "float": ["0", "-0", "1.5", "1E3", "INF", "-INF", "NaN", "+INF", "1e-50", "16777217", "16777216"],
        "double": ["0.1", "1e400", "INF", "NaN", "-1.5E-3", "nan"],
        "date": ["2000-02-29", "1900-02-29", "2001-01-01Z", "2001-01-01+14:00", "2001-01-01+14:01", "-0001-01-01", "0000-01-01", "12000-12-31"],
        "dateTime": ["2000-01-01T00:00:00", "2000-01-01T24:00:00", "2000-01-01T24:00:01", "2000-01-01T00:00:00.5Z", "2000-01-01T00:00:00-14:00", "1999-12-31T23:59:60", "2000-01-01T12:00:00Z"],
        "time": ["00:00:00", "24:00:00", "12:30:15.25Z", "12:30", "23:59:59+01:00"],
        "gYear": ["2000", "-0044", "0000", "20000", "02000", "2000Z"],
        "gYearMonth": ["2000-01", "2000-13", "2000-12+05:30"],
        "gMonthDay": ["--02-29", "--02-30", "--12-31Z"],
        "gDay": ["---31", "---32", "---01+01:00"],
        "gMonth": ["--01", "--13", "--12Z"],
        "duration": ["P1Y", "P1M", "P30D", "P31D", "PT24H", "P1D", "-P1D", "P", "PT", "P1Y2M3DT4H5M6.7S", "P1.5D", "PT0S"],
        "hexBinary": ["", "0F", "0f", "0", "ABCDEF"],
        "base64Binary": ["", "YQ==", "YWI=", "YW Jj", "YQ=", "YR==", "YWJj"],
        "anyURI": ["", "http://example.com/a b", "a#b", "urn:x"],
        "language": ["en", "en-GB", "e", "x-klingon", "toolonglang"],
        "Name": ["a", "a:b", "1a", "_x"],
        "NCName": ["a", "a:b", "_x", "-a"],
        "NMTOKEN": ["a", "1a", "a b", "-x"],
        "NMTOKENS": ["a", "a b", "", " a  b "],
        "QName": ["a", "p:a", "xs:a", "xml:lang", "a:b:c"],
        "ID": ["i1", "i2", "1"],
        "IDREF": ["i1", "i2", "i9"],
    }
    PATTERNS = ["[a-c]+", r"\d{2,3}", r"(a|bc)*", r"\i\c*", r"[^x]+", r"[a-z-[aeiou]]*", r".{0,3}", r"\p{L}+", r"\w\s?\w*", "^a$", r"[\-a]+", "a{0}", "(ab?){1,2}", r"\P{Nd}*"]

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.simple = {}
        self.types = []
        self.elements = {}
        self.parts = []
        self.serial = 0
        self.qualified = self.chance(0.5)
        self.target = self.chance(0.6)

    def chance(self, likely):
        return self.random.random() < likely

    def pick(self, things):
        return self.random.choice(list(things))

    def name(self, letter):
        self.serial += 1
        return f"{letter}{self.serial}"

    # Names of global things are in the target namespace.
    def ref(self, name):
        return f"t:{name}" if self.target else name

    def facets(self, base, samples):
        facets = []
        texts = base in ("string", "token", "normalizedString", "anyURI", "Name", "NCName", "NMTOKEN", "language")
        if self.chance(0.3):
            facets += [f'<xs:enumeration value="{escape(v)}"/>' for v in self.random.sample(samples, min(3, len(samples)))]
        elif self.chance(0.4):
            facets += [f'<xs:pattern value="{escape(self.pick(self.PATTERNS))}"/>' for _ in range(self.random.randint(1, 2))]
        if texts or base in ("hexBinary", "base64Binary", "NMTOKENS"):
            if self.chance(0.3):
                facets.append(f'<xs:length value="{self.random.randint(0, 3)}"/>')
            else:
                low = self.random.randint(0, 3)
                if self.chance(0.4):
                    facets.append(f'<xs:minLength value="{low}"/>')
                if self.chance(0.4):
                    facets.append(f'<xs:maxLength value="{low + self.random.randint(0, 3)}"/>')
            if base == "string" and self.chance(0.2):
                facets.append(f'<xs:whiteSpace value="{self.pick(["preserve", "replace", "collapse"])}"/>')
        elif base not in ("boolean", "QName", "ID", "IDREF"):
            for facet in (self.pick(["minInclusive", "minExclusive"]), self.pick(["maxInclusive", "maxExclusive"])):
                if self.chance(0.35):
                    facets.append(f'<xs:{facet} value="{escape(self.pick(samples))}"/>')
            if base in ("decimal", "integer", "positiveInteger", "byte", "unsignedInt"):
                if self.chance(0.2):
                    facets.append(f'<xs:totalDigits value="{self.random.randint(1, 4)}"/>')
                if self.chance(0.15):
                    facets.append(f'<xs:fractionDigits value="{self.random.randint(0, 2)}"/>')
        return "".join(facets)

    def simple_type(self, name=None):
        """The text of a simple type, and samples for it."""
        named = f' name="{name}"' if name else ""
        what = self.random.random()
        base = self.pick(self.BUILT_IN)
        samples = self.BUILT_IN[base]
        if what < 0.65 or not self.simple and what > 0.9:
            return f'<xs:simpleType{named}><xs:restriction base="xs:{base}">{self.facets(base, samples)}</xs:restriction></xs:simpleType>', samples
        if what < 0.78:
            if base == "NMTOKENS":
                base, samples = "int", ["1", "2"]
            lists = ["", *(" ".join(self.pick(samples) for _ in range(n)) for n in (1, 2, 3))]
            if self.chance(0.5):
                return f'<xs:simpleType{named}><xs:list itemType="xs:{base}"/></xs:simpleType>', lists
            inner = f'<xs:simpleType><xs:list itemType="xs:{base}"/></xs:simpleType>'
            return f'<xs:simpleType{named}><xs:restriction>{inner}<xs:maxLength value="2"/></xs:restriction></xs:simpleType>', lists
        if what < 0.9:
            others = [self.pick(self.BUILT_IN) for _ in range(self.random.randint(1, 3))]
            samples = [s for one in others for s in self.BUILT_IN[one]]
            members = " ".join(f"xs:{one}" for one in others)
            return f'<xs:simpleType{named}><xs:union memberTypes="{members}"/></xs:simpleType>', samples
        known = self.pick(self.simple)
        samples = self.simple[known]
        facets = self.facets("string", samples) if self.chance(0.5) else f'<xs:enumeration value="{escape(self.pick(samples))}"/>'
        return f'<xs:simpleType{named}><xs:restriction base="{self.ref(known)}">{facets}</xs:restriction></xs:simpleType>', samples

    def simple_use(self):
        """A simple type that is named, and samples."""
        if self.simple and self.chance(0.5):
            name = self.pick(self.simple)
            return self.ref(name), self.simple[name]
        base = self.pick(self.BUILT_IN)
        return f"xs:{base}", self.BUILT_IN[base]

    def occurs(self, most=3):
        low, high = self.pick([(1, 1), (1, 1), (0, 1), (0, 2), (1, 3), (2, 2), (0, None), (2, None), (1, 2)])
        if self.chance(0.01):
            low, high = 0, 0
        text = "" if low == 1 else f' minOccurs="{low}"'
        text += "" if high == 1 else f' maxOccurs="{"unbounded" if high is None else high}"'
        return text, low, low + 2 if high is None else high

    # A content is ("element", name, qualified, type) | ("sequence" | "choice" | "all", parts) | ("any", ...), each with bounds.
    def particle(self, depth):
        text, low, high = self.occurs()
        what = self.random.random()
        if what < 0.55 or depth > 2:
            if self.elements and self.chance(0.3):
                name = self.pick(self.elements)
                return f'<xs:element ref="{self.ref(name)}"{text}/>', ("ref", name, low, high)
            name = self.pick("abcdef")
            options, kind = "", None
            if self.types and self.chance(0.3):
                chosen = self.pick(self.types)
                kind = ("complex", chosen)
                ty = self.ref(chosen["name"])
            else:
                ty, samples = self.simple_use()
                kind = ("simple", samples)
                if self.chance(0.05) and samples:
                    options = f' {self.pick(["default", "fixed"])}="{escape(self.pick(samples))}"'
            nil = self.chance(0.15)
            options += ' nillable="true"' if nil else ""
            return f'<xs:element name="{name}" type="{ty}"{options}{text}/>', ("local", name, kind, low, high)
        if what < 0.65:
            space = self.pick(["##any", "##other", "##local", "##targetNamespace", "urn:o ##local"])
            process = self.pick(["skip", "lax", "strict"])
            return f'<xs:any namespace="{space}" processContents="{process}"{text}/>', ("any", low, high)
        kind = self.pick(["sequence", "choice"])
        inner = [self.particle(depth + 1) for _ in range(self.random.randint(1, 3))]
        return f'<xs:{kind}{text}>{"".join(t for t, _ in inner)}</xs:{kind}>', (kind, [p for _, p in inner], low, high)

    def model(self):
        if self.chance(0.12):
            inner = []
            for letter in self.random.sample("abcdef", self.random.randint(1, 4)):
                ty, samples = self.simple_use()
                low = self.pick([0, 1, 1])
                inner.append((f'<xs:element name="{letter}" type="{ty}" minOccurs="{low}"/>', ("local", letter, ("simple", samples), low, 1)))
            return f'<xs:all>{"".join(t for t, _ in inner)}</xs:all>', ("all", [p for _, p in inner], 1, 1)
        text, model = self.particle(0)
        if not text.startswith(("<xs:sequence", "<xs:choice")):
            return f"<xs:sequence>{text}</xs:sequence>", ("sequence", [model], 1, 1)
        return text, model

    def attributes(self):
        texts, known = [], []
        for name in self.random.sample(["p", "q", "s"], self.random.randint(0, 3)):
            ty, samples = self.simple_use()
            use = self.pick(["", "", ' use="required"', ' use="required"', f' default="{escape(self.pick(samples))}"', f' fixed="{escape(self.pick(samples))}"', ' use="prohibited"'])
            texts.append(f'<xs:attribute name="{name}" type="{ty}"{use}/>')
            known.append((name, samples, use))
        if self.chance(0.1):
            texts.append(f'<xs:anyAttribute namespace="{self.pick(["##any", "##other", "##local"])}" processContents="{self.pick(["skip", "lax", "strict"])}"/>')
        return "".join(texts), known

    def complex_type(self):
        name = self.name("T")
        mixed = ' mixed="true"' if self.chance(0.15) else ""
        attributes, known = self.attributes()
        simple = None
        if self.chance(0.15):
            base, samples = self.simple_use()
            text = f'<xs:simpleContent><xs:extension base="{base}">{attributes}</xs:extension></xs:simpleContent>'
            made = {"name": name, "model": None, "attributes": known, "simple": samples, "derived": []}
            self.parts.append(f'<xs:complexType name="{name}">{text}</xs:complexType>')
        elif self.types and self.chance(0.3):
            base = self.pick(self.types)
            text, model = self.model()
            if self.chance(0.7):
                derived = f'<xs:extension base="{self.ref(base["name"])}">{text}{attributes}</xs:extension>'
                joined = ("sequence", [m for m in (base["model"], model) if m], 1, 1)
            else:
                derived = f'<xs:restriction base="{self.ref(base["name"])}">{text}</xs:restriction>'
                joined = model
            kind = "simpleContent" if base["simple"] else "complexContent"
            self.parts.append(f'<xs:complexType name="{name}"><xs:{kind}>{derived}</xs:{kind}></xs:complexType>')
            made = {"name": name, "model": joined, "attributes": base["attributes"] + known, "simple": None, "derived": []}
            base["derived"].append(made)
        else:
            text, model = self.model()
            abstract = ' abstract="true"' if self.chance(0.05) else ""
            self.parts.append(f'<xs:complexType name="{name}"{mixed}{abstract}>{text}{attributes}</xs:complexType>')
            made = {"name": name, "model": model, "attributes": known, "simple": simple, "derived": []}
        self.types.append(made)

    def global_element(self):
        name = self.name("e")
        options, head = "", None
        if self.elements and self.chance(0.4):
            head = self.pick(self.elements)
            options = f' substitutionGroup="{self.ref(head)}"'
        if self.chance(0.1):
            options += ' abstract="true"'
        if self.types and self.chance(0.5):
            chosen = self.pick(self.types)
            kind, ty = ("complex", chosen), self.ref(chosen["name"])
        elif head and self.chance(0.5):
            kind, ty = self.elements[head]["kind"], None
        else:
            ty, samples = self.simple_use()
            kind = ("simple", samples)
        typed = f' type="{ty}"' if ty else ""
        self.elements[name] = {"kind": kind, "members": []}
        if head:
            self.elements[head]["members"].append(name)
        self.parts.append(f'<xs:element name="{name}"{typed}{options}/>')

    def schema(self):
        for _ in range(self.random.randint(0, 4)):
            name = self.name("S")
            text, samples = self.simple_type(name)
            self.parts.append(text)
            self.simple[name] = samples
        for _ in range(self.random.randint(0, 5)):
            self.pick([self.complex_type, self.global_element])()
        text, self.root = self.model()
        attributes, self.root_attributes = self.attributes()
        keys = ""
        if self.chance(0.3):
            letter, prefix = self.pick("abc"), "t:" if self.target and self.qualified else ""
            path = self.pick([f"{prefix}{letter}", f".//{prefix}{letter}", "*", f".//{prefix}{letter}|{prefix}d"])
            field = self.pick([".", "@p", "@q", f"{prefix}b"])
            keys = f'<xs:{(kind := self.pick(["unique", "key"]))} name="k"><xs:selector xpath="{path}"/><xs:field xpath="{field}"/></xs:{kind}>'
            if self.chance(0.4):
                keys += f'<xs:keyref name="r" refer="{self.ref("k")}"><xs:selector xpath=".//{prefix}{self.pick("cde")}"/><xs:field xpath="{field}"/></xs:keyref>'
        self.parts.append(f'<xs:element name="r"><xs:complexType>{text}{attributes}</xs:complexType>{keys}</xs:element>')
        head = '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema"'
        if self.target:
            head += ' targetNamespace="urn:t" xmlns:t="urn:t"'
        if self.qualified:
            head += ' elementFormDefault="qualified"'
        return f'{head}>\n' + "\n".join(self.parts) + "\n</xs:schema>\n"

    # Instances
    def tag(self, name, is_global):
        return f"t:{name}" if self.target and (is_global or self.qualified) else name

    def attribute_text(self, known):
        texts = []
        for name, samples, use in known:
            if "required" in use and not self.chance(0.05) or "required" not in use and self.chance(0.3):
                texts.append(f' {name}="{escape(self.pick(samples))}"')
        if self.chance(0.02):
            texts.append(' zz="1"')
        return "".join(dict.fromkeys(texts))

    def element(self, name, is_global, kind, depth):
        tag = self.tag(name, is_global)
        extra = ""
        if kind[0] == "simple":
            content = escape(self.pick(kind[1])) if kind[1] else ""
            if self.chance(0.04):
                extra = ' xsi:nil="true"'
                content = content if self.chance(0.3) else ""
            return f"<{tag}{extra}>{content}</{tag}>"
        ty = kind[1]
        if ty["derived"] and self.chance(0.3):
            ty = self.pick(ty["derived"])
            extra = f' xsi:type="{self.ref(ty["name"])}"'
        extra += self.attribute_text(ty["attributes"])
        if ty["simple"] is not None:
            return f'<{tag}{extra}>{escape(self.pick(ty["simple"]))}</{tag}>'
        content = self.content(ty["model"], depth + 1) if ty["model"] else ""
        return f"<{tag}{extra}>{content}</{tag}>"

    def content(self, model, depth):
        kind, low, high = model[0], model[-2], model[-1]
        if depth > 6:
            return ""
        count = self.random.randint(low, max(low, min(high, low + 2)))
        if self.chance(0.04):
            count = max(0, count + self.pick([-1, 1]))
        made = []
        for _ in range(count):
            if kind == "local":
                made.append(self.element(model[1], False, model[2], depth))
            elif kind == "ref":
                name = model[1]
                members = self.elements[name]["members"]
                if members and self.chance(0.5):
                    name = self.pick(members)
                made.append(self.element(name, True, self.elements[name]["kind"], depth))
            elif kind == "any":
                made.append(self.pick(['<zz/>', '<o:x xmlns:o="urn:o"/>', f'<{self.tag("r", True)}/>', '<a>1</a>']))
            elif kind == "choice":
                made.append(self.content(self.pick(model[1]), depth + 1))
            else:
                parts = [self.content(part, depth + 1) for part in model[1]]
                if kind == "all" or self.chance(0.03):
                    self.random.shuffle(parts)
                made += parts
        if self.chance(0.02):
            made.append(self.pick(["text", "<zz/>", "<!-- c -->"]))
        return "".join(made)

    def instance(self):
        tag = self.tag("r", True)
        space = ' xmlns:t="urn:t"' if self.target else ""
        content = self.content(self.root, 0)
        attributes = self.attribute_text(self.root_attributes)
        return f'<{tag}{space} xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xs="http://www.w3.org/2001/XMLSchema"{attributes}>{content}</{tag}>'


def escape(text):
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;").replace("\t", "&#9;")


def ours(folder, schemas):
    """By schema: the constraint that is violated, or None; and by instance: whether it is valid."""
    routes = "".join(f"      POST /{n}: {{ public: true, request: {{ xml: {n}.xsd }} }}\n" for n in range(len(schemas)))
    head = "version: 1\nallow: [unused_plan]\nlisten: [{ address: '127.0.0.1:0' }]\naudit: none\napis:\n  a:\n    upstream: http://127.0.0.1:9\n    routes:\n"
    write(folder, "p.yaml", head + routes)
    said = subprocess.run([BARTIZAN, "check", f"{folder}/p.yaml"], capture_output=True, text=True).stderr
    wrong = {}
    for problem in re.split(r"\n(?=error|warning)", said):
        place = re.search(r"--> \S*?(\d+)\.xsd:", problem)
        if problem.startswith("error") and place:
            constraint = re.search(r"\(([\w.-]+)\)\n", problem)
            wrong.setdefault(int(place[1]), f"{constraint[1] if constraint else ''} {problem.splitlines()[0][38:180]}")
        elif problem.startswith("error"):
            print("UNEXPECTED", problem[:500])
    good = [n for n in range(len(schemas)) if n not in wrong]
    if not good:
        return wrong, {}
    routes = "".join(f"      POST /{n}: {{ public: true, request: {{ xml: {n}.xsd }} }}\n" for n in good)
    write(folder, "p.yaml", head + routes)
    tests = "".join(
        f"  - {{ name: 'i {n} {m}', request: {{ method: POST, path: /{n}, headers: {{ content-type: text/xml }}, body_file: {n}-{m}.xml }}, expect: {{ status: 200 }} }}\n"
        for n in good for m in range(INSTANCES))
    write(folder, "t.yaml", f"policy: p.yaml\ntests:\n{tests}")
    said = subprocess.run([BARTIZAN, "test", f"{folder}/t.yaml"], capture_output=True, text=True)
    said = said.stdout + said.stderr
    verdicts = {(n, m): True for n in good for m in range(INSTANCES)}
    if " passed" not in said:
        print("UNEXPECTED", said[:500])
    blocks = re.split(r"\n(?=  (?:FAIL|ok) )", said)
    for block in blocks:
        found = re.match(r"\s*FAIL\s+i (\d+) (\d+)", block)
        if found:
            verdicts[int(found[1]), int(found[2])] = re.sub(r"\s+", " ", " ".join(block.splitlines()[3:6]))[:250]
    return wrong, verdicts


def libxml2(folder, n):
    files = [f"{folder}/{n}-{m}.xml" for m in range(INSTANCES)]
    try:
        said = subprocess.run(["xmllint", "--nonet", "--noout", "--schema", f"{folder}/{n}.xsd", *files], capture_output=True, text=True, errors="replace", timeout=5)
    except subprocess.TimeoutExpired:
        return None, "it does not end"
    if "failed to compile" in said.stderr:
        return None, said.stderr[:300]
    return [f"{n}-{m}.xml validates" in said.stderr for m in range(INSTANCES)], said.stderr


def pypi(folder, n):
    try:
        schema = xmlschema.XMLSchema10(f"{folder}/{n}.xsd")
    except Exception as error:
        return None, f"{type(error).__name__} {error}"[:300]
    verdicts = []
    for m in range(INSTANCES):
        try:
            verdicts.append(schema.is_valid(f"{folder}/{n}-{m}.xml"))
        except Exception:
            verdicts.append(None)
    return verdicts, ""


def known(why, valid, theirs):
    """Whether it is known of all who differ from us that they would."""
    differing = [who for who, verdict in zip(KNOWN, theirs) if verdict is not None and verdict != valid]
    return not valid and all(any(words in why for words in KNOWN[who]) for who in differing)


def write(folder, name, text):
    with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
        file.write(text)


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    end, counts, judged, seen, invalid = time.time() + seconds, [0, 0, 0], 0, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        while time.time() < end:
            schemas = []
            for n in range(SCHEMAS):
                generator = Generator(seed)
                seed += 1
                schemas.append(generator.schema())
                write(folder, f"{n}.xsd", schemas[-1])
                for m in range(INSTANCES):
                    write(folder, f"{n}-{m}.xml", generator.instance())
            wrong, verdicts = ours(folder, schemas)
            for n, text in enumerate(schemas):
                lint, lint_said = libxml2(folder, n)
                other, other_said = pypi(folder, n)
                us = wrong.get(n)
                counts[0] += 1
                counts[1] += us is None
                if us:
                    invalid[us.split(" ")[0]] = invalid.get(us.split(" ")[0], 0) + 1
                if (us is None) != (lint is not None) or (us is None) != (other is not None):
                    kind = ("schema", us.split(" ")[0] if us else "valid", lint is not None, other is not None,
                            "" if us else re.sub(r"[\w{}:]*\d+[\w{}:]*|'[^']*'", "N", (lint_said if lint is None else other_said))[-110:])
                    if known(us or "", us is None, [lint is not None, other is not None]):
                        continue
                    if kind not in seen:
                        print(f"\n===== {kind}\nours: {us}\nlibxml2: {lint_said[:300] if lint is None else 'valid'}\nxmlschema: {other_said or 'valid'}\nseed {seed - SCHEMAS + n}\n{text}", flush=True)
                    seen[kind] = seen.get(kind, 0) + 1
                if us is not None:
                    continue
                for m in range(INSTANCES):
                    verdict = verdicts.get((n, m))
                    judged += 1
                    valid = verdict is True
                    counts[2] += valid
                    theirs = [lint[m] if lint else None, other[m] if other else None]
                    if any(one is not None and one != valid for one in theirs):
                        why = verdict if not valid else next((l for l in lint_said.splitlines() if f"/{n}-{m}.xml" in l), "")
                        if known(str(why), valid, theirs):
                            continue
                        generic = re.sub(r"`[^`]*`|'[^']*'|\d+|/[\w/:\[\]]*", "N", str(why))[:90]
                        kind = ("instance", valid, *theirs, generic)
                        if kind not in seen:
                            with open(f"{folder}/{n}-{m}.xml", encoding="utf-8") as file:
                                print(f"\n===== {kind}\n{why}\nseed {seed - SCHEMAS + n} instance {m}\n{text}{file.read()}", flush=True)
                        seen[kind] = seen.get(kind, 0) + 1
    print("why schemas are invalid:", *sorted(invalid.items(), key=lambda one: -one[1])[:15])
    print(f"\n{counts[0]} schemas, {counts[1]} valid; {judged} instances, {counts[2]} valid; seeds up to {seed}")
    for kind, count in sorted(seen.items(), key=lambda one: -one[1]):
        print(count, kind)


if __name__ == "__main__":
    main()
