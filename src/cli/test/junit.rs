//! Test reports as JUnit XML, which CI systems read: one `testsuite` a file.

use std::io;
use std::path::Path;

use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};

use super::report::{Report, failure};

/// Writes the reports of all files.
pub(super) fn write(path: &Path, reports: &[Report]) -> io::Result<()> {
    std::fs::write(path, xml(reports)?)
}

fn xml(reports: &[Report]) -> io::Result<Vec<u8>> {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    writer
        .create_element("testsuites")
        .with_attribute(("name", "bartizan"))
        .write_inner_content(|writer| reports.iter().try_for_each(|report| suite(writer, report)))?;
    Ok(writer.into_inner())
}

fn suite(writer: &mut Writer<Vec<u8>>, report: &Report) -> io::Result<()> {
    let failures = report.tested.iter().filter(|tested| !tested.passed()).count();
    let invalid = usize::from(!report.problems.is_empty());
    let count = |count: usize| count.to_string();
    writer
        .create_element("testsuite")
        .with_attribute(("name", report.file.as_str()))
        .with_attribute(("tests", count(report.tested.len() + invalid).as_str()))
        .with_attribute(("failures", count(failures).as_str()))
        .with_attribute(("errors", count(invalid).as_str()))
        .write_inner_content(|writer| {
            for tested in &report.tested {
                let line = count(tested.line);
                let case = writer
                    .create_element("testcase")
                    .with_attribute(("classname", report.file.as_str()))
                    .with_attribute(("name", tested.name.as_str()))
                    .with_attribute(("file", report.file.as_str()))
                    .with_attribute(("line", line.as_str()));
                if tested.passed() {
                    case.write_empty()?;
                    continue;
                }
                let text = anstream::adapter::strip_str(&failure(tested, "")).to_string();
                let facts: Vec<&str> = tested.differences.iter().map(|difference| difference.fact).collect();
                let message = format!("not as expected: {}", facts.join(", "));
                case.write_inner_content(|writer| {
                    let failure = writer.create_element("failure").with_attribute(("message", message.as_str()));
                    failure.write_text_content(BytesText::new(&text)).map(drop)
                })?;
            }
            if invalid > 0 {
                let text: String = report.problems.iter().map(|problems| problems.text(false)).collect();
                let case =
                    writer.create_element("testcase").with_attribute(("name", "the file and its policy are valid"));
                case.write_inner_content(|writer| {
                    writer.create_element("error").write_text_content(BytesText::new(&text)).map(drop)
                })?;
            }
            Ok(())
        })
        .map(drop)
}
