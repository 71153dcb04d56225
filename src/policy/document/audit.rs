//! `audit`, as written.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::secret::{Secret, secret};
use crate::policy::units::{Period, Size};

/// `audit: none`, a list of sinks, or a map.
#[derive(Debug)]
pub(crate) enum Audit {
    /// No record, on purpose.
    None,
    /// Every sink gets every record.
    Sinks(Vec<Sink>),
    /// The same, with settings of the chain and the spool.
    Map(AuditMap),
}

/// The audit records.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename = "Audit")]
#[schemars(inline)]
pub(crate) struct AuditMap {
    /// The hash chain of the records.
    pub(crate) chain: Chain,
    /// Where records are kept until every sink has them. Required by sinks over the network. Default: none.
    pub(crate) spool: Option<Spool>,
    /// The sinks. Required.
    pub(crate) to: Vec<Sink>,
}

/// The hash chain of the records.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Chain {
    /// PEM file of the Ed25519 key that signs checkpoints, or a reference to the PEM itself. Default: there are no checkpoints.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) key: Option<SecretString>,
    /// Mount of the vault's transit engine, and a key of the type `ed25519` there: `transit/KEY`. It signs in place of `key`.
    pub(crate) transit: Option<String>,
    /// Time between two checkpoints, from 1s to 1d.
    #[schemars(extend("default" = "1m"))]
    pub(crate) checkpoint: Option<Period>,
}

/// A folder that keeps records until every sink has them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Spool {
    /// The folder, which is created in an existing one. Required.
    pub(crate) path: Option<String>,
    /// Most bytes of records in it, at least 16MiB.
    #[schemars(extend("default" = "4GiB"))]
    pub(crate) size: Option<Size>,
    /// Longest time until a record is on disk; `0s`: after each write.
    #[schemars(extend("default" = "1s"))]
    pub(crate) fsync: Option<Period>,
    /// While it is full: requests `wait`, are `refuse`d with 503, or are served and their records counted (`drop_and_count`).
    #[schemars(extend("enum" = ["wait", "refuse", "drop_and_count"], "default" = "wait"))]
    pub(crate) on_full: Option<String>,
}

/// A sink of audit records.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sink {
    /// Standard output.
    Stdout,
    /// A file.
    File(FileSink),
    /// A data stream of Elasticsearch or OpenSearch.
    Elasticsearch(ElasticsearchSink),
    /// A collector that speaks OTLP over HTTP.
    Otlp(OtlpSink),
    /// A syslog receiver (RFC 5424).
    Syslog(SyslogSink),
    /// An HTTP endpoint that takes lines.
    Http(HttpSink),
}

/// A file that records are appended to.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FileSink {
    /// Path of the file. Required.
    pub(crate) path: Option<String>,
    /// When the file is put aside for a new one. Default: never; it is opened again on SIGHUP.
    pub(crate) rotate: Option<Rotate>,
}

/// When a file is put aside for a new one: by `size`, by `every`, or by both.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rotate {
    /// From this size on, at least 64KiB. Default: any size.
    pub(crate) size: Option<Size>,
    /// At this age, at least 1m. Default: any age.
    pub(crate) every: Option<Period>,
    /// How many rotated files are kept, from 1 to 10000.
    #[schemars(extend("default" = 14))]
    pub(crate) keep: Option<u32>,
    /// Whether rotated files are compressed by gzip.
    #[schemars(extend("default" = true))]
    pub(crate) compress: Option<bool>,
}

/// A data stream of Elasticsearch or OpenSearch.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ElasticsearchSink {
    /// URL of the cluster. Required.
    pub(crate) url: Option<String>,
    /// The data stream.
    #[schemars(extend("default" = "logs-bartizan-default"))]
    pub(crate) data_stream: Option<String>,
    /// API key: `ID:KEY`, or both in Base64 as Kibana shows them.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) api_key: Option<SecretString>,
    /// User name, instead of an API key.
    pub(crate) username: Option<String>,
    /// Password of the user.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) password: Option<SecretString>,
    /// File for records that the cluster refuses for good. Default: a file in the spool.
    pub(crate) rejected: Option<String>,
    /// PEM file of the authorities that issue the server's certificate. Default: the system's.
    pub(crate) ca: Option<String>,
    /// PEM file of the certificate to present. Default: none.
    pub(crate) certificate: Option<String>,
    /// PEM file of its private key, or a reference to the PEM itself.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) key: Option<SecretString>,
    /// How long one request may take. Default: `egress.timeout`.
    pub(crate) timeout: Option<Period>,
    /// Whether requests are compressed.
    #[schemars(extend("default" = true))]
    pub(crate) gzip: Option<bool>,
    /// Most bytes of records in one request, from 64KiB to 32MiB.
    #[schemars(extend("default" = "1MiB"))]
    pub(crate) max_batch: Option<Size>,
}

