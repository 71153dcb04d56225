//! `examples/elk`: what is imported into Kibana fits the records.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn example(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/elk").join(name)).unwrap()
}

/// The names of the fields of records, as `bartizan help record` has them.
fn fields() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_bartizan")).args(["help", "record"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn saved_searches_show_fields_that_records_have() {
    let (fields, mut searches) = (fields(), 0);
    let objects: Vec<Value> =
        example("kibana.ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let known: Vec<&str> = objects.iter().map(|object| object["id"].as_str().unwrap()).collect();
    for object in &objects {
        for reference in object["references"].as_array().unwrap() {
            assert!(known.contains(&reference["id"].as_str().unwrap()), "{reference}");
        }
        let attributes = &object["attributes"];
        if object["type"] != "search" {
            assert_eq!((&object["type"], &attributes["title"]), (&"index-pattern".into(), &"logs-bartizan-*".into()));
            continue;
        }
        searches += 1;
        let source = attributes["kibanaSavedObjectMeta"]["searchSourceJSON"].as_str().unwrap();
        let source: Value = serde_json::from_str(source).unwrap();
        let query = source["query"]["query"].as_str().unwrap();
        let asked = query.split(" and ").map(|part| part.split(" : ").next().unwrap());
        for field in
            attributes["columns"].as_array().unwrap().iter().map(|column| column.as_str().unwrap()).chain(asked)
        {
            assert!(fields.contains(field), "{field} is no field of a record");
        }
    }
    assert_eq!(searches, 4);
}

#[test]
fn filebeat_writes_to_the_data_stream_of_the_sink() {
    let filebeat = example("filebeat.yml");
    for needed in
        ["index: logs-bartizan-default", "from: event.id, to: \"@metadata._id\"", "setup.template.enabled: false"]
    {
        assert!(filebeat.contains(needed), "{needed}");
    }
}
