use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::audit::batch::Batch;
use crate::audit::chain::tests::unsealed;
use crate::audit::config::{AuditConfig, OnFull, SpoolConfig, SyslogConfig};
use crate::audit::trail::Trail;
use crate::egress::Trust;
use crate::url::StreamUrl;

/// Longer than any test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

fn is_sent(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Sent { .. })
}

fn config(address: &str) -> SyslogConfig {
    SyslogConfig {
        address: StreamUrl::parse(address).unwrap(),
        trust: None,
        egress: Arc::default(),
        timeout: Duration::from_secs(30),
        facility: 13,
        app_name: "bartizan".into(),
        max_message: 8192,
        cee: false,
    }
}

fn sink(config: SyslogConfig) -> Destination {
    Destination::new(&SinkConfig::Syslog(config), "edge 1").unwrap().unwrap()
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    (listener, address)
}

/// Reads one message by its length (RFC 6587 §3.4.1).
async fn message(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut length = 0;
    loop {
        match stream.read_u8().await.unwrap() {
            b' ' => break,
            digit => length = length * 10 + usize::from(digit.checked_sub(b'0').unwrap()),
        }
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await.unwrap();
    String::from_utf8(message).unwrap()
}

/// The header and the record of a message.
fn parts(message: &str) -> (String, Value) {
    let (header, json) = message.split_at(message.find('{').unwrap());
    (header.to_owned(), serde_json::from_str(json).unwrap())
}

#[tokio::test]
async fn a_message_is_as_rfc_5424_says() {
    let (listener, address) = listener().await;
    let mut sink = sink(SyslogConfig { cee: true, ..config(&address) });
    let kinds = [
        ("\"kind\":\"event\"", "\"kind\":\"event\"", 109),
        ("\"kind\":\"event\"", "\"kind\":\"alert\"", 108),
        ("\"denied\"", "\"error\"", 107),
        ("\"denied\"", "\"allowed\"", 110),
    ];
    let lines: String = kinds.iter().map(|(from, to, _)| line(1).replace(from, to)).collect();
    let (delivery, accepted) = tokio::join!(sink.deliver(lines.into()), listener.accept());
    assert!(is_sent(&delivery));
    let mut stream = accepted.unwrap().0;
    for (_, _, priority) in kinds {
        let (header, record) = parts(&message(&mut stream).await);
        let process = std::process::id();
        assert_eq!(header, format!("<{priority}>1 2026-11-27T10:00:00.123Z edge1 bartizan {process} request - @cee: "));
        assert_eq!(record["event"]["id"], id(1));
    }
    sink.close().await;
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_message_is_never_longer_than_allowed() {
    let (listener, address) = listener().await;
    let mut sink = sink(SyslogConfig { max_message: 1024, ..config(&address) });
    let long = line(7).replace("/v1/orders", &"/x\u{e4}".repeat(5000));
    let (delivery, accepted) = tokio::join!(sink.deliver(format!("{long}{}", line(8)).into()), listener.accept());
    assert!(is_sent(&delivery));
    let mut stream = accepted.unwrap().0;
    let short = message(&mut stream).await;
    assert!(short.len() <= 1024, "{}", short.len());
    let (_, record) = parts(&short);
    assert_eq!((&record["bartizan"]["shortened"], &record["event"]["id"]), (&Value::Bool(true), &Value::String(id(7))));
    let (_, record) = parts(&message(&mut stream).await);
    assert_eq!(record["bartizan"].get("shortened"), None);
}

#[tokio::test]
async fn what_a_lost_connection_may_have_lost_is_sent_again() {
    let (listener, address) = listener().await;
    let mut sink = sink(config(&address));
    let (_, accepted) = tokio::join!(sink.deliver(batch([1])), listener.accept());
    let mut first = accepted.unwrap().0;
    message(&mut first).await;
    // These were taken by the kernel alone.
    for number in [2, 3] {
        assert!(is_sent(&sink.deliver(batch([number])).await));
    }
    drop(first);
    // Once the end has arrived, it is seen before anything is written.
    let (delivery, accepted) = tokio::join!(sink.deliver(batch([4])), listener.accept());
    assert!(is_sent(&delivery));
    let mut second = accepted.unwrap().0;
    for expected in [1, 2, 3, 4] {
        assert_eq!(parts(&message(&mut second).await).1["event"]["id"], id(expected));
    }
    // On a connection that lasts, nothing is sent twice.
    assert!(is_sent(&sink.deliver(batch([5])).await));
    assert_eq!(parts(&message(&mut second).await).1["event"]["id"], id(5));
}

/// Reads so many messages.
async fn messages(stream: &mut tokio::net::TcpStream, most: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.len() < most {
        seen.push(parts(&message(stream).await).1["event"]["sequence"].as_u64().unwrap());
    }
    seen
}

/// Delivers 44 records of a quarter of a mebibyte each, and then another, after the receiver has read so many and closed the
/// connection. Returns what comes over the next one.
async fn after_a_close(read: usize, next: usize) -> Vec<u64> {
    let (listener, address) = listener().await;
    let mut sink = sink(SyslogConfig { max_message: 1 << 20, ..config(&address) });
    // The path is there twice.
    let large = |number| Bytes::from(line(number).replace("/v1/orders", &"/x".repeat(64 << 10)));
    let sending = async {
        for number in 0..44 {
            assert!(is_sent(&sink.deliver(large(number)).await));
        }
    };
    let reading = async {
        let mut stream = listener.accept().await.unwrap().0;
        (messages(&mut stream, read).await, stream)
    };
    let ((), (seen, stream)) = tokio::join!(sending, reading);
    assert_eq!(seen, Vec::from_iter(0..read as u64));
    drop(stream);
    // The runtime sees the end of the connection.
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    let reading = async { messages(&mut listener.accept().await.unwrap().0, next).await };
    let (delivery, seen) = tokio::join!(sink.deliver(large(44)), reading);
    assert!(is_sent(&delivery));
    seen
}

#[tokio::test]
async fn what_must_have_arrived_is_not_sent_again() {
    // Eight mebibytes, begun.
    assert_eq!(after_a_close(43, 33).await, Vec::from_iter(12..45));
}

#[tokio::test]
async fn what_a_receiver_has_read_before_it_closes_is_not_sent_again() {
    assert_eq!(after_a_close(44, 1).await, [44]);
}

/// A trail with a spool in this folder, and this receiver.
fn trail(folder: &Path, address: &str) -> Trail {
    let spool = SpoolConfig { path: folder.join("spool"), size: 1 << 24, fsync: Duration::ZERO, on_full: OnFull::Wait };
    let sinks = vec![SinkConfig::Syslog(config(address))];
    let trail = Trail::open(&AuditConfig { sinks, spool: Some(spool), ..AuditConfig::none() }, None).unwrap();
    trail.install(&Trail::silent());
    trail
}

#[tokio::test]
async fn what_a_receiver_has_not_read_comes_again_from_the_next_process() {
    let ((listener, address), folder) = (listener().await, tempfile::tempdir().unwrap());
    let first = trail(folder.path(), &address);
    let lines: String = ["a", "b", "c"].into_iter().map(unsealed).collect();
    first.send(Batch { lines: lines.into(), records: 3 }).await;
    let stream = listener.accept().await.unwrap().0;
    while first.stats()[0].records_written < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(first.stats()[0].waiting, 0, "all is on its way");
    drop(stream);
    first.close(PATIENCE).await;
    drop(first);
    let second = trail(folder.path(), &address);
    let mut stream = tokio::time::timeout(PATIENCE, listener.accept()).await.unwrap().unwrap().0;
    for name in ["a", "b", "c"] {
        assert_eq!(parts(&message(&mut stream).await).1["bartizan"]["name"], name);
    }
    // The receiver closes in good order, once it has all.
    let reading = async move { assert_eq!(stream.read(&mut [0]).await.unwrap(), 0) };
    tokio::join!(second.close(PATIENCE), reading);
    drop(second);
    let third = trail(folder.path(), &address);
    assert_eq!(third.stats()[0].waiting, 0);
    third.close(PATIENCE).await;
}

#[tokio::test]
async fn a_receiver_may_be_slow() {
    // More than all buffers on the way hold: when so much was read, the sink has written.
    const PART: usize = 16 << 20;
    const PARTS: u32 = 5;
    let (listener, address) = listener().await;
    let mut sink = sink(SyslogConfig { max_message: 1 << 20, ..config(&address) });
    let long = line(2).replace("/v1/orders", &"/x".repeat(64 << 10));
    let lines = long.repeat(PARTS as usize * PART / long.len() + 1);
    tokio::time::pause();
    let reading = async {
        let (mut stream, begun) = (listener.accept().await.unwrap().0, tokio::time::Instant::now());
        let mut buffer = vec![0; PART];
        for _ in 0..PARTS {
            stream.read_exact(&mut buffer).await.unwrap();
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.unwrap();
        begun.elapsed()
    };
    let sending = async {
        let delivery = sink.deliver(lines.into()).await;
        sink.close().await;
        delivery
    };
    // The clock does not move by itself while there is something to do.
    let busy = async {
        loop {
            tokio::task::yield_now().await;
        }
    };
    let (delivery, time) = tokio::select! {
        biased;
        both = async { tokio::join!(sending, reading) } => both,
        () = busy => unreachable!(),
    };
    assert!(is_sent(&delivery));
    assert!(time > Duration::from_secs(31), "{time:?}");
}

#[tokio::test]
async fn nobody_there_and_nobody_listening_are_failures() {
    let delivery = sink(config(&format!("tcp://127.0.0.1:{}", free_port()))).deliver(batch([1])).await;
    assert!(told(&delivery).contains("refused"), "{delivery:?}");
}

#[tokio::test]
async fn a_receiver_that_takes_nothing_is_given_up() {
    let (listener, address) = listener().await;
    let mut sink = sink(SyslogConfig { max_message: 1 << 20, ..config(&address) });
    let (delivery, _accepted) = tokio::join!(sink.deliver(batch([1])), listener.accept());
    assert!(is_sent(&delivery));
    // More than any buffer on the way takes; the clock moves when nothing else does.
    tokio::time::pause();
    let long = line(2).replace("/v1/orders", &"/x".repeat(32 << 10));
    let delivery = sink.deliver(long.repeat(1000).into()).await;
    assert_eq!(told(&delivery), "failed the receiver took nothing within 30s");
}

/// A certificate for `localhost` with its key, as PEM, and the authority that clients trust.
fn tls() -> (String, String, Trust) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let trust = Trust { config: Arc::new(client), identity: "test".into() };
    (made.cert.pem(), made.signing_key.serialize_pem(), trust)
}

#[tokio::test]
async fn tls_is_ended_by_close_notify() {
    use rustls::pki_types::pem::PemObject;
    let (certificate, key, trust) = tls();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let chain = vec![rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server.with_no_client_auth().with_single_cert(chain, key).unwrap()));
    let (listener, address) = listener().await;
    let port = address.rsplit(':').next().unwrap();
    let mut sink = sink(SyslogConfig { trust: Some(trust), ..config(&format!("tls://localhost:{port}")) });
    let serve = async { acceptor.accept(listener.accept().await.unwrap().0).await.unwrap() };
    let (delivery, mut stream) = tokio::join!(sink.deliver(batch([1])), serve);
    assert!(is_sent(&delivery));
    assert_eq!(parts(&message(&mut stream).await).1["event"]["id"], id(1));
    let (_, read) = tokio::join!(sink.close(), async {
        let read = stream.read(&mut [0]).await;
        drop(stream);
        read
    });
    // Without close_notify, this is an error.
    assert_eq!(read.unwrap(), 0);
}

/// Starts rsyslogd with TLS, writing the messages of its port to a file.
fn rsyslogd(folder: &Path) -> (Child, u16) {
    let port = free_port();
    let at = |name: &str| folder.join(name).display().to_string();
    let text = format!(
        "global(workDirectory=\"{}\" maxMessageSize=\"16k\" defaultNetstreamDriver=\"gtls\"\n\
         defaultNetstreamDriverCAFile=\"{ca}\" defaultNetstreamDriverCertFile=\"{ca}\" defaultNetstreamDriverKeyFile=\"{key}\")\n\
         module(load=\"imtcp\" streamDriver.name=\"gtls\" streamDriver.mode=\"1\" streamDriver.authMode=\"anon\")\n\
         input(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\" ruleset=\"in\")\n\
         template(name=\"t\" type=\"string\" string=\"%pri% %timestamp:::date-rfc3339% %hostname% %app-name% %msgid% %msg%\\n\")\n\
         ruleset(name=\"in\") {{ action(type=\"omfile\" file=\"{out}\" template=\"t\") }}\n\
         ruleset(name=\"rest\") {{ action(type=\"omfile\" file=\"{log}\") }}\n\
         $DefaultRuleset rest\n",
        folder.display(),
        ca = at("cert.pem"),
        key = at("key.pem"),
        out = at("out"),
        log = at("log"),
    );
    std::fs::write(folder.join("rsyslog.conf"), text).unwrap();
    let mut command = std::process::Command::new("rsyslogd");
    command.args(["-n", "-f", &at("rsyslog.conf"), "-i", &at("pid")]);
    let log = std::fs::File::create(folder.join("stderr")).unwrap();
    let child = Child(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    eventually("rsyslogd listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    (child, port)
}

#[tokio::test]
async fn a_real_receiver_takes_the_messages_over_tls() {
    let gtls = ["/usr/lib/x86_64-linux-gnu/rsyslog/lmnsd_gtls.so", "/usr/lib/aarch64-linux-gnu/rsyslog/lmnsd_gtls.so"];
    if !gtls.iter().any(|path| Path::new(path).exists()) {
        assert!(std::env::var_os("CI").is_none(), "skipped in CI: there is no rsyslog with gtls");
        return eprintln!("SKIPPED: there is no rsyslog with gtls");
    }
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key, trust) = tls();
    std::fs::write(folder.path().join("cert.pem"), certificate).unwrap();
    std::fs::write(folder.path().join("key.pem"), key).unwrap();
    let (_child, port) = rsyslogd(folder.path());
    let mut sink = sink(SyslogConfig { trust: Some(trust), ..config(&format!("tls://localhost:{port}")) });
    let long = line(100).replace("/v1/orders", &"/x".repeat(20_000));
    let lines: String = (0..50).map(line).chain([long]).collect();
    assert!(is_sent(&sink.deliver(lines.into()).await));
    sink.close().await;
    let text = eventually("rsyslogd has written them", || {
        let text = std::fs::read_to_string(folder.path().join("out")).ok()?;
        text.contains(&id(100)).then_some(text)
    });
    assert_eq!(text.lines().count(), 51, "{text}");
    for (number, line) in text.lines().enumerate() {
        let (header, record) = parts(line);
        assert_eq!(header.trim_end(), "109 2026-11-27T10:00:00.123Z edge1 bartizan request", "{line}");
        let number = if number == 50 { 100 } else { number };
        assert_eq!(record["event"]["id"], id(number));
    }
    let said = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    assert!(!said.contains("closed") && !said.contains("error"), "{said}");
}