/// A collector that speaks OTLP over HTTP.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OtlpSink {
    /// Base URL of the collector; `/v1/logs` is appended. Required.
    pub(crate) endpoint: Option<String>,
    /// Header fields of requests, such as `authorization`. Default: none.
    #[schemars(with = "BTreeMap<String, String>")]
    pub(crate) headers: BTreeMap<String, Secret>,
    /// File for records that the collector refuses for good. Default: a file in the spool.
    pub(crate) rejected: Option<String>,
    /// PEM file of the authorities that issue the collector's certificate. Default: the system's.
    pub(crate) ca: Option<String>,
    /// PEM file of the certificate to present. Default: none.
    pub(crate) certificate: Option<String>,
    /// PEM file of its private key, or a reference to the PEM itself.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) key: Option<SecretString>,
    /// How long one request may take. Default: `egress.timeout`.
    pub(crate) timeout: Option<Period>,
    /// Whether requests are compressed.
    #[schemars(extend("default" = true))]
    pub(crate) gzip: Option<bool>,
    /// Most bytes of records in one request, from 64KiB to 32MiB.
    #[schemars(extend("default" = "1MiB"))]
    pub(crate) max_batch: Option<Size>,
}

/// An HTTP endpoint that takes lines.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HttpSink {
    /// URL of the endpoint. Required.
    pub(crate) url: Option<String>,
    /// How records are sent: as lines (`ndjson`), as `splunk` events (HTTP Event Collector), or as a `loki` stream.
    #[schemars(extend("enum" = ["ndjson", "splunk", "loki"], "default" = "ndjson"))]
    pub(crate) format: Option<String>,
    /// Header fields of requests, such as `authorization`. Default: none.
    #[schemars(with = "BTreeMap<String, String>")]
    pub(crate) headers: BTreeMap<String, Secret>,
    /// File for records that the endpoint refuses for good. Default: a file in the spool.
    pub(crate) rejected: Option<String>,
    /// PEM file of the authorities that issue the endpoint's certificate. Default: the system's.
    pub(crate) ca: Option<String>,
    /// PEM file of the certificate to present. Default: none.
    pub(crate) certificate: Option<String>,
    /// PEM file of its private key, or a reference to the PEM itself.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) key: Option<SecretString>,
    /// How long one request may take. Default: `egress.timeout`.
    pub(crate) timeout: Option<Period>,
    /// Whether requests are compressed by gzip. Default: not as `ndjson`, whose receivers may not know it.
    pub(crate) gzip: Option<bool>,
    /// Most bytes of records in one request, from 64KiB to 32MiB.
    #[schemars(extend("default" = "1MiB"))]
    pub(crate) max_batch: Option<Size>,
}

/// A syslog receiver: RFC 5424 over TCP or TLS.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SyslogSink {
    /// `tls://HOST:PORT`, or `tcp://HOST:PORT`. Default port: 6514, or 601. Required.
    pub(crate) address: Option<String>,
    /// PEM file of the authorities that issue the receiver's certificate. Default: the system's.
    pub(crate) ca: Option<String>,
    /// PEM file of the certificate to present. Default: none.
    pub(crate) certificate: Option<String>,
    /// PEM file of its private key, or a reference to the PEM itself.
    #[serde(deserialize_with = "secret")]
    #[schemars(with = "String")]
    pub(crate) key: Option<SecretString>,
    /// How long connecting, and sending one batch, may take. Default: `egress.timeout`.
    pub(crate) timeout: Option<Period>,
    /// Facility of the messages, such as `audit`, `authpriv` or `local0`.
    #[schemars(extend("default" = "audit"))]
    pub(crate) facility: Option<String>,
    /// APP-NAME of the messages.
    #[schemars(extend("default" = "bartizan"))]
    pub(crate) app_name: Option<String>,
    /// Longest message, from 1KiB to 1MiB; a longer record is shortened, and says so.
    #[schemars(extend("default" = "8KiB"))]
    pub(crate) max_message: Option<Size>,
    /// Whether `@cee:` is put before the JSON, for receivers that expect it.
    #[schemars(extend("default" = false))]
    pub(crate) cee: Option<bool>,
}

impl<'de> Deserialize<'de> for Audit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NoneListOrMap;
        impl<'de> Visitor<'de> for NoneListOrMap {
            type Value = Audit;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`none`, a list of sinks such as `[stdout]`, or a map with `to`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Audit, E> {
                match text {
                    "none" => Ok(Audit::None),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Audit, A::Error> {
                Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(seq)).map(Audit::Sinks)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Audit, A::Error> {
                AuditMap::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Audit::Map)
            }
        }
        deserializer.deserialize_any(NoneListOrMap)
    }
}
