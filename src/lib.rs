//! Bartizan, a secure API access proxy: one binary in front of an API that lets a call through only when it is who it
//! says, may do what it asks, asks no more often than agreed, and sends what was agreed.
//!
//! # The parts
//! - [`cli`]: the commands. `daemon` composes a running process: compile, build, bind, serve; reload; drain.
//! - `policy`: from the text of a policy file to what is enforced: an immutable value, shared by pointer.
//! - `chain`: the four stages in their order, on one screen; `stages` holds the decisions themselves.
//! - `proxy`: carrying requests: workers, connections, framing, paths, headers, upstream pools.
//! - `rehearsal`: the way of a request without sockets, for `explain`, `test` and the benches.
//! - `audit`: the record of every request, and the writers that lose none of it.
//! - `admin`: the operators' listener.
//! - `state`: what outlives a reload. `secrets`: references in the policy → values.
//! - `exchange`, `refusal`, `telemetry`: the words that all others use.
//!
//! # The way of a request
//! 1. The acceptor hands a connection to the least busy worker: one thread, one single-threaded runtime.
//! 2. `proxy::handle` opens an exchange, takes the policy in force, and sets a witness to it.
//! 3. The path is normalised once, and the route is found.
//! 4. `chain::admit` asks the stages: auth → scope → rate limit → schema. It returns an `Admitted` or a `Refusal`.
//! 5. `proxy::forward` takes the `Admitted` by value, sends, and streams the answer back.
//! 6. When the witness is dropped, in whatever way the request ended, there is one record of it.
//!
//! # Invariants
//! - What did not pass the chain cannot be forwarded: `Caller` is made only in `stages::auth`, `Admitted` only in `chain`.
//! - The number of records equals the number of requests.
//! - Failing to decide is 503, never 401, and never lets a request through.
//! - What outside bytes say is never believed before it is checked, and they never panic us or grow memory without bound.
//! - A reload changes everything or nothing, and refills nobody's limits.
//! - A file imports only from lower layers (`main`, `cli` · `daemon` · `admin` · `proxy` · `chain` · `policy` · `stages` ·
//!   `state`, `audit`, `secrets` · words); a test holds us to it.

mod admin;
mod audit;
mod body;
mod chain;
pub mod cli;
mod daemon;
mod exchange;
mod policy;
mod proxy;
mod refusal;
#[doc(hidden)]
pub mod rehearsal;
mod secrets;
mod stages;
mod state;
mod telemetry;
