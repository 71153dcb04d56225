//! `bartizan audit tail`: the last records of a file, or those that a node writes from now on.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::input;
use crate::audit::{Filter, LINE_MAX, LineRead, Lines, readable, visible_json};
use crate::cli::exit_code::{DONE, FAILED, INVALID};
use crate::cli::operator::DaemonArguments;
use crate::cli::output::{self, Format};
use crate::error_text;

/// How often a followed file is looked at.
const LOOK: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
#[command(after_help = "Example: bartizan audit tail audit.jsonl --consumer acme --code 403
Example: bartizan audit tail --policy policy.yaml
With a file, shows its last records, and with --follow those that come. Without one, follows a running node.")]
pub(super) struct Arguments {
    /// File of records, plain or gzip; `-` is standard input
    file: Option<PathBuf>,
    /// Number of records of the file to show
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
    lines: usize,
    /// Go on with records that are appended to the file, also after a rotation
    #[arg(short, long)]
    follow: bool,
    /// Only records of this consumer
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// Only records of this user, or operator
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Only records of this API
    #[arg(long, value_name = "NAME")]
    api: Option<String>,
    /// Only records of this route, as the policy writes it
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,
    /// Only records with this `event.action`
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Only records with this code, or this status, such as 403 or 4xx
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// Output format of the results
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    #[command(flatten)]
    daemon: DaemonArguments,
}

impl Arguments {
    fn filter(&self) -> Filter {
        let Self { consumer, user, api, route, action, code, .. } = self;
        Filter {
            consumer: consumer.clone(),
            user: user.clone(),
            api: api.clone(),
            route: route.clone(),
            action: action.clone(),
            code: code.clone(),
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> u8 {
    let shown = Shown { filter: arguments.filter(), format: arguments.format };
    match &arguments.file {
        Some(path) => of_file(arguments, path, &shown),
        None if arguments.follow => {
            output::message(format_args!("error: --follow needs a file; a node is always followed"));
            INVALID
        }
        None => of_node(arguments, &shown),
    }
}

/// Which records are shown, and how.
struct Shown {
    filter: Filter,
    format: Format,
}

impl Shown {
    /// Prints a record. Returns false if nobody reads any more.
    fn print(&self, line: &[u8]) -> bool {
        let text = match self.format {
            Format::Json => visible_json(String::from_utf8_lossy(line).into_owned()),
            Format::Text => readable(line, output::colour(&std::io::stdout())),
        };
        output::print(&format!("{text}\n"))
    }
}

fn failed(path: &Path, error: &std::io::Error) -> u8 {
    output::message(format_args!("error: {}: {}", path.display(), error_text::system(error)));
    FAILED
}

fn of_file(arguments: &Arguments, path: &Path, shown: &Shown) -> u8 {
    if arguments.follow && path.as_os_str() == "-" {
        output::message(format_args!("error: standard input cannot be followed"));
        return INVALID;
    }
    let read = Arc::default();
    let mut last = VecDeque::with_capacity(arguments.lines.min(1024));
    let mut read_to_end = || -> std::io::Result<u64> {
        let mut end = 0;
        let input = input::open(path, &read)?;
        if arguments.follow && input.is_compressed {
            return Err(std::io::Error::other("a compressed file cannot be followed; it is shown without --follow"));
        }
        let mut lines = Lines::new(input.text);
        while let Some(line) = lines.next()? {
            let line = match line {
                LineRead::Whole(line) => line,
                // What is not written whole yet comes again when it is.
                LineRead::Torn(_) if arguments.follow => break,
                LineRead::Torn(line) => line,
            };
            end += line.len() as u64 + 1;
            if shown.filter.wants(line) && arguments.lines > 0 {
                if last.len() == arguments.lines {
                    last.pop_front();
                }
                last.push_back(line.to_vec());
            }
        }
        Ok(end)
    };
    let end = match read_to_end() {
        Ok(end) => end,
        Err(error) => return failed(path, &error),
    };
    for line in &last {
        if !shown.print(line) {
            return DONE;
        }
    }
    if arguments.follow { follow(path, end, shown) } else { DONE }
}

/// Prints what is appended after `end`, until nobody reads any more.
fn follow(path: &Path, end: u64, shown: &Shown) -> u8 {
    let mut open = match File::open(path).and_then(|mut file| file.seek(SeekFrom::Start(end)).map(|_| file)) {
        Ok(file) => file,
        Err(error) => return failed(path, &error),
    };
    let mut rest = Vec::new();
    loop {
        match print_new(&mut open, &mut rest, shown) {
            Ok(true) => {}
            Ok(false) => return DONE,
            Err(error) => return failed(path, &error),
        }
        // Whether another file is there, or this one is shorter, is asked after its end was read.
        if is_replaced(&mut open, path) {
            // What came between the last look and the rotation.
            if let Ok(false) = print_new(&mut open, &mut rest, shown) {
                return DONE;
            }
            if let Ok(file) = File::open(path) {
                (open, rest) = (file, Vec::new());
                continue;
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// Prints the lines that were appended. Returns false if nobody reads any more.
fn print_new(open: &mut File, rest: &mut Vec<u8>, shown: &Shown) -> std::io::Result<bool> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let count = open.read(&mut piece)?;
        if count == 0 {
            return Ok(true);
        }
        rest.extend_from_slice(piece.get(..count).unwrap_or_default());
        while let Some(length) = memchr::memchr(b'\n', rest) {
            let line: Vec<u8> = rest.drain(..=length).collect();
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            if shown.filter.wants(line) && !shown.print(line) {
                return Ok(false);
            }
        }
        if rest.len() > LINE_MAX {
            return Err(std::io::Error::new(ErrorKind::InvalidData, "a line is longer than any record"));
        }
    }
}

fn is_replaced(open: &mut File, path: &Path) -> bool {
    let (Ok(old), Ok(place)) = (open.metadata(), open.stream_position()) else { return true };
    let Ok(new) = std::fs::metadata(path) else { return false };
    (old.dev(), old.ino()) != (new.dev(), new.ino()) || new.len() < place
}

fn of_node(arguments: &Arguments, shown: &Shown) -> u8 {
    let operator = match arguments.daemon.open() {
        Ok(operator) => operator,
        Err(code) => return code,
    };
    let mut printed = |event: &str, data: &[u8]| match event {
        "record" => shown.print(data),
        "missed" => {
            let batches = String::from_utf8_lossy(data);
            output::message(format_args!("{batches} batches of records were missed: they came too fast"));
            true
        }
        _ => true,
    };
    operator.follow("/v1/audit", &shown.filter, &mut printed).map_or_else(|code| code, |()| DONE)
}
