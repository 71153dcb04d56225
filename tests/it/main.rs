//! The integration tests: the real binary, on real sockets, between a client and an upstream that the tests control.
//!
//! One file a theme; `support` holds the world. A test reads as a story: what stands where, what is asked, what comes
//! back, and at the end (`proxy.done()`) that every request left one record.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that fails by panic is what is meant")]
#![allow(unreachable_pub, reason = "helpers are public to all themes, and to nobody else")]

mod support;

mod admin;
mod admin_socket;
mod admin_tls;
mod audit_settings;
mod auth;
mod certificates;
mod chain;
mod check;
mod clients;
mod commands;
mod concurrent;
mod configs;
mod contracts;
mod demo;
mod described;
mod documented;
mod documents;
mod dpop;
mod drain;
mod early_answers;
mod ecs;
mod egress;
mod elk;
mod exemptions;
mod expiry;
mod explain;
mod failover;
mod forged;
mod forms;
mod framing;
mod fuzz;
mod headers;
mod http1;
mod http2;
mod http2_frames;
mod init;
mod introspection;
mod issuers;
mod jwt_bcp;
mod layers;
mod limits;
mod log;
mod media_types;
mod memory;
mod monitoring;
mod names;
mod numbers;
mod oidc;
mod openapi;
mod operators;
mod output;
mod packaging;
mod policy_schema;
mod policy_tests;
mod proxy_headers;
mod quotas;
mod readers;
mod record;
mod redis_servers;
mod refused_credentials;
mod reload;
mod report;
mod routing;
mod schema;
mod schema_files;
mod shared_limits;
mod shared_store;
mod sinks;
mod small_print;
mod stalls;
mod state;
mod store_content;
mod store_trouble;
mod streaming;
mod suite;
mod tail;
mod templates;
mod threat_model;
mod timeouts;
mod tls;
mod tls_files;
mod traces;
mod upstream;
mod urls;
mod users;
mod walks;
mod words;
mod xml;
