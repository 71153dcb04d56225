//! Bartizan, a secure API access proxy: one binary in front of an API. It lets a call through only when the caller is who it
//! claims to be, may do what it asks for, stays within its limits, and sends what the contract allows.
//!
//! # Parts
//! - [`cli`]: the commands. `daemon` is the composition root of a running process: compile, prepare, commit; reload; drain.
//! - `policy`: compiles a policy file into an immutable value: names and numbers, no state.
//! - `runtime`: what outlives policies. `InForce::attach` binds a policy to it.
//! - `chain`: the four stages in their order, on one screen. `stages` has the decisions.
//! - `proxy`: carries requests: listeners, workers, connections, HTTP/1 and HTTP/2, upstream pools.
//! - `rehearsal`: takes requests through the same code without sockets, for `bartizan explain`, `bartizan test`, the benches
//!   and the fuzz targets.
//! - `evidence`: what a change of the policy means, and what the record says of it: `bartizan diff`, `bartizan replay`.
//! - `audit`: writes the record of every request, and loses none.
//! - `token_service`: gives tokens to the clients of the policy's consumers (OAuth 2.0).
//! - `self_service`: what callers may see and do for themselves, and invitations.
//! - `admin`: the operators' listener.
//! - `state`: the ledger of limits, what nodes count together, and the registry. `secrets`: resolves references in the policy.
//!   `body`: streams bodies within limits. `traces`: spans of sampled requests.
//! - `exchange`, `refusal`, `telemetry`, `budget`: the facts of a request, the reasons to refuse one, the metrics, and how much
//!   work may take; every other part uses them. `grpc`: what gRPC says. `url`: URLs, understood whole or refused.
//!   `xsd`: XML Schema 1.0. `egress`: calls of the process itself. `otlp`: messages of OpenTelemetry. `error_text`: errors from below in words. `all_bytes`: checks of every byte.
//!   `html_text`: texts in HTML. `in_box`: large values, made where they stay. `open_file`: files, opened without a wait for the other end of a pipe.
//!
//! # How a request travels
//! 1. `proxy::downstream` accepts a connection and hands it to the least busy worker: one thread, one runtime.
//! 2. `proxy::request` opens an exchange, takes the policy in force, and sets a record guard.
//! 3. `proxy::request::path` normalises the path once, and `policy::router` finds the route.
//! 4. `chain::admit` runs the four stages: auth → scope → rate limit → schema. It returns an `Admitted` or a `Refusal`.
//! 5. `proxy::request::forward` takes the `Admitted` by value, sends the request, and streams the response back.
//! 6. When the record guard is dropped, however the request ended, one record is written.
//!
//! # Words
//! - **peer**: the TCP neighbour. **client**: the address behind trusted proxies.
//! - **consumer**: the holder of a credential. **user**: the person it acts for. **caller**: an authenticated consumer with its
//!   grants. **operator**: administers the proxy.
//! - **policy**: compiled and immutable. **in force**: the policy that new requests use. **runtime**: what outlives a policy.
//! - **plan**, **limit**, **quota**: how often a consumer may call.
//! - **registry**: keys, revocations, grants, suspensions. **store**: where the registry is kept.
//! - **record**: one audit line. **recorder**: makes records. **trail**: the open sinks. **sink**: where records go.
//! - **sealer**: gives lines their place in the hash chain. **spool**: keeps them on disk until every sink has them. **stream**: the
//!   chain of one run of a node. **checkpoint**: a line that signs those before it.
//!
//! # Invariants
//! - A request that did not pass the chain cannot be forwarded: only `stages::auth` makes a `Caller`, only `chain` an
//!   `Admitted`.
//! - Every request leaves exactly one record.
//! - A stage that cannot decide answers 503, never 401, and never lets a request through.
//! - External bytes are checked before they are used. They never cause a panic or unbounded memory: bodies that are held or
//!   decoded share one `budget`.
//! - A reload changes everything or nothing, and refills no limit.
//! - A file imports only from lower layers (`main`, `cli` · `daemon`, `evidence` · `admin`, `self_service`, `token_service`,
//!   `rehearsal`, `proxy` · `chain` · `runtime` ·
//!   `policy` · `stages` · `state`, `audit`, `traces`, `secrets`, `body` · `exchange`, `refusal`, `grpc`, `telemetry`, `budget`, `xsd`, `url`,
//!   `egress`, `otlp`, `error_text`, `all_bytes`, `html_text`, `in_box`, `open_file`); a test checks it.

mod admin;
mod all_bytes;
mod audit;
mod body;
mod budget;
mod chain;
pub mod cli;
mod daemon;
mod egress;
mod error_text;
mod evidence;
mod exchange;
mod grpc;
mod html_text;
mod in_box;
mod open_file;
mod otlp;
mod policy;
mod proxy;
mod refusal;
#[doc(hidden)]
pub mod rehearsal;
mod runtime;
mod secrets;
mod self_service;
mod stages;
mod state;
mod telemetry;
mod token_service;
mod traces;
mod url;
mod xsd;
